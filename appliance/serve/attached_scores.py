"""Two ways in which a server that takes texts tells how likely one is: it says the prompt again, or what it read.

Both tell of every token of a prompt, so one question is enough; OPENAI-1 needs one for each token.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from appliance.serve import attached_words as words
from appliance.serve.attached_tokens import LocalTokens
from appliance.serve.attached_words import Part
from appliance.serve.events import broken

ECHO: Final[Mapping[str, Any]] = {"echo": True, "logprobs": 1}
"""What OpenAI's older form asks for a prompt's likelihoods with."""
GENERATE: Final = "/generate"
"""TGI's own route, read in its published sources (3.3)."""


def reading(text: str) -> dict[str, Any]:
    """Return what TGI is asked, at `GENERATE`, for each token of a text with its likelihood."""
    wanted = {"max_new_tokens": 1, "do_sample": False, "details": True, "decoder_input_details": True}
    return {"inputs": text, "parameters": wanted}


def of_echo(
    untrusted: Mapping[str, Any],
    part: Part,
    continuation: Sequence[int],
    *,
    prompt_tokens: int,
    put: int,
    tokens: LocalTokens,
    name: str,
) -> float:
    """Return how likely what a prompt ends with was (nats), from an answer that begins with the prompt.

    Args:
        untrusted: The answer to `ECHO`.
        part: What was read of it.
        continuation: The prompt's last tokens.
        prompt_tokens: How many tokens the prompt has.
        put: How many of them the peer puts there by itself; it may leave these out of what it tells.
        tokens: The version's vocabulary.
        name: The peer's, for errors.

    Raises:
        EngineProtocolError: It does not say, or says it of other tokens.
    """
    count = words.require_counted(part, prompt=prompt_tokens, most=1, name=name)
    choices = untrusted.get("choices")
    if not isinstance(choices, list) or len(choices) != 1:
        raise _untold(name)
    said = choices[0].get("logprobs")
    texts, likely = (said.get(key) if isinstance(said, dict) else None for key in ("tokens", "token_logprobs"))
    if not isinstance(texts, list) or not isinstance(likely, list) or len(texts) != len(likely):
        raise _untold(name)
    end = len(texts) - count
    if end not in {prompt_tokens, prompt_tokens - put}:
        raise _untold(name)
    start = end - len(continuation)
    for token, text in zip(continuation, texts[start:end], strict=True):
        known = tokens.text_of(token)
        if known is not None and (not isinstance(text, str) or text.strip() != known.strip()):
            raise _untold(name)
    return math.fsum(words.logprob_of(one, name) for one in likely[start:end])


def of_reading(untrusted: Mapping[str, Any], whole: Sequence[int], *, prompt_tokens: int, name: str) -> float:
    """Return how likely what follows the first `prompt_tokens` of `whole` was (nats), from TGI's answer to `reading`.

    Raises:
        EngineProtocolError: It does not say, or read other tokens.
    """
    details = untrusted.get("details")
    read = details.get("prefill") if isinstance(details, dict) else None
    if not isinstance(read, list) or not all(isinstance(one, dict) for one in read):
        raise _untold(name)
    if [one.get("id") for one in read] != list(whole):
        raise _untold(name)
    return math.fsum(words.logprob_of(one.get("logprob"), name) for one in read[prompt_tokens:])


def _untold(name: str) -> Exception:
    return broken(name, "it does not say how likely each token of a prompt was")
