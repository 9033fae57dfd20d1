"""A step that nobody wants any more ends in the middle.

A large model on few cores takes seconds for one step. Whoever leaves is to be let go within one, so a step is ended
once all for whom it computes have left, and not begun where they left before. While one of them is left it goes on:
what it does for those who left beside is little (`curve.Plan.chunk`), and to begin it anew would let anybody hold up
others by coming and going (ADR 88).
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
        self._decoder = self._runs = decoder
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
        is_done = self.run(self._decoder, rows, step=step)
        if not is_done:
            self._undo(rows, step)
        return is_done

    def run(self, decoder: Decoder, rows: Sequence[Row], *, step: int) -> bool:
        """Run what a decoder does for those whose turn this step is; False where it did not come to its end.

        What it did then, if it began at all, is for the caller to take away.

        Raises:
            EngineProtocolError: The decoder failed.
        """
        with self._lock:
            # Whoever left since the scheduler looked found no step to end, and does not look again.
            if self._is_unwanted(step):
                return False
            self._runs, self._step = decoder, step
        try:
            return decoder.decode(rows)
        finally:
            with self._lock:
                self._step = 0
                if self._is_ended:
                    self._is_ended = False
                    decoder.go_on()

    def look(self) -> None:
        """End the step that goes on, if all for whom it computes have left; from any thread."""
        with self._lock:
            if not self._step or self._is_ended:
                return
            if self._is_unwanted(self._step):
                self._is_ended = True
                self._runs.halt()

    def _is_unwanted(self, step: int) -> bool:
        is_of_some = False
        for job in self._active:
            if job.turn == step:
                if not job.handle.is_cancelled:
                    return False
                is_of_some = True
        return is_of_some

    def _undo(self, rows: Sequence[Row], step: int) -> None:
        for job in self._active:
            if job.turn == step and job.sequence is not None:
                held = min(row.position for row in rows if row.sequence == job.sequence)
                job.held = held if self._decoder.cut(job.sequence, held) else 0
                job.ahead = 0
