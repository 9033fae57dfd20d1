"""One-time codes by time (RFC 6238: SHA-1, 30 seconds, 6 digits), judged only while the clock is certain.

Promises: one step to either side is taken; a step that was used, and any before it, is refused, so that no code counts
twice; with a clock that is behind or jumped nothing is judged at all.
"""

import hmac
from datetime import datetime
from hashlib import sha1
from typing import Final

from appliance.config import Places
from appliance.errors import ApprovalRefusedError
from appliance.timekeeping.believed import require_certain
from media.clock import Clock

STEP_SECONDS: Final = 30
DIGITS: Final = 6
_WINDOW: Final = 1
_LEAST_SECRET_BYTES: Final = 16  # RFC 4226, section 4, R6


def code_at(secret: bytes, step: int, *, digits: int = DIGITS) -> str:
    """Return the code of one step (RFC 4226, section 5.3)."""
    mac = hmac.new(secret, step.to_bytes(8, "big"), sha1).digest()
    start = mac[-1] & 0x0F
    number = int.from_bytes(mac[start : start + 4], "big") & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


def step_of(moment: datetime) -> int:
    """Return the step that a time lies in."""
    return int(moment.timestamp()) // STEP_SECONDS


def require_code(places: Places, secret: bytes, untrusted_code: str, *, last_step: int, clock: Clock) -> int:
    """Return the step of a code that counts; the caller keeps it and passes it as `last_step` from then on.

    Raises:
        ClockUncertainError: The clock cannot be believed now.
        ApprovalRefusedError: The code is wrong, was used, or the secret is too short.
    """
    here = step_of(require_certain(places, clock, what="a one-time code"))
    if len(secret) < _LEAST_SECRET_BYTES:
        raise _refused("its secret is too short")
    for step in range(here - _WINDOW, here + _WINDOW + 1):
        if hmac.compare_digest(code_at(secret, step), untrusted_code) and step > last_step:
            return step
    raise _refused("it is wrong, or was used")


def _refused(why: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(
        what="the one-time code is refused", why=why, fix="wait for the next code and try again"
    )
