"""The job service goes on looking after windows and units, whatever broke one look, and says what it started."""

import threading
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config, PlacesSection
from appliance.install import jobservice
from appliance.install.givenup import Service
from appliance.install.trial import Trials
from appliance.install.unit_result import from_systemd


class AtOnce(threading.Event):
    """Waits for nothing."""

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        return self.is_set()


class Desk:
    """Its first look breaks; the second is the last."""

    def __init__(self) -> None:
        self.done, self.looks = AtOnce(), 0

    def look_after_windows(self) -> None:
        self.looks += 1
        if self.looks > 1:
            self.done.set()
            return
        raise RuntimeError("Jane Doe")


def test_a_look_that_breaks_is_followed_by_another_and_says_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    desk: Any = Desk()

    jobservice._look_until("windows", desk.look_after_windows, desk.done)

    assert desk.looks == 2
    assert capsys.readouterr().err == "the look after windows failed (RuntimeError)\n"


class OneDown:
    """Finds one unit that systemd gave up."""

    def look(self) -> tuple[Service, ...]:
        said = "ActiveState=failed\nResult=exit-code\nExecMainCode=1\nExecMainStatus=226\n"
        result = from_systemd("sealift-admin.service", said)
        return (Service(result=result, state="failed", is_refused=False, is_enabled=False),)


def test_what_is_started_again_is_said_in_the_journal(capsys: pytest.CaptureFixture[str]) -> None:
    found: Any = OneDown()

    jobservice._start_again(found)

    said = capsys.readouterr().err
    assert said == "sealift-admin.service was given up (no-sandbox) and is started again\n"


def test_another_site_file_in_use_is_noticed_once_an_install_ended_well_with_it(tmp_path: Path) -> None:
    config = Config(site="s", places=PlacesSection(root=str(tmp_path)))
    config.at.releases.mkdir(parents=True)
    trials, before = Trials(config.at), jobservice._in_use(config)

    trials.confirm(b'site = "s"\n')
    after = jobservice._in_use(config)
    trials.confirm(b'site = "s"\n')

    assert before != after
    assert jobservice._in_use(config) == after
