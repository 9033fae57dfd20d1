"""What a model thinks aloud before it answers, told apart from the answer as the text grows.

Models that are trained so write `<think>`, thoughts, `</think>`, and then the answer (DeepSeek-R1, Qwen3); some
templates open the first tag themselves. Only what begins an answer is a thought: tags in the middle of one are text.

Rules:
    THINK-1 However an answer is cut into pieces, thoughts and answer join to the same two texts.
    THINK-2 Neither tags nor the white space around them belong to either; nothing else is left out.
    THINK-3 Thoughts that no tag ends are thoughts to the end: the answer is empty.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from appliance.serve.engine import Tokenizer
from appliance.serve.stopping import begins, overlap

FIELDS: Final = ("reasoning_content", "reasoning")
"""What engines call thoughts beside a text: llama.cpp's server, SGLang and ours, and vLLM."""
OPENING: Final = "<think>"
CLOSING: Final = "</think>"
TAGS: Final = (OPENING, CLOSING)
SWITCHES: Final = ("enable_thinking", "thinking")
"""Whether a model thinks, as families of templates call it: Qwen's and SmolLM's, DeepSeek's and Granite's."""


class Thought(str):
    """A piece of what was thought."""

    __slots__ = ()


def written(untrusted: Mapping[str, Any]) -> str | None:
    """Return all that a model wrote of a message or a delta, its thoughts first; None where it holds no text at all."""
    parts = [untrusted.get(name) for name in (*FIELDS, "content")]
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if texts else None


def are_text(tokenizer: Tokenizer) -> bool:
    """Tell whether a model's tags are text to it: of control tokens nothing is written, and no user's is one."""
    return all(tokenizer.tokenize(tag, special=True) == tokenizer.tokenize(tag, special=False) for tag in TAGS)


class ThoughtReader:
    """Tells thoughts from one answer.

    Args:
        is_open: Whether the prompt ends within a thought.
    """

    def __init__(self, *, is_open: bool) -> None:
        self._state: Literal["before", "thought", "after", "answer"] = "thought" if is_open else "before"
        self._held = ""
        self._has_thought = False

    def add(self, text: str) -> Iterator[Thought | str]:
        """Take more of the answer; yield what is certain."""
        self._held += text
        if self._state == "before":
            opened = begins(self._held, OPENING)
            if opened is None:
                return
            self._state = "thought" if opened else "answer"
            self._held = self._held.lstrip().removeprefix(OPENING) if opened else self._held
        if self._state == "thought":
            yield from self._thought()
        if self._state == "after":
            self._held = self._held.lstrip()
            self._state = "answer" if self._held else "after"
        if self._state == "answer" and self._held:
            held, self._held = self._held, ""
            yield held

    def end(self) -> Iterator[Thought | str]:
        """Yield what was held; nothing comes after this."""
        held, self._held = self._held, ""
        if self._state == "before" and held:
            yield held
        elif self._state == "thought" and held.rstrip():
            yield Thought(held.rstrip())

    def _thought(self) -> Iterator[Thought]:
        if not self._has_thought:
            self._held = self._held.lstrip()
        thought, closing, rest = self._held.partition(CLOSING)
        if closing:
            self._held, self._state, thought = rest, "after", thought.rstrip()
        else:
            # The end may be the beginning of the tag, or white space before it.
            certain = len(thought) - overlap(thought, CLOSING)
            certain = len(thought[:certain].rstrip())
            thought, self._held = thought[:certain], thought[certain:]
        if thought:
            self._has_thought = True
            yield Thought(thought)
