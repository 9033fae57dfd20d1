"""How likely tokens were, as engines tell it in two shapes and callers read it in two.

Tokens are what the engine wrote: placeholders of identifiers are not restored in them, since a placeholder is cut into
several tokens. So they say nothing that the answer of this request does not say.
"""

import codecs
import math
from collections.abc import Iterable, Sequence
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


class Places:
    """Tells before which character of their text tokens begin, as they come.

    A character may be cut into several tokens: all of them begin where it does.
    """

    def __init__(self) -> None:
        self._reader = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._characters = 0

    def of(self, likelihoods: Iterable[Likelihood]) -> tuple[int, ...]:
        """Return the places of further tokens."""
        found = []
        for one in likelihoods:
            found.append(self._characters)
            raw = one.token.encode(errors="replace") if one.raw is None else bytes(one.raw)
            self._characters += len(self._reader.decode(raw))
        return tuple(found)


def completion_logprobs(likelihoods: Sequence[Likelihood], places: Sequence[int]) -> dict[str, Any]:
    """Return them as a completion's choice has them; `places` are those of `Places`.

    The drawn token is always among its alternatives, so there may be one more than was asked for, as OpenAI's are.
    """
    return {
        "tokens": [one.token for one in likelihoods],
        "token_logprobs": [one.logprob for one in likelihoods],
        "top_logprobs": [{other.token: other.logprob for other in (*one.top, one)} for one in likelihoods],
        "text_offset": list(places),
    }


def _one(untrusted: object, *, has_top: bool = True) -> Likelihood:
    fields = untrusted if isinstance(untrusted, dict) else {}
    top = fields.get("top_logprobs") or []
    if not isinstance(top, list) or len(top) > _MAX_TOP + 1:
        raise _broken()
    return Likelihood(
        token=_token(fields.get("token")),
        logprob=_logprob(fields.get("logprob")),
        raw=_raw(fields.get("bytes")),
        top=tuple(_one(one, has_top=False) for one in top) if has_top else (),
    )


def _legacy(fields: dict[str, Any]) -> tuple[Likelihood, ...]:
    tokens, logprobs = fields["tokens"], fields.get("token_logprobs")
    tops, raws = fields.get("top_logprobs") or [], fields.get("bytes") or []
    if not isinstance(tokens, list) or not isinstance(logprobs, list):
        raise _broken()
    if not isinstance(tops, list) or not isinstance(raws, list) or not {len(tops), len(raws)} <= {0, len(tokens)}:
        raise _broken()
    if len(tokens) != len(logprobs) or len(tokens) > _MAX_TOKENS:
        raise _broken()
    found = []
    for place, (token, logprob) in enumerate(zip(tokens, logprobs, strict=True)):
        top = tops[place] if tops else {}
        if top is None:
            top = {}
        if not isinstance(top, dict) or len(top) > _MAX_TOP + 1:
            raise _broken()
        others = tuple(Likelihood(token=_token(one), logprob=_logprob(value)) for one, value in top.items())
        raw = _raw(raws[place]) if raws else None
        found.append(Likelihood(token=_token(token), logprob=_logprob(logprob), raw=raw, top=others))
    return tuple(found)


def _raw(untrusted: object) -> tuple[int, ...] | None:
    if untrusted is None:
        return None
    if not isinstance(untrusted, list) or len(untrusted) > _MAX_CHARACTERS:
        raise _broken()
    if any(type(one) is not int or not 0 <= one <= 255 for one in untrusted):
        raise _broken()
    return tuple(untrusted)


def _token(untrusted: object) -> str:
    if not isinstance(untrusted, str) or len(untrusted) > _MAX_CHARACTERS:
        raise _broken()
    return untrusted


def _logprob(untrusted: object) -> float:
    if isinstance(untrusted, bool) or not isinstance(untrusted, int | float):
        raise _broken()
    if isinstance(untrusted, float) and math.isnan(untrusted):
        raise _broken()
    return float(max(min(untrusted, 0.0), _LEAST))  # in this order: an integer may be larger than any float


def _broken() -> EngineProtocolError:
    return EngineProtocolError(
        what="an engine broke its contract", why="its logprobs have another shape", fix="use the release's own engine"
    )
