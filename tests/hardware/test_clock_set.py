"""The machine's own clock and its hardware clock, set by what the unit of a correction may do, and by nothing else.

A container may set no clock. Who approved a correction, and what follows from one, is shown there with a moved clock.
"""

import time
from typing import Final

import pytest

from tests.hardware import tried
from tests.hardware.computer import Computer

pytestmark = pytest.mark.hardware

UNIT: Final = "sealift-clock-set@.service"
_HOURS: Final = 7200
_NEAR: Final = 60.0
_PROGRAM: Final = "import sys, time; time.clock_settime(time.CLOCK_REALTIME, time.time() + int(sys.argv[1]))"


def clocks(computer: Computer) -> tuple[float, float]:
    """Return how far the machine's clock and its hardware clock are from this machine's, in seconds."""
    said = computer.shell("date +%s; cat /sys/class/rtc/rtc0/since_epoch").stdout.split()
    now = time.time()
    return float(said[0]) - now, float(said[1]) - now


def test_the_clock_and_the_hardware_clock_are_set_forwards_and_back_by_the_unit_of_a_correction(
    computer: Computer,
) -> None:
    computer.shell(f"printf '%s\\n' '{_PROGRAM}' > /opt/sealift/sets.py")
    name = tried.lay(computer, UNIT, "/usr/bin/python3 -I /opt/sealift/sets.py %i", kept="ExecStartPost=")

    for step, expected in ((_HOURS, _HOURS), (-_HOURS, 0)):
        assert tried.start(computer, f"{name}{step}") == 0, tried.said(computer, f"{name}{step}")

        assert clocks(computer) == pytest.approx((expected, expected), abs=_NEAR), tried.said(computer, f"{name}{step}")


def test_no_unit_beside_it_sets_the_clock(computer: Computer) -> None:
    computer.shell(f"printf '%s\\n' '{_PROGRAM}' > /opt/sealift/sets.py")
    units = ("sealift-jobs.service", "sealift-clock.service", "sealift-settle.service")
    names = [tried.lay(computer, unit, f"/usr/bin/python3 -I /opt/sealift/sets.py {_HOURS}") for unit in units]

    tried.start(computer, *names)

    for name in names:
        assert "Operation not permitted" in tried.said(computer, name), name
    assert clocks(computer) == pytest.approx((0, 0), abs=_NEAR)
