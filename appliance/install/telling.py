"""Tells the job service how a job goes that a command carries out in a unit of its own.

Nobody has to be listening: a unit that root started by hand belongs to no job, and does its work all the same.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from appliance.config import Config
from appliance.install import jobrights
from appliance.install.jobclient import JobsClient
from appliance.install.joboutcome import Outcome
from media.errors import SealiftError

_PAUSE_SECONDS: Final = 0.5


class Teller:
    """Speaks through the door of the user that receives."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._last = 0.0

    def progress(self, step: str, done: int, total: int) -> None:
        """Tell how far a step is, twice a second at most."""
        now = time.monotonic()
        if now - self._last < _PAUSE_SECONDS and done < total:
            return
        self._last = now
        self._told(lambda jobs: jobs.tell_progress(step, done, total))

    def outcome(self, outcome: Outcome) -> None:
        """Tell how the job ended."""
        self._told(lambda jobs: jobs.tell_outcome(outcome))

    def _told(self, tell: Callable[[JobsClient], None]) -> None:
        with suppress(SealiftError):
            jobs = JobsClient.open(self._config, jobrights.RECEIVE)
            try:
                tell(jobs)
            finally:
                jobs.close()
