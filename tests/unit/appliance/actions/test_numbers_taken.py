"""What is ahead of the clock is put aside and kept, and what watches the box runs again whatever fails."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.actions import mend, numbers_taken
from appliance.actions.findings import Finding
from appliance.config import Config
from appliance.errors import UnitError
from media.clock import FixedClock
from tests.support.supervisor import FakeSupervisor

NOW = datetime(2026, 11, 26, 9, tzinfo=UTC)
CLOCK = FixedClock(at=NOW)
AHEAD = Finding(name="alerts", is_good=False, text="ahead", repair=(numbers_taken.PUT_ASIDE, numbers_taken.SUBJECT))


def held(folder: Path) -> Path:
    (folder / "metrics2").mkdir(parents=True)
    (folder / "metrics2/block").write_text("numbers")
    (folder / "alertmanager").mkdir()
    (folder / "alertmanager/nflog").write_text("told")
    (folder / "alertmanager/silences").write_text("quiet")
    return folder


def test_numbers_and_what_was_told_are_kept_beside_and_silences_stay(tmp_path: Path) -> None:
    told: list[str] = []

    moved = numbers_taken.put_aside(clock=CLOCK, folder=held(tmp_path), tell=told.append)

    assert told == ["stop", "start"]
    assert [one.read_text() for one in (moved[0] / "block", moved[1])] == ["numbers", "told"]
    assert sorted(one.relative_to(tmp_path).as_posix() for one in tmp_path.glob("*/*")) == [
        "alertmanager/nflog.before-20261126T090000Z",
        "alertmanager/silences",
        "metrics2.before-20261126T090000Z/block",
    ]


def test_nothing_is_overwritten_and_both_run_again_where_it_fails(tmp_path: Path) -> None:
    told: list[str] = []
    kept = held(tmp_path) / "metrics2.before-20261126T090000Z"
    kept.mkdir()
    (kept / "block").write_text("of before")

    with pytest.raises(OSError, match="not empty"):
        numbers_taken.put_aside(clock=CLOCK, folder=tmp_path, tell=told.append)

    assert told == ["stop", "start"]
    assert (kept / "block").read_text() == "of before"
    assert (tmp_path / "metrics2/block").exists()


@pytest.mark.parametrize(("code", "why"), [(0, ""), (1, "systemctl stop answered 1")])
def test_systemd_is_asked_for_both_and_a_refusal_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, why: str
) -> None:
    program = tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nexit {code}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    if why:
        with pytest.raises(UnitError) as refused:
            numbers_taken.systemctl("stop")
        assert refused.value.why == why
    else:
        numbers_taken.systemctl("stop")
    asked = (tmp_path / "asked").read_text()
    assert asked == "--no-ask-password stop prometheus.service prometheus-alertmanager.service\n"


@pytest.mark.parametrize("is_believed", [True, False])
def test_doctor_puts_aside_only_while_the_clock_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_believed: bool
) -> None:
    config = Config.model_validate({"site": "s", "places": {"root": str(tmp_path)}})
    asked: list[bool] = []
    monkeypatch.setattr(numbers_taken, "put_aside", lambda **_: asked.append(True))
    clock = CLOCK if is_believed else FixedClock(at=datetime(2000, 1, 1, tzinfo=UTC))

    (done,) = mend.mend(config, [AHEAD], clock=clock, supervisor=FakeSupervisor())

    assert (done.is_done, bool(asked)) == (is_believed, is_believed)
    assert is_believed or "the clock is not believed" in done.why
