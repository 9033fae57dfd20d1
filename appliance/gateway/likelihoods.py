"""How likely tokens were, as engines tell it in two shapes and callers read it in two.

Tokens are what the engine wrote: placeholders of identifiers are not restored in them, since a placeholder is cut into
several tokens. So they say nothing that the answer of this request does not say.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from appliance.errors import EngineProtocolError

_MAX_TOP: Final = 20
_MAX_TOKENS: Final = 65536
_MAX_CHARACTERS: Final = 1024
_LEAST: Final = -9999.0
"""What OpenAI's API says for a token that cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """One token: its text, the natural logarithm of its probability, its bytes where they are known, and others."""

    token: str
    logprob: float
    raw: tuple[int, ...] | None = None
    top: "tuple[Likelihood, ...]" = ()

    def to_json(self) -> dict[str, Any]:
        """Return OpenAI's object, without alternatives."""
        return {"token": self.token, "logprob": self.logprob, "bytes": None if self.raw is None else list(self.raw)}


def likelihoods_of(untrusted: object) -> tuple[Likelihood, ...]:
    """Read the `logprobs` of a choice, of either endpoint.

    Raises:
        EngineProtocolError: They have another shape.
    """
    if untrusted is None:
        return ()
    if not isinstance(untrusted, dict):
        raise _broken()
    content = untrusted.get("content")
    if content is None and "tokens" in untrusted:
        return _legacy(untrusted)
    if content is None:
        return ()
    if not isinstance(content, list) or len(content) > _MAX_TOKENS:
        raise _broken()
    return tuple(_one(one) for one in content)


def chat_logprobs(likelihoods: Sequence[Likelihood]) -> dict[str, Any]:
    """Return them as a chat's choice has them."""
    content = [{**one.to_json(), "top_logprobs": [other.to_json() for other in one.top]} for one in likelihoods]
    return {"content": content, "refusal": None}


def completion_logprobs(likelihoods: Sequence[Likelihood], *, offset: int) -> dict[str, Any]:
    """Return them as a completion's choice has them; `offset` is where the first token stands in the answer."""
    offsets = []
    for one in likelihoods:
        offsets.append(offset)
        offset += len(one.token)
    return {
        "tokens": [one.token for one in likelihoods],
        "token_logprobs": [one.logprob for one in likelihoods],
        "top_logprobs": [{other.token: other.logprob for other in one.top} for one in likelihoods],
        "text_offset": offsets,
    }


def _one(untrusted: object, *, has_top: bool = True) -> Likelihood:
    fields = untrusted if isinstance(untrusted, dict) else {}
    raw, top = fields.get("bytes"), fields.get("top_logprobs") or []
    if raw is not None and (
        not isinstance(raw, list) or len(raw) > _MAX_CHARACTERS or any(type(one) is not int for one in raw)
    ):
        raise _broken()
    if not isinstance(top, list) or len(top) > _MAX_TOP + 1:
        raise _broken()
    return Likelihood(
        token=_token(fields.get("token")),
        logprob=_logprob(fields.get("logprob")),
        raw=None if raw is None else tuple(raw),
        top=tuple(_one(one, has_top=False) for one in top) if has_top else (),
    )


def _legacy(fields: dict[str, Any]) -> tuple[Likelihood, ...]:
    tokens, logprobs = fields["tokens"], fields.get("token_logprobs")
    tops = fields.get("top_logprobs") or []
    if not isinstance(tokens, list) or not isinstance(logprobs, list) or not isinstance(tops, list):
        raise _broken()
    if len(tokens) != len(logprobs) or len(tokens) > _MAX_TOKENS or len(tops) not in {0, len(tokens)}:
        raise _broken()
    found = []
    for place, (token, logprob) in enumerate(zip(tokens, logprobs, strict=True)):
        top = tops[place] if tops else {}
        if top is None:
            top = {}
        if not isinstance(top, dict) or len(top) > _MAX_TOP + 1:
            raise _broken()
        others = tuple(Likelihood(token=_token(one), logprob=_logprob(value)) for one, value in top.items())
        found.append(Likelihood(token=_token(token), logprob=_logprob(logprob), top=others))
    return tuple(found)


def _token(untrusted: object) -> str:
    if not isinstance(untrusted, str) or len(untrusted) > _MAX_CHARACTERS:
        raise _broken()
    return untrusted


def _logprob(untrusted: object) -> float:
    if isinstance(untrusted, bool) or not isinstance(untrusted, int | float) or math.isnan(untrusted):
        raise _broken()
    return max(min(float(untrusted), 0.0), _LEAST)


def _broken() -> EngineProtocolError:
    return EngineProtocolError(
        what="an engine broke its contract", why="its logprobs have another shape", fix="use the release's own engine"
    )
