"""One-time codes by time (RFC 6238: SHA-1, 30 seconds, 6 digits), judged only while the clock is certain.

Promises: one step to either side is taken; who keeps the last step that counted refuses it and any before it, so that
no code counts twice; with a clock that is behind or jumped nothing is judged at all.
"""

import hmac
from datetime import datetime
from typing import Final

from appliance.config import Places
from appliance.timekeeping import record
from appliance.timekeeping.believed import require_certain
from media.clock import Clock

STEP_SECONDS: Final = 30
DIGITS: Final = 6
_WINDOW: Final = (0, -1, 1)


def code_at(secret: bytes, step: int, *, digits: int = DIGITS) -> str:
    """Return the code of one step (RFC 4226, section 5.3)."""
    mac = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    start = mac[-1] & 0x0F
    number = int.from_bytes(mac[start : start + 4], "big") & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


def step_of(moment: datetime) -> int:
    """Return the step that a time lies in."""
    return int(moment.timestamp()) // STEP_SECONDS


def step_now(places: Places, clock: Clock) -> int:
    """Return the step that codes are judged by.

    Where nobody ever watched the clock (a demo, a rehearsal) it is that of the machine's clock.

    Raises:
        ClockUncertainError: The clock cannot be believed now; a time that lags would let an old code count again.
    """
    if record.latest(places) is None:
        return step_of(clock.now())
    return step_of(require_certain(places, clock, what="a one-time code"))


def matching_step(secret: bytes, untrusted_code: str, here: int) -> int | None:
    """Return the step that a code is of, `here` or beside it; None where it is of none of them."""
    plain = "".join(untrusted_code.split()).encode()
    for step in (here + off for off in _WINDOW):
        if secret and hmac.compare_digest(code_at(secret, step).encode(), plain):
            return step
    return None
