"""A caller's end of a generation."""

import queue
from collections.abc import Callable, Iterator
from typing import Final

from appliance.serve.engine import Piece

_LOOK_SECONDS: Final = 0.25


class Handle:
    """Gives the pieces of all answers of one generation as they come.

    Args:
        answers: How many answers there are.
        on_cancel: Called once whoever waits has left, on any thread.
    """

    def __init__(self, answers: int = 1, *, on_cancel: Callable[[], None] = lambda: None) -> None:
        self._pieces: queue.SimpleQueue[Piece | Exception] = queue.SimpleQueue()
        self._answers = answers
        self._on_cancel = on_cancel
        self.is_cancelled = False
        """Whether `cancel` was called; asked of every answer in every step."""

    def cancel(self) -> None:
        """Ask the scheduler to stop within one step, or in the middle of one for nobody else; safe more than once."""
        if not self.is_cancelled:
            self.is_cancelled = True
            self._on_cancel()

    def put(self, piece: Piece | Exception) -> None:
        """Deliver from the scheduler's thread."""
        self._pieces.put(piece)

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
                    piece = self._pieces.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    continue
                if isinstance(piece, Exception):
                    raise piece
                left -= piece.finish_reason is not None
                yield piece
        finally:
            self.cancel()
