"""The gateway's log: one JSON object a line on stderr, from a closed list of events. For operators; never content.

Values are numbers, our own words and keyed hashes. An exception is logged by its type and the place it came from,
without its text, which may quote what it failed on.
"""

import json
import logging
import sys
import traceback
from enum import StrEnum
from typing import Any, Final

from media.clock import Clock, to_text

_NAME: Final = "sealift.gateway"
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False)


class Event(StrEnum):
    """What may be logged."""

    REQUEST = "llm_request"
    REFUSED = "request_refused"
    UNRECORDED = "refusal_not_recorded"
    LOST_OUTCOME = "outcome_not_recorded"
    LOST_COUNT = "lost_count"
    FAULT = "fault"
    STARTED = "started"
    METRICS_UNAVAILABLE = "metrics_unavailable"


class Log:
    """Writes events.

    Args:
        clock: For the time in each line.
        logger: Where lines go; the gateway's own logger when absent.
    """

    def __init__(self, clock: Clock, logger: logging.Logger | None = None) -> None:
        self._clock = clock
        self._logger = logger or logging.getLogger(_NAME)

    def note(self, event: Event, **fields: Any) -> None:
        """Log what is usual."""
        self._write(logging.INFO, event, fields)

    def alert(self, event: Event, **fields: Any) -> None:
        """Log what an operator should look at."""
        self._write(logging.ERROR, event, fields)

    def fault(self, error: BaseException, **fields: Any) -> None:
        """Log an error that nobody expected: its type and where it came up."""
        frames = traceback.extract_tb(error.__traceback__)
        at = f"{frames[-1].name}:{frames[-1].lineno}" if frames else ""
        self._write(logging.ERROR, Event.FAULT, {"error": type(error).__name__, "at": at, **fields})

    def _write(self, level: int, event: Event, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            line = {"timestamp": to_text(self._clock.now()), "event": event.value, **fields}
            # Made here: the logger would look through the stack for who calls it, which nobody prints.
            self._logger.handle(logging.LogRecord(self._logger.name, level, "", 0, _ENCODER.encode(line), None, None))


def to_stderr() -> None:
    """Send the gateway's log to stderr, which the journal reads."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger(_NAME)
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
