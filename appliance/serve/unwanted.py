"""A step that nobody wants any more ends in the middle.

A large model on few cores takes seconds for one step. Whoever leaves is to be let go within one, so a step is ended
once all for whom it computes have left. While one of them is left it goes on: what it does for those who left beside
is little (`curve.Plan.chunk`), and to begin it anew would let anybody hold up others by coming and going (ADR 88).
"""

import threading
from collections.abc import Sequence

from appliance.serve.engine import Decoder, Row
from appliance.serve.jobs import Job


class UnwantedSteps:
    """Runs a decoder's steps, and ends those that nobody wants.

    Args:
        decoder: What decodes.
        active: The answers that are being made; changed between steps alone.
    """

    def __init__(self, decoder: Decoder, active: Sequence[Job]) -> None:
        self._decoder = decoder
        self._active = active
        self._step = 0
        self._is_ended = False
        # Python may end somebody else's iterator of pieces, which looks as well, wherever it finds time to: also here.
        self._lock = threading.RLock()

    def decode(self, rows: Sequence[Row], *, step: int) -> bool:
        """Run one step, whose answers have it as their turn; False where it was ended, and they hold nothing of it.

        Raises:
            EngineProtocolError: The decoder failed.
        """
        with self._lock:
            self._step = step
        try:
            is_done = self._decoder.decode(rows)
        finally:
            with self._lock:
                self._step = 0
                if self._is_ended:
                    self._is_ended = False
                    self._decoder.go_on()
        if not is_done:
            self._undo(rows, step)
        return is_done

    def look(self) -> None:
        """End the step that goes on, if all for whom it computes have left; from any thread."""
        with self._lock:
            if not self._step or self._is_ended:
                return
            if all(job.handle.is_cancelled for job in self._active if job.turn == self._step):
                self._is_ended = True
                self._decoder.halt()

    def _undo(self, rows: Sequence[Row], step: int) -> None:
        for job in self._active:
            if job.turn == step and job.sequence is not None:
                held = min(row.position for row in rows if row.sequence == job.sequence)
                job.held = held if self._decoder.cut(job.sequence, held) else 0
                job.ahead = 0
