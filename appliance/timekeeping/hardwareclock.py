"""The machine's hardware clock, set from its system clock: the one line of `sealift-clock-set@` that is root's.

Entry point: ``python -I -m appliance.timekeeping.hardwareclock``. It takes nothing, and decides nothing: what time it
is was decided when the system's clock was set. A machine without a hardware clock is none worse for it.

The kernel would do it without root for a clock that it is told is synchronised (adjtimex(2), tried on Debian's 6.1),
but not after a step back: it waits for its next turn by the time that was wrong.
"""

import fcntl
import struct
import sys
from datetime import datetime
from pathlib import Path
from typing import Final

from media.clock import Clock, SystemClock

_DEVICE: Final = Path("/dev/rtc0")
_SET_TIME: Final = 0x4024700A  # RTC_SET_TIME of rtc(4)
_TIME: Final = struct.Struct("9i")


def as_told(moment: datetime) -> bytes:
    """Return a UTC time as rtc(4) takes it."""
    return _TIME.pack(
        *(moment.second, moment.minute, moment.hour), *(moment.day, moment.month - 1, moment.year - 1900), 0, 0, 0
    )


def main(*, device: Path = _DEVICE, clock: Clock | None = None) -> int:
    """Set it; returns 0 also where there is none, and 1 where the kernel refuses."""
    try:
        with device.open("r+b", buffering=0) as opened:
            fcntl.ioctl(opened, _SET_TIME, as_told((clock or SystemClock()).now()))
    except FileNotFoundError:
        return 0
    except OSError as error:
        sys.stderr.write(f"the hardware clock was not set ({error.strerror}); see `sealift clock show`\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
