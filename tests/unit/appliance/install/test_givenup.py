"""What systemd gave up is started again by itself: which units, when, and never without room."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from appliance.errors import UnitError
from appliance.install import givenup
from appliance.install.givenup import OTHERS, PAUSE_SECONDS, GivenUp, Service, Systemctl, read
from appliance.install.playbook import WATCHERS

ROOT = Path(__file__).resolve().parents[4]
PAGE = "sealift-admin.service"
ENGINE = f"sealift-engine-production@{'a' * 12}.service"
TESTED = f"sealift-engine-test@{'b' * 12}.service"
NO_SANDBOX = {"Result": "exit-code", "ExecMainCode": "1", "ExecMainStatus": "226"}
CRASHED = {"Result": "exit-code", "ExecMainCode": "1", "ExecMainStatus": "1"}
KILLED = {"Result": "signal", "ExecMainCode": "2", "ExecMainStatus": "9"}
OUT_OF_MEMORY = {"Result": "oom-kill", "ExecMainCode": "2", "ExecMainStatus": "9"}


def block(unit: str, state: str = "failed", **said: str) -> str:
    facts = {
        "Restart": "on-failure",
        "NRestarts": "5",
        "ExecMainCode": "0",
        "ExecMainStatus": "0",
        "Result": "success",
        "RestartPreventExitStatus": "50 56 91",
        "UnitFileState": "enabled" if unit == ENGINE else "disabled",
        "Id": unit,
        "ActiveState": state,
    } | said
    return "".join(f"{key}={value}\n" for key, value in facts.items())


def said(*blocks: str, target: str = "active") -> str:
    return "\n".join((block("sealift.target", target, Restart=""), *blocks))


class Box:
    """Says what a test says that systemd says, and remembers what it was to start."""

    def __init__(self, text: str = "") -> None:
        self.text, self.begun = text, list[str]()
        self.seconds, self.room, self.engines = 1000.0, True, True
        self.given_up = GivenUp(
            self,
            may_start_engines=lambda: self.engines,
            has_room=lambda: self.room,
            clock=lambda: self.seconds,
        )

    def services(self) -> tuple[Service, ...]:
        return read(self.text)

    def begin(self, unit: str) -> None:
        self.begun.append(unit)

    def look(self, *blocks: str, after: float = 10.0, target: str = "active") -> list[str]:
        """Look at these units some seconds later; return what was started."""
        self.text, self.begun, self.seconds = said(*blocks, target=target), [], self.seconds + after
        assert [one.name for one in self.given_up.look()] == self.begun
        return self.begun


@pytest.fixture
def box() -> Box:
    return Box()


def test_what_had_no_sandbox_starts_at_the_first_look_with_room(box: Box) -> None:
    down = block(PAGE, **NO_SANDBOX)

    box.room = False
    assert [box.look(down, after=600) for _ in range(3)] == [[], [], []]
    box.room = True

    assert box.look(down) == [PAGE]


@pytest.mark.parametrize("unit", ["sealift-ledger.service", "nginx.service"])
def test_so_does_what_could_not_begin_what_runs_before_it(box: Box, unit: str) -> None:
    # As systemd 252 says it: of the main process it tells the end before.
    good, bad = (
        f"{{ path=/usr/bin/one ; argv[]=/usr/bin/one -t ; ignore_errors=no ; start_time=[a] ; stop_time=[b] ; pid=7 ;"
        f" code=exited ; status={status} }}"
        for status in (0, 226)
    )
    killed = KILLED | {"Result": "exit-code", "UnitFileState": "enabled"}

    assert box.look(block(unit, **killed, ExecStartPre=f"{good}\nExecStartPre={bad}")) == [unit]
    assert box.look(block(unit, "active")) == []
    assert box.look(block(unit, **killed, ExecStartPre=f"{good}\nExecStartPre={good}")) == []


def test_what_could_not_even_be_tried_for_want_of_resources_starts_likewise(box: Box) -> None:
    # What ended before was killed; that its next start failed is said by the result alone.
    assert box.look(block(PAGE, **(KILLED | {"Result": "resources"}))) == [PAGE]


@pytest.mark.parametrize("how", [CRASHED, KILLED, OUT_OF_MEMORY, {"Result": "timeout"}, {"Result": "watchdog"}])
def test_what_ran_and_ended_starts_after_a_pause(box: Box, how: dict[str, str]) -> None:
    down = block(PAGE, **how)

    assert box.look(down) == []
    assert box.look(down, after=PAUSE_SECONDS - 1) == []
    assert box.look(down, after=1) == [PAGE]


def test_what_fails_again_is_down_for_a_pause_before_it_is_tried_anew(box: Box) -> None:
    down, starting = block(PAGE, **NO_SANDBOX), block(PAGE, "activating", **NO_SANDBOX)

    assert box.look(down) == [PAGE]
    assert box.look(starting) == []
    assert box.look(down) == []
    assert box.look(down, after=PAUSE_SECONDS - 21) == []
    assert box.look(down, after=1) == [PAGE]


def test_the_pause_is_longer_than_the_alert_waits_for() -> None:
    rules = (ROOT / "ansible/roles/monitoring/files/rules.yml").read_text()
    minutes = rules.partition("alert: UnitFailed")[2].partition("for: ")[2].partition("m\n")[0]

    # Two scrapes more, half a minute apart: the first one sees it late, the last one early.
    assert int(minutes) * 60 + 60 <= PAUSE_SECONDS


def test_what_came_back_and_goes_again_waits_anew(box: Box) -> None:
    down, up = block(PAGE, **KILLED), block(PAGE, "active")
    box.look(down)
    assert box.look(down, after=PAUSE_SECONDS) == [PAGE]

    box.look(up, after=PAUSE_SECONDS)

    assert box.look(down) == []


@pytest.mark.parametrize("number", ["50", "56", "91"])
def test_what_refused_is_left_to_people(box: Box, number: str) -> None:
    down = block("sealift-ledger.service", **(CRASHED | {"ExecMainStatus": number}))

    assert [box.look(down, after=PAUSE_SECONDS) for _ in range(3)] == [[], [], []]


def test_a_signal_of_the_number_of_a_refusal_is_none(box: Box) -> None:
    down = block(PAGE, RestartPreventExitStatus="9", **KILLED)
    box.look(down)

    assert box.look(down, after=PAUSE_SECONDS) == [PAGE]


def test_an_engine_that_ran_and_ended_stays_down(box: Box) -> None:
    for how in (CRASHED, KILLED, OUT_OF_MEMORY, {"Result": "timeout"}):
        assert [box.look(block(ENGINE, **how), after=PAUSE_SECONDS) for _ in range(3)] == [[], [], []], how


def test_an_engine_that_had_no_sandbox_starts_where_a_boot_would_start_it(box: Box) -> None:
    assert box.look(block(ENGINE, **NO_SANDBOX), block(TESTED, **NO_SANDBOX)) == [ENGINE]


def test_an_engine_that_people_stopped_is_not_started(box: Box) -> None:
    assert box.look(block(ENGINE, UnitFileState="disabled", **NO_SANDBOX)) == []


def test_no_engine_starts_while_a_window_keeps_production_down(box: Box) -> None:
    box.engines = False
    assert box.look(block(ENGINE, **NO_SANDBOX), block(PAGE, **NO_SANDBOX)) == [PAGE]

    box.engines = True

    assert box.look(block(ENGINE, **NO_SANDBOX)) == [ENGINE]


@pytest.mark.parametrize("state", ["active", "inactive", "activating", "deactivating"])
def test_only_what_is_down_for_good_is_started(box: Box, state: str) -> None:
    assert box.look(block(PAGE, state, **NO_SANDBOX)) == []


def test_a_task_that_ends_is_not_repeated(box: Box) -> None:
    assert box.look(block("sealift-receive@3.service", Restart="no", **NO_SANDBOX)) == []


def test_nothing_starts_where_people_stopped_the_target(box: Box) -> None:
    down = block(PAGE, **NO_SANDBOX)

    assert box.look(down, target="inactive") == []
    assert box.look(down) == [PAGE]


def test_a_unit_of_another_name_is_passed_over(box: Box) -> None:
    assert box.look(block("sealift-Odd.service", **NO_SANDBOX), block(PAGE, **NO_SANDBOX)) == [PAGE]


@pytest.mark.parametrize("unit", OTHERS)
def test_of_others_services_those_start_that_a_boot_would_start(box: Box, unit: str) -> None:
    assert box.look(block(unit, UnitFileState="disabled", **NO_SANDBOX)) == []
    assert box.look(block(unit, UnitFileState="enabled", **NO_SANDBOX)) == [unit]


def test_others_services_are_those_that_the_install_gives_a_sandbox() -> None:
    assert ("nginx.service", *(f"{name}.service" for name in WATCHERS)) == OTHERS
    for role in ("nginx/templates/hardening.conf.j2", "monitoring_ahead/templates/loopback.conf.j2"):
        assert "PrivateDevices=yes" in (ROOT / "ansible/roles" / role).read_text()


def test_no_unit_but_these_is_ever_named_to_systemd(tmp_path: Path) -> None:
    program = tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    program.chmod(0o755)

    for unit in ("ssh.service", "--now"):
        with pytest.raises(UnitError):
            Systemctl(systemctl=str(program)).begin(unit)

    assert not (tmp_path / "asked").exists()
    Systemctl(systemctl=str(program)).begin("nginx.service")
    assert (tmp_path / "asked").read_text().endswith(" start nginx.service\n")


def test_systemd_is_asked_once_and_not_waited_for(tmp_path: Path) -> None:
    answer, asked, program = tmp_path / "answer", tmp_path / "asked", tmp_path / "systemctl"
    answer.write_text(said(block(PAGE, **NO_SANDBOX)))
    program.write_text(f'#!/bin/sh\necho "$@" >> {asked}\ncase "$*" in *show*) cat {answer};; esac\n')
    program.chmod(0o755)
    systemd = Systemctl(systemctl=str(program))

    found = [one.name for one in systemd.services()]
    systemd.begin(PAGE)

    assert found == [PAGE]
    shown, *begun = asked.read_text().splitlines()
    assert shown.startswith("--no-ask-password show --property=Id,")
    assert shown.split()[3:] == ["sealift.target", *OTHERS, "sealift-*.service"]
    assert begun == [
        f"--no-ask-password reset-failed {PAGE}",
        f"--no-ask-password --no-block start {PAGE}",
    ]


def test_systemd_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnitError):
        Systemctl(systemctl=str(tmp_path / "absent")).services()


@pytest.mark.parametrize(
    ("number", "is_room"), [(errno.ENOSPC, False), (errno.EDQUOT, False), (errno.EROFS, True), (errno.EOPNOTSUPP, True)]
)
def test_room_is_a_mebibyte_that_could_be_had(monkeypatch: pytest.MonkeyPatch, number: int, *, is_room: bool) -> None:
    asked: list[tuple[int, int]] = []

    def refused(_: int, offset: int, size: int) -> None:
        asked.append((offset, size))
        raise OSError(number, os.strerror(number))

    assert givenup.is_room_for_sandboxes()
    monkeypatch.setattr(os, "posix_fallocate", refused)

    assert givenup.is_room_for_sandboxes() is is_room
    assert asked == [(0, 2**20)]


def test_where_not_even_a_file_can_be_made_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)

    assert not givenup.is_room_for_sandboxes()
