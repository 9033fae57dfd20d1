"""A caller's end of a generation."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Final

from appliance.serve.engine import Piece

_LOOK_SECONDS: Final = 0.25


class Handle:
    """Gives the pieces of all answers of one generation as they come.

    Args:
        answers: How many answers there are.
        is_whole: Whether pieces are kept back until an answer ends. Every token that wakes a thread takes a core from
            those that decode, and the interpreter from the scheduler.
    """

    def __init__(self, answers: int = 1, *, is_whole: bool = False) -> None:
        self._pieces: queue.SimpleQueue[list[Piece | Exception]] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._answers = answers
        self._is_whole = is_whole
        self._kept: list[Piece | Exception] = []

    def cancel(self) -> None:
        """Ask the scheduler to stop within one step; safe at any time and more than once."""
        self._cancelled.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    def put(self, piece: Piece | Exception) -> None:
        """Deliver from the scheduler's thread."""
        self._kept.append(piece)
        if self._is_whole and isinstance(piece, Piece) and piece.finish_reason is None:
            return
        kept, self._kept = self._kept, []
        self._pieces.put(kept)

    def pieces(self, has_left: Callable[[], bool] = lambda: False) -> Iterator[Piece]:
        """Yield what is final until each answer had a piece with a finish reason; leaving the loop early cancels.

        Args:
            has_left: Asked between pieces, and while one does not come, whether the caller is gone; then it ends too.

        Raises:
            EngineProtocolError: The decoder failed.
        """
        left = self._answers
        try:
            while left:
                if has_left():
                    yield Piece(text="", completion_tokens=0, finish_reason="cancelled")
                    return
                try:
                    pieces = self._pieces.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    continue
                for piece in pieces:
                    if isinstance(piece, Exception):
                        raise piece
                    left -= piece.finish_reason is not None
                    yield piece
        finally:
            self.cancel()
