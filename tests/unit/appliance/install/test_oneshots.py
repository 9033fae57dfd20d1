"""Which units end by themselves, and which of them a timer starts anyway: read against the release's own files."""

from pathlib import Path

import pytest

from appliance.install import oneshots
from appliance.install.unit_result import from_systemd
from tests.support.unit_files import SYSTEMD, services, values

# It runs at the call of the process that has the lease, and says what is so when it runs.
_ANNOUNCES = "sealift-announce.service"


def one_shots() -> list[Path]:
    return [path for path in services() if values(path, "Type") == ["oneshot"]]


def test_every_unit_that_ends_by_itself_is_known_as_such() -> None:
    assert {path.stem for path in one_shots()} == oneshots.ALL
    assert not any(oneshots.is_one(path.name) for path in services() if path not in one_shots())


def test_only_what_a_timer_starts_anyway_is_started_once_more_by_a_program() -> None:
    timed = {(values(path, "Unit") or [f"{path.stem}.service"])[0] for path in SYSTEMD.glob("*.timer")}
    named = {path.name.replace("@.", "@due.") for path in one_shots()}

    free = {name for name in named if not oneshots.is_asked_for(name)}

    assert free == {name for name in timed if oneshots.is_one(name)} | {_ANNOUNCES}
    assert len(free) >= 10


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ("sealift-validate@0123456789ab.service", "ask for it again"),
        ("sealift-report@2026q3.service", "ask for it again"),
        ("sealift-settle.service", "`sealift install --settle`"),
        ("sealift-report@due.service", "`sealift doctor --mend`"),
        ("sealift-ledger.service", "`sealift doctor --mend`"),
    ],
)
def test_what_helps_is_never_a_command_that_would_not_do_it(unit: str, words: str) -> None:
    for said in ("exit-code\nExecMainCode=1\nExecMainStatus=1", "oom-kill\nExecMainCode=2\nExecMainStatus=9"):
        fix = from_systemd(unit, f"ActiveState=failed\nResult={said}\n").fix

        assert words in fix
        assert ("--mend" in fix) is ("--mend" in words)
