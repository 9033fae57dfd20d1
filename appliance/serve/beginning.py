"""What begins an answer and is none of the text that its caller gets: thoughts, and calls of functions.

Texts that end an answer are looked for in what the caller gets alone: a line break that a caller names ends no call in
the middle of it and no thought (docs/api.md).
"""

from typing import Literal

from appliance.serve import thoughts
from appliance.serve.engine import Apart
from appliance.serve.stopping import begins, overlap
from appliance.serve.tool_calls import OPENING, SPACE


class Beginning:
    """Tells it from the text of one answer as the answer grows.

    However an answer is cut into pieces, both parts join to the same texts, and these to the answer.

    Args:
        apart: What is no text.
    """

    def __init__(self, apart: Apart) -> None:
        self._calls = apart.calls
        self._held = ""
        self._state: Literal["before", "thought", "after", "open", "calls", "text"] = "text"
        if apart.thoughts:
            self._state = "thought" if apart.is_thinking else "before"
        elif apart.calls:
            self._state = "open"

    def split(self, piece: str) -> tuple[str, str]:
        """Take more of the answer; return what of it is no text, and then what is: as far as that is certain."""
        if self._state == "text":
            return "", piece
        if self._state == "calls":
            return piece, ""
        self._held += piece
        aside = self._thoughts() if self._state in {"before", "thought", "after"} else ""
        if self._state == "open" and (opened := begins(self._held, OPENING, space=SPACE)) is not None:
            self._state = "calls" if opened else "text"
        if self._state == "calls":
            return aside + self._taken(), ""
        return aside, self._taken() if self._state == "text" else ""

    def end(self) -> tuple[str, str]:
        """Return what was held, in the same order; nothing comes after this."""
        held = self._taken()
        return ("", held) if self._state in {"before", "open"} else (held, "")

    def _thoughts(self) -> str:
        if self._state == "before" and (opened := begins(self._held, thoughts.OPENING)) is not None:
            self._state = "thought" if opened else self._behind()
        aside = ""
        if self._state == "thought":
            thought, closing, rest = self._held.partition(thoughts.CLOSING)
            size = len(thought) - (0 if closing else overlap(thought, thoughts.CLOSING))
            aside, self._held = thought[:size] + closing, thought[size:] + rest
            self._state = "after" if closing else "thought"
        if self._state == "after":
            text = self._held.lstrip()
            size = len(self._held) - len(text)
            aside, self._held = aside + self._held[:size], text
            self._state = self._behind() if text else "after"
        return aside

    def _behind(self) -> Literal["open", "text"]:
        return "open" if self._calls else "text"

    def _taken(self) -> str:
        held, self._held = self._held, ""
        return held
