"""What a maintenance window lets rest, the doctor notes and mending leaves down, also where it opened in between."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import doctor_services, mend
from appliance.actions.findings import Finding
from appliance.audit.memory import MemoryLedger
from appliance.errors import LedgerUnavailableError
from appliance.install.supervisor import engine_unit
from appliance.registry import windows
from appliance.stages import FIRST_LINE
from media.clock import FixedClock
from tests.support import lines
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories
from tests.support.supervisor import FakeSupervisor

A, B, C = (digest(name) for name in "ABC")
UNIT_A, UNIT_C = (engine_unit("production", one) for one in (A, C))
ANA = signatories()[0].id


class Closable:
    """The site's ledger, as a command opens and closes it."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def close(self) -> None:
        pass


class Unanswering(Closable):
    """One that does not answer."""

    def find(self, *_: Any, **__: Any) -> Any:
        raise LedgerUnavailableError(what="the ledger does not answer", why="", fix="")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = open_site(tmp_path)
    made.promote(A)
    monkeypatch.setattr(mend, "open_ledger", lambda *_, **__: Closable(made.ledger))
    return made


def open_window(site: Site, line: int = FIRST_LINE) -> windows.Window:
    asked = windows.Asked(purpose=windows.Purpose.VALIDATE, model_digest=B, person=ANA, reason="x", minutes=30)
    return windows.open_now(site.ledger, site.clock, asked, previous=A, line=line)


def found(site: Site, supervisor: FakeSupervisor, **changes: Any) -> list[Finding]:
    seen = doctor_services.units(site.config, supervisor, ledger=site.ledger, **{"clock": site.clock, **changes})
    return [one for one in seen if one.name == "production"]


def mended(site: Site, findings: list[Finding], supervisor: FakeSupervisor) -> list[tuple[str, bool, str]]:
    done = mend.mend(site.config, findings, clock=site.clock, supervisor=supervisor)
    return [(one.subject, one.is_done, one.why) for one in done]


def test_production_that_rests_is_noted_with_its_end_and_nothing_is_planned(site: Site) -> None:
    window = open_window(site)

    (note,) = found(site, FakeSupervisor())

    assert (note.is_good, note.repair) == (None, ())
    assert note.text == (
        f"{A[:12]} rests in a maintenance window until {window.until} at the latest: validate of {B[:12]}, by {ANA}"
    )
    assert mend.planned([note]) == ()


def test_a_window_whose_time_is_over_is_wrong_and_still_nothing_to_mend(site: Site) -> None:
    open_window(site)

    (late,) = found(site, FakeSupervisor(), clock=FixedClock(at=site.clock.now() + timedelta(hours=1)))

    assert (late.is_good, late.repair) == (False, ())
    assert late.text.endswith(", which is over")
    assert late.why
    assert "sealift window end" in late.fix


def test_once_the_window_is_closed_an_engine_that_does_not_run_is_started_again(site: Site) -> None:
    windows.close(site.ledger, open_window(site), why=windows.Closing.DONE)
    supervisor = FakeSupervisor()

    bad = found(site, supervisor)

    assert [one.repair for one in bad] == [(doctor_services.START_UNIT, UNIT_A)]
    assert mended(site, bad, supervisor) == [(UNIT_A, True, "")]


def test_a_window_that_opened_since_the_look_keeps_the_engine_down(site: Site) -> None:
    supervisor = FakeSupervisor()
    bad = found(site, supervisor)
    window = open_window(site)

    ((unit, is_done, why),) = mended(site, bad, supervisor)

    assert (unit, is_done) == (UNIT_A, False)
    assert why.startswith(f"it rests in a maintenance window until {window.until}")
    assert supervisor.asked == []


def test_where_nobody_can_tell_whether_one_is_open_no_engine_is_started(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = FakeSupervisor()
    bad = found(site, supervisor)
    monkeypatch.setattr(mend, "open_ledger", lambda *_, **__: Unanswering(site.ledger))

    ((_, is_done, why),) = mended(site, bad, supervisor)

    assert (is_done, why) == (
        False,
        "whether it rests in a maintenance window cannot be told: the ledger does not answer",
    )
    assert supervisor.asked == []


@pytest.mark.parametrize(("number", "unit"), [(0, UNIT_C), (1, UNIT_A)])
def test_an_engine_of_another_line_is_found_and_started_while_one_rests(site: Site, number: int, unit: str) -> None:
    lines.open_line(site, C)
    open_window(site, line=sorted(site.folder.production().lines)[number])
    supervisor = FakeSupervisor()

    seen = found(site, supervisor)

    assert sorted((one.is_good is None, one.repair) for one in seen) == [
        (False, (doctor_services.START_UNIT, unit)),
        (True, ()),
    ]
    assert mended(site, seen, supervisor) == [(unit, True, "")]


@pytest.mark.parametrize("unit", ["sealift-admin.service", engine_unit("test", A)])
def test_other_units_are_started_whatever_rests(site: Site, unit: str) -> None:
    open_window(site)
    failed = Finding(name="unit", is_good=False, text="x", repair=(doctor_services.START_UNIT, unit))

    assert mended(site, [failed], FakeSupervisor()) == [(unit, True, "")]
