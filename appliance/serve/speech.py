"""One answer's text as it becomes final: whole characters, stop texts held back, and how likely its tokens were."""

import codecs
from collections import deque

from appliance.serve.beginning import Beginning
from appliance.serve.engine import Apart, Likelihood
from appliance.serve.stopping import StopBuffer


class Speech:
    """Turns tokens into text.

    Args:
        stop: Texts that end the answer and are not part of it.
        apart: What begins the answer and is not searched for them, since it is none of the text that its caller gets.
    """

    def __init__(self, stop: tuple[str, ...], apart: Apart | None = None) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_between = True
        """Whether no bytes of a character wait for the rest of it."""
        self._stops = StopBuffer(stop)
        self._beginning = Beginning(apart) if stop and apart is not None and (apart.thoughts or apart.calls) else None
        self._is_plain = self._beginning is None and not any(stop)
        """Whether all that is read is said at once."""
        self._read = 0
        self._said = 0
        self._held: deque[tuple[int, Likelihood]] = deque()

    def add(self, token: bytes, likelihood: Likelihood | None = None) -> tuple[str, bool]:
        """Take a token; return the text that is final now, and whether a stop text was met."""
        if likelihood is not None:
            self._held.append((self._read, likelihood))
        if self._is_between and token.isascii():  # nearly every token of most answers
            text = token.decode("ascii")
            if self._is_plain and likelihood is None:  # then nobody asks how far they are
                return text, False
        else:
            text = self._decoder.decode(token)
            self._is_between = not self._decoder.getstate()[0]
        self._read += len(text)
        aside = ""
        if self._beginning is not None:
            aside, text = self._beginning.split(text)
        said, stopped = self._stops.add(text)
        said = aside + said
        self._said += len(said)
        return said, stopped

    def end(self) -> tuple[str, bool]:
        """Return the rest of the text, and whether a stop text was in it after all."""
        aside, text = "", self._decoder.decode(b"", True)
        if self._beginning is not None:
            aside, text = self._beginning.split(text)
            more, rest = self._beginning.end()
            aside, text = aside + more, text + rest
        text, stopped = self._stops.add(text)
        said = aside + (text if stopped else text + self._stops.flush())
        self._said += len(said)
        return said, stopped

    def told(self, *, all_of_them: bool = False) -> tuple[Likelihood, ...]:
        """Return how likely those tokens were whose text has been said since the last time.

        Args:
            all_of_them: Also those that made no text, because the answer has ended without a stop text.
        """
        if not self._held:
            return ()
        found = []
        while self._held and (all_of_them or self._held[0][0] < self._said):
            found.append(self._held.popleft()[1])
        return tuple(found)
