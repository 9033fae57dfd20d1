"""What an engine said, translated from untrusted JSON to the few things an answer is made of.

The gateway writes its own events and bodies from these, so that ids, names, order and shape are ours, whichever engine
answers. Fields that are not understood are dropped; a wrong shape is the engine's error.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from appliance.errors import EngineProtocolError
from appliance.gateway.formats import MAX_ANSWERS
from appliance.gateway.likelihoods import Likelihood, likelihoods_of
from appliance.serve.thoughts import FIELDS

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
}
GIVEN_UP: Final = frozenset({"abort", "error"})
"""Of vLLM, for an answer that it gave up: no end of an answer."""
_MAX_CALLS: Final = 128
MOST_TOKENS: Final = 2**31
"""No answer has more; a larger count is none. Beyond 2**53 no record could hold it, and the outcome would be lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A piece of an answer, with how likely its tokens were where that was asked for; `places` is where those begin."""

    text: str
    choice: int = 0
    likelihoods: tuple[Likelihood, ...] = ()
    places: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """A piece of what the model thought aloud before its answer."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPiece:
    """A piece of one tool call; id and name come with its first piece."""

    index: int
    id: str
    name: str
    arguments: str
    choice: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Why an answer ended."""

    reason: FinishReason
    choice: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How many tokens were read and written.

    Attributes:
        dropped_tokens: How many of the conversation's middle the model did not see.
        thought_tokens: How many of those that were written are thoughts.
    """

    prompt_tokens: int
    completion_tokens: int
    dropped_tokens: int = 0
    thought_tokens: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return OpenAI's object, and in it what was left out of the conversation, if anything was."""
        counts: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }
        if self.thought_tokens:
            counts["completion_tokens_details"] = {"reasoning_tokens": self.thought_tokens}
        return counts | ({"dropped_tokens": self.dropped_tokens} if self.dropped_tokens else {})


Said = Text | Thought | CallPiece
"""What an answer is made of, piece by piece."""
Part = Said | Finish | Usage


def parts_of(untrusted: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the parts of one event of a stream, or of a whole answer, of either endpoint.

    Raises:
        EngineProtocolError: The engine reports a failure, or the shape is wrong.
    """
    if untrusted.get("error"):
        raise broken("it reported a failure in the middle of an answer")
    choices = untrusted.get("choices", [])
    if not isinstance(choices, list):
        raise broken("choices is not a list")
    for choice in choices:
        index = choice.get("index", 0) if isinstance(choice, dict) else None
        if type(index) is not int or not 0 <= index < MAX_ANSWERS:
            raise broken("there are more answers than anyone asks for")
        yield from _choice(choice, index)
    if untrusted.get("usage") is not None:
        yield _usage(untrusted["usage"])


def _choice(choice: Mapping[str, Any], index: int) -> Iterator[Part]:
    said = choice.get("delta", choice.get("message"))
    if said is None:
        text = choice.get("text")
    elif isinstance(said, dict):
        text = said.get("content")
        yield from _thoughts(said, index)
        yield from _calls(said.get("tool_calls"), index)
    else:
        raise broken("a message is not an object")
    if text is not None and not isinstance(text, str):
        raise broken("content is not a text")
    likelihoods = likelihoods_of(choice.get("logprobs"))
    if text or likelihoods:
        yield Text(text=text or "", choice=index, likelihoods=likelihoods)
    reason = choice.get("finish_reason")
    if reason is not None:
        if not isinstance(reason, str):
            raise broken("finish_reason is not a text")
        if reason in GIVEN_UP:
            raise broken("it gave an answer up")
        if reason:
            yield Finish(reason=_REASONS.get(reason, "stop"), choice=index)


def _thoughts(untrusted: Mapping[str, Any], choice: int) -> Iterator[Thought]:
    for name in FIELDS:
        text = untrusted.get(name)
        if isinstance(text, str) and text:  # others have objects of theirs there, which are no answer's part
            yield Thought(text=text, choice=choice)
            return


def _calls(untrusted: object, choice: int) -> Iterator[CallPiece]:
    if untrusted is None:
        return
    if not isinstance(untrusted, list):
        raise broken("tool_calls is not a list")
    for place, call in enumerate(untrusted):
        function = call.get("function") if isinstance(call, dict) else None
        index = call.get("index", place) if isinstance(call, dict) else place
        if not isinstance(function, dict) or type(index) is not int or not 0 <= index < _MAX_CALLS:
            raise broken("a tool call is not one")
        texts = [call.get("id") or "", function.get("name") or "", function.get("arguments") or ""]
        if not all(isinstance(text, str) for text in texts):
            raise broken("a tool call holds what is not text")
        call_id, name, arguments = texts
        yield CallPiece(index=index, id=call_id, name=name, arguments=arguments, choice=choice)


def _usage(untrusted: object) -> Usage:
    counts = untrusted if isinstance(untrusted, dict) else {}
    prompt, completion = counts.get("prompt_tokens", -1), counts.get("completion_tokens", 0)
    dropped = counts.get("dropped_tokens", 0)
    details = counts.get("completion_tokens_details")
    thought = details.get("reasoning_tokens") or 0 if isinstance(details, dict) else 0
    if any(type(count) is not int or not 0 <= count <= MOST_TOKENS for count in (prompt, completion, dropped, thought)):
        raise broken("usage does not count")
    return Usage(
        prompt_tokens=int(prompt),
        completion_tokens=int(completion),
        dropped_tokens=int(dropped),
        thought_tokens=min(int(thought), int(completion)),  # of some engines counted apart, so a token more or less
    )


def broken(why: str) -> EngineProtocolError:
    """Return the error for an engine that says what no engine of ours says."""
    return EngineProtocolError(what="an engine broke its contract", why=why, fix="use the release's own engine")
