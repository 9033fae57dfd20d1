"""The hardware clock, set from the system's: which call is made, and what a machine without one is told."""

import struct
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.timekeeping import hardwareclock
from media.clock import FixedClock

AT = datetime(2026, 11, 22, 5, 4, 3, tzinfo=UTC)


def test_the_kernel_is_told_the_time_as_it_counts() -> None:
    assert struct.unpack("9i", hardwareclock.as_told(AT)) == (3, 4, 5, 22, 10, 126, 0, 0, 0)


def test_a_machine_without_one_is_none_worse_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hardwareclock.main(device=tmp_path / "rtc0", clock=FixedClock(AT)) == 0
    assert capsys.readouterr().err == ""


def test_one_that_does_not_follow_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "rtc0"
    device.touch()
    asked: list[tuple[int, bytes]] = []
    monkeypatch.setattr("fcntl.ioctl", lambda _, call, what: asked.append((call, what)))
    assert hardwareclock.main(device=device, clock=FixedClock(AT)) == 0
    assert asked == [(0x4024700A, hardwareclock.as_told(AT))]

    monkeypatch.undo()
    assert hardwareclock.main(device=device, clock=FixedClock(AT)) == 1  # no device takes this call
    assert "the hardware clock was not set" in capsys.readouterr().err
