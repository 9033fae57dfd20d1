"""What an attached engine is asked, and what of its answers is believed: OpenAI's completions, by tokens.

The prompt goes out as the numbers of its tokens, made from the promoted template, so no template of the peer's own is
ever run and a user's text never becomes a control token. Every value that changes an answer is said, so that no default
of the peer's decides. What it is asked for one caller it may not use for another: it keeps no prompt.

Rules:
    WORDS-1 An answer counts as made only with exactly one reason and with counts that agree with what was asked.
    WORDS-2 It says how likely a token is before any bias, temperature or limit; `forced` is refused otherwise.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from appliance.serve.engine import LLAMA_SEEDS, FinishReason, Generation, Likelihood
from appliance.serve.events import broken

COMPLETIONS: Final = "/v1/completions"
TOKENIZE: Final = "/tokenize"
PROPERTIES: Final = "/props"
MOST_TOKENS: Final = 2**31
"""Of any vocabulary: numbers of tokens are 32-bit integers with a sign."""
_BIAS: Final = 100
_LAST_TOKENS: Final = 64
_MOST_TEXT: Final = 1 << 20
_MOST_TOP: Final = 20
_MOST_PIECE_BYTES: Final = 4096
_ROUNDED: Final = 1e-3
"""How far above 0 the logarithm of a share may come out where shares are 32-bit floats."""
LikelihoodsOf = Callable[[object, int, str], tuple[Likelihood, ...]]
"""Reads what a choice says of likelihoods: that, how many were asked for, and the peer's name for errors."""
_REASONS: Final[Mapping[str, FinishReason]] = {"stop": "stop", "length": "length"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one event says: text, how likely its tokens were, why the answer ended, and what was counted."""

    text: str = ""
    likelihoods: tuple[Likelihood, ...] = ()
    reason: FinishReason | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def question(generation: Generation, *, index: int, model: str) -> dict[str, Any]:
    """Return what llama.cpp's server is asked for one of a generation's answers; see `asked_of_all`."""
    sampling = generation.sampling
    body = asked_of_all(generation, index=index, model=model, seeds=LLAMA_SEEDS) | {
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "repeat_penalty": sampling.repeat_penalty,
        "repeat_last_n": _LAST_TOKENS,
        "cache_prompt": False,
    }
    if sampling.grammar:
        body["json_schema"] = json.loads(sampling.grammar)
    if generation.top_logprobs is not None:
        body["logprobs"] = max(1, generation.top_logprobs)  # for none it would say nothing of the token itself
    return body


def asked_of_all(generation: Generation, *, index: int, model: str, seeds: int) -> dict[str, Any]:
    """Return what a peer of any dialect is asked in the same words for one of a generation's answers.

    Args:
        generation: What is wanted.
        index: Which of its answers: each has the seed of the one before plus one.
        model: The name that the peer has for it.
        seeds: How many seeds the peer knows.
    """
    sampling = generation.sampling
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(generation.tokens),
        "max_tokens": generation.max_tokens,
        "temperature": sampling.temperature,
        "min_p": sampling.min_p,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "seed": (sampling.seed + index) % seeds,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if generation.stop:
        body["stop"] = list(generation.stop)
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias}
    return body


def forced(prompt: Sequence[int], token: int, *, model: str) -> dict[str, Any]:
    """Return the question how likely `token` is after a prompt: it is made the only choice, and what it was is told."""
    return {
        "model": model,
        "prompt": list(prompt),
        "max_tokens": 1,
        "temperature": 0,
        "seed": 0,
        "logprobs": 1,
        "logit_bias": {str(token): _BIAS},
        "cache_prompt": True,
    }


def forced_likelihood(untrusted: Mapping[str, Any], token: int, *, name: str) -> float:
    """Return how likely the token was that a peer was forced to say.

    Raises:
        EngineProtocolError: It said another, or does not say how likely it was.
    """
    choice = _choice(untrusted, name)
    told = _list(_mapping(choice.get("logprobs")).get("content"))
    entry = _mapping(told[0]) if len(told) == 1 else {}
    if entry.get("id", token) != token:
        raise broken(name, "it did not say the token that it was made to say")
    return _likelihood(entry, 0, name).logprob


def tokens_of(untrusted: Mapping[str, Any], *, most: int, name: str) -> list[int]:
    """Return the numbers of tokens that a peer made of a text.

    Raises:
        EngineProtocolError: They are none, or more than the text has bytes.
    """
    found = untrusted.get("tokens")
    if not isinstance(found, list) or len(found) > most:
        raise broken(name, "it made no tokens of a text, or too many")
    if not all(type(one) is int and 0 <= one < MOST_TOKENS for one in found):
        raise broken(name, "a token is no number")
    return found


def part_of(
    untrusted: Mapping[str, Any], *, top: int | None, name: str, likelihoods_of: LikelihoodsOf | None = None
) -> Part:
    """Return what an event says.

    Args:
        untrusted: The event.
        top: How many likelihoods were asked for; None for none.
        name: The peer's, for errors.
        likelihoods_of: Reads a choice's likelihoods; without it they are in the form of chats.

    Raises:
        EngineProtocolError: It reports a failure, or breaks OpenAI's form.
    """
    if untrusted.get("error") is not None:
        raise broken(name, "it failed in the middle of an answer")
    usage = untrusted.get("usage")
    prompt, completion = (None, None) if usage is None else _counts(usage, name)
    if untrusted.get("choices") == []:
        return Part(prompt_tokens=prompt, completion_tokens=completion)
    choice = _choice(untrusted, name)
    text, ended = choice.get("text"), choice.get("finish_reason")
    if not isinstance(text, str) or len(text) > _MOST_TEXT:
        raise broken(name, "an answer holds no text, or too much of it at once")
    if ended is not None and (not isinstance(ended, str) or ended not in _REASONS):
        raise broken(name, "an answer ended for a reason that nobody knows")
    return Part(
        text=text,
        likelihoods=() if top is None else (likelihoods_of or likelihoods)(choice.get("logprobs"), top, name),
        reason=None if ended is None else _REASONS[ended],
        prompt_tokens=prompt,
        completion_tokens=completion,
    )


def _choice(untrusted: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    choices = _list(untrusted.get("choices"))
    if len(choices) != 1 or not isinstance(choices[0], dict) or choices[0].get("index", 0) != 0:
        raise broken(name, "an answer has not exactly one choice")
    return choices[0]


def _counts(untrusted: object, name: str) -> tuple[int, int]:
    fields = _mapping(untrusted)
    found = [fields.get("prompt_tokens"), fields.get("completion_tokens")]
    if not all(type(one) is int and 0 <= one < 2**31 for one in found):
        raise broken(name, "its counts are no numbers")
    return int(found[0] or 0), int(found[1] or 0)


def likelihoods(untrusted: object, top: int, name: str) -> tuple[Likelihood, ...]:
    """Return what a choice says of its tokens in the form of chats; nothing where it says nothing.

    Raises:
        EngineProtocolError: It breaks that form.
    """
    if untrusted is None:
        return ()
    told = _list(_mapping(untrusted).get("content"))
    return tuple(_likelihood(one, top, name) for one in told)


def _likelihood(untrusted: object, top: int, name: str) -> Likelihood:
    fields = _mapping(untrusted)
    others = _list(fields.get("top_logprobs"))[: min(top, _MOST_TOP)]
    pairs = tuple((_piece(_mapping(one), name), _logprob(_mapping(one), name)) for one in others)
    return Likelihood(token=_piece(fields, name), logprob=_logprob(fields, name), top=pairs)


def _piece(fields: Mapping[str, Any], name: str) -> bytes:
    raw, text = fields.get("bytes"), fields.get("token")
    if isinstance(raw, list) and len(raw) <= _MOST_PIECE_BYTES and all(type(one) is int for one in raw):
        try:
            return bytes(raw)
        except ValueError as error:
            raise broken(name, "a token is no bytes") from error
    return piece_of(text, name)


def piece_of(untrusted: object, name: str) -> bytes:
    """Return the text of a token that a peer names.

    Raises:
        EngineProtocolError: It is none.
    """
    if not isinstance(untrusted, str) or len(untrusted) > _MOST_PIECE_BYTES:
        raise broken(name, "a token is no text")
    return untrusted.encode(errors="replace")


def _logprob(fields: Mapping[str, Any], name: str) -> float:
    return logprob_of(fields.get("logprob"), name)


def logprob_of(value: object, name: str) -> float:
    """Return the logarithm of a share.

    Raises:
        EngineProtocolError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise broken(name, "how likely a token was is no number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found) or found > _ROUNDED:
        raise broken(name, "how likely a token was is no logarithm of a share")
    return min(found, 0.0)


def _mapping(untrusted: object) -> Mapping[str, Any]:
    return untrusted if isinstance(untrusted, dict) else {}


def _list(untrusted: object) -> list[Any]:
    return untrusted if isinstance(untrusted, list) else []


def require_counted(part: Part, *, prompt: int, most: int, name: str) -> int:
    """Return how many tokens an answer has.

    Raises:
        EngineProtocolError: It was not counted, or the counts do not agree with what was asked.
    """
    if part.completion_tokens is None:
        raise broken(name, "an answer was not counted")
    if part.prompt_tokens != prompt:
        raise broken(name, "it read another number of tokens than it was given")
    if part.completion_tokens > most:
        raise broken(name, "it wrote more tokens than it was asked for")
    return part.completion_tokens
