"""Windows by the real commands and the real job service: what a signal, a kill and a refusal leave of production."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.audit.socket_ledger import SocketLedger
from appliance.install.supervisor import UnitState, engine_unit
from appliance.registry import windows
from tests.support.jobs import UnitRunner, job_service
from tests.support.promoting import bring, enrol_all, homes, serve, site
from tests.support.running_site import Run, RunningSite, as_json, runner

__all__ = ["homes", "site"]
pytestmark = [pytest.mark.fault, pytest.mark.timeout(240)]

# As at a terminal: whoever starts the tests in the background has SIGINT ignored by all that follows.
_SEALIFT = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from appliance.cli.main import main; raise SystemExit(main())"
)
_ASKED = ("--window", "--as", "eva-rossi", "--reason", "change 4711")


class Box:
    """A site that serves one version, holds another, and has a job service."""

    def __init__(self, site: RunningSite, units: UnitRunner, sealift: Run, old: str, new: str) -> None:
        self.site, self.units, self.sealift = site, units, sealift
        self.old, self.new = old, new
        self.ledger = SocketLedger(site.config.at.socket("ledger-actions"))

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """Start a command as a person would."""
        command = [sys.executable, "-c", _SEALIFT, "--config", str(self.site.config.at.config_file), *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait(self, *, is_open: bool) -> None:
        """Wait until a window is open and production rests, or it is closed."""
        for _ in range(1200):
            found = windows.opened(self.ledger) is not None
            if found is is_open and (not is_open or self.serves(self.old) is False):
                return
            time.sleep(0.05)
        raise AssertionError(is_open)

    def serves(self, digest: str) -> bool:
        return self.site.supervisor.state(engine_unit("production", digest)) is UnitState.ACTIVE

    @property
    def closed(self) -> dict[str, Any]:
        return dict(self.ledger.find(kind=windows.CLOSED, limit=1)[0].body)


@pytest.fixture
def units(site: RunningSite) -> Iterator[UnitRunner]:
    with job_service(site.config, site.supervisor) as running:
        yield running


@pytest.fixture
def box(
    site: RunningSite, units: UnitRunner, homes: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> Iterator[Box]:
    sealift = runner(site, capsys)
    enrol_all(site, sealift, homes)
    old, new = bring(site, 1), bring(site, 2)
    serve(sealift, old, homes)
    found = Box(site, units, sealift, old, new)
    try:
        yield found
    finally:
        found.ledger.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_broken_off_ends_its_window_and_returns_when_production_is_back(
    box: Box, number: signal.Signals
) -> None:
    box.units.may_begin.clear()
    command = box.begin("validate", box.new, *_ASKED)
    box.wait(is_open=True)

    command.send_signal(number)
    _, said = command.communicate(timeout=120)

    assert command.returncode != 0
    assert "production comes back" in said
    assert box.serves(box.old)
    assert (box.closed["why"], box.closed["person"], box.closed["reason"]) == ("ended", "eva-rossi", "change 4711")
    assert windows.opened(box.ledger) is None
    assert box.site.supervisor.state(engine_unit("test", box.new)) is UnitState.INACTIVE


def test_a_command_that_is_killed_loses_nothing_its_gates_end_and_production_comes_back(box: Box) -> None:
    command = box.begin("validate", box.new, *_ASKED)
    box.wait(is_open=True)

    command.kill()
    command.communicate(timeout=60)
    box.wait(is_open=False)

    assert (box.closed["why"], box.serves(box.old)) == ("done", True)
    judged = box.ledger.find(kind="gate.result", field="model_digest", value=box.new)
    assert judged
    assert all(leaf.body["passed"] for leaf in judged)


def test_a_version_is_cut_over_in_a_window_and_says_what_it_took(box: Box, homes: dict[str, Path]) -> None:
    as_json(box.sealift, "validate", box.new)
    as_json(box.sealift, "promote", box.new, "--as", "eva-rossi")
    for person, home in homes.items():
        as_json(box.sealift, "approve", box.new, "--as", person, "--gnupg-home", str(home), "--yes")

    told = as_json(box.sealift, "promote", box.new, *_ASKED)

    assert (told["model_digest"], told["previous"]) == (box.new, box.old)
    assert told["silent_seconds"] > 0
    assert told["return_seconds"] is not None
    assert (box.serves(box.new), box.serves(box.old)) == (True, False)
    assert box.closed["cut_over"] is True


def test_one_that_does_not_serve_after_a_cut_over_is_gone_back_from(box: Box, homes: dict[str, Path]) -> None:
    as_json(box.sealift, "validate", box.new)
    as_json(box.sealift, "promote", box.new, "--as", "eva-rossi")
    for person, home in homes.items():
        as_json(box.sealift, "approve", box.new, "--as", person, "--gnupg-home", str(home), "--yes")
    box.site.supervisor.versions.pop(engine_unit("production", box.new))

    ended = box.sealift("promote", box.new, *_ASKED)

    assert ended.code != 0
    assert (box.serves(box.new), box.serves(box.old)) == (False, True)
    assert windows.opened(box.ledger) is None
    last = box.ledger.find(kind="promotion.", limit=1)[0]
    assert (last.kind, last.body.get("person")) == ("promotion.rolled-back", "eva-rossi")


def test_it_is_ended_and_shown_by_commands_of_its_own(box: Box) -> None:
    box.units.may_begin.clear()
    command = box.begin("validate", box.new, *_ASKED)
    box.wait(is_open=True)

    second = box.begin("validate", box.new, "--window", "--as", "finn-olsen", "--reason", "another one")
    refused = second.communicate(timeout=120)[1]
    shown = box.begin("--json", "window", "show").communicate(timeout=60)[0]
    ended = box.begin("window", "end", "--as", "finn-olsen")
    ended.communicate(timeout=120)
    command.communicate(timeout=120)

    assert (second.returncode != 0, "has to wait" in refused) == (True, True)
    assert '"reason": "change 4711"' in shown
    assert (ended.returncode, command.returncode != 0) == (0, True)
    assert (box.closed["why"], box.serves(box.old)) == ("ended", True)
