"""What callers are told while production rests in a maintenance window: that it does, and when to ask again."""

import threading
from typing import Final

from appliance.audit.facts import Ledger
from appliance.gateway.problems import Problem
from appliance.registry import windows
from appliance.registry.windows import Window
from appliance.stages import Stage
from media.clock import Clock
from media.errors import SealiftError

_UNREACHED: Final = "engine_unavailable"
_KEPT_SECONDS: Final = 2.0
_LEAST_SECONDS, _MOST_SECONDS = 5.0, 30.0


class Resting:
    """Looks for an open window only where an engine did not answer, and every other second at most.

    A window rests one line: that another line's engine did not answer is no part of it.

    Args:
        ledger: Where windows are recorded.
        clock: Says how long a window still lasts.
        stage: Of this gateway; only production rests.
        node: The node of several that it is of; a window of another one rests nothing here.
    """

    def __init__(self, ledger: Ledger, clock: Clock, stage: Stage = Stage.PRODUCTION, *, node: str = "") -> None:
        self._ledger = ledger
        self._clock = clock
        self._stage = stage
        self._node = node
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._window: Window | None = None

    def explained(self, problem: Problem) -> Problem:
        """Return the same problem; while production rests, one that says so in the place of an engine that is away."""
        if problem.code != _UNREACHED or self._stage is not Stage.PRODUCTION:
            return problem
        window = self._look()
        if window is None or window.line != problem.line:
            return problem
        left = window.seconds_left(self._clock.now())
        said = Problem(
            503,
            "maintenance_window",
            f"Production rests in a maintenance window, until {window.until} at the latest; ask again.",
            retry_after_seconds=min(max(left, _LEAST_SECONDS), _MOST_SECONDS),
        )
        said.recorded, said.arm, said.assigned = problem.recorded, problem.arm, problem.assigned
        said.line = problem.line
        said.model_digest = problem.model_digest
        said.headers.update(problem.headers)
        return said

    def line(self) -> int | None:
        """Return the number of the line that rests now; None where none does, or it cannot be told."""
        window = self._look() if self._stage is Stage.PRODUCTION else None
        return None if window is None else window.line

    def _look(self) -> Window | None:
        with self._lock:
            now = self._clock.monotonic()
            if now - self._looked_at >= _KEPT_SECONDS:
                try:
                    self._window = windows.opened(self._ledger, node=self._node)
                except (SealiftError, KeyError, ValueError):  # then it is told as it was
                    self._window = None
                self._looked_at = self._clock.monotonic()  # a silent ledger is asked by none of those who wait
            return self._window
