"""What else the decoder's thread does for others, beside answers: scores, work of other contexts, a sign of life."""

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from appliance.errors import EngineProtocolError
from appliance.serve.engine import Decoder

_LOOK_SECONDS: Final = 0.25
_T = TypeVar("_T")


@dataclass(slots=True)
class Scoring:
    """A prompt and what may come after it."""

    prompt: Sequence[int]
    continuations: Sequence[Sequence[int]]
    answer: queue.SimpleQueue[list[float] | Exception] = field(default_factory=queue.SimpleQueue)

    def run(self, decoder: Decoder) -> None:
        """Score, and tell whoever waits."""
        try:
            self.answer.put([decoder.score(self.prompt, one) for one in self.continuations])
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            self.answer.put(failure(error))


@dataclass(slots=True)
class Work(Generic[_T]):
    """Work of another context on the same cores: two of them at once would stall each other's threads."""

    work: Callable[[], _T]
    answer: "queue.SimpleQueue[_T | EngineProtocolError]" = field(default_factory=queue.SimpleQueue)

    def run(self) -> None:
        """Do it, and tell whoever waits."""
        try:
            self.answer.put(self.work())
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            self.answer.put(failure(error))

    def refuse(self) -> None:
        """Tell whoever waits that it will not be done."""
        self.answer.put(EngineProtocolError(what="the engine has stopped", why="", fix="ask again"))

    def outcome(self, require_alive: Callable[[], None]) -> _T:
        """Wait for what the work returns.

        Args:
            require_alive: Asked now and then; raises where nobody is left to do it.

        Raises:
            EngineProtocolError: It failed, or was refused.
        """
        while True:
            try:
                found = self.answer.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                require_alive()
                continue
            if isinstance(found, EngineProtocolError):
                raise found
            return found


@dataclass(slots=True)
class Question:
    """Whether the thread comes round at all."""

    came_round: threading.Event = field(default_factory=threading.Event)


def failure(error: Exception) -> EngineProtocolError:
    """Return the error as callers see it; of a fault of ours only its type, because its text may hold content."""
    if isinstance(error, EngineProtocolError):
        return error
    return EngineProtocolError(
        what="the engine failed", why=f"a fault of ours ({type(error).__name__})", fix="see the journal of the engine"
    )
