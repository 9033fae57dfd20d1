"""Doctor and monitoring ask for the engine of each line of production: another line's answers nobody of this one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.actions import doctor_services
from appliance.actions.findings import Finding
from appliance.actions.observed import observed
from appliance.enginesections import EnginesSection, ProductionEngines
from appliance.install.supervisor import engine_unit
from appliance.state import projection
from appliance.state.database import open_state
from tests.support import lines
from tests.support.promotion import Site, digest, open_site
from tests.support.supervisor import FakeSupervisor

A, C, D = (digest(name) for name in "ACD")
UNIT_A, UNIT_C = (engine_unit("production", one) for one in (A, C))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with two lines, A and C."""
    made = open_site(tmp_path)
    made.promote(A)
    lines.open_line(made, C)
    return made


def running(*units: str) -> FakeSupervisor:
    found = FakeSupervisor()
    for unit in units:
        found.start(unit)
    return found


def found_by_doctor(site: Site, supervisor: FakeSupervisor) -> list[Finding]:
    return [one for one in doctor_services.units(site.config, supervisor) if one.name == "production"]


def served(site: Site, supervisor: FakeSupervisor) -> dict[str, float]:
    state = open_state(site.config.at)
    projection.catch_up(state, site.ledger)
    state.dispose()
    found = observed(site.config, ledger=site.ledger, supervisor=supervisor, clock=site.clock)
    return {one.labels["digest"]: one.value for one in found if one.name == "sealift_production_served"}


def test_with_an_engine_in_each_line_nothing_is_found(site: Site) -> None:
    both = running(UNIT_A, UNIT_C)

    assert [(one.is_good, one.text) for one in found_by_doctor(site, both)] == [
        (True, f"{A[:12]} is served"),
        (True, f"{C[:12]} is served"),
    ]
    assert served(site, both) == {A[:12]: 1, C[:12]: 1}


@pytest.mark.parametrize(("up", "down", "digest_down"), [(UNIT_A, UNIT_C, C), (UNIT_C, UNIT_A, A)])
def test_a_line_without_its_engine_is_named_and_another_lines_engine_is_nothing_to_go_back_to(
    site: Site, up: str, down: str, digest_down: str
) -> None:
    alone = running(up)

    (bad,) = [one for one in found_by_doctor(site, alone) if one.is_good is False]

    assert bad.text.startswith(f"{digest_down[:12]} is promoted, and its engine does not run")
    assert "still in memory" not in bad.text
    assert "rollback" not in bad.fix
    assert bad.repair == (doctor_services.START_UNIT, down)
    assert served(site, alone)[digest_down[:12]] == 0


def test_further_engines_are_asked_of_line_1_alone(site: Site) -> None:
    engines = EnginesSection(production=ProductionEngines(count=2))
    config = site.config.model_copy(update={"engines": engines})
    found = list(doctor_services.units(config, running(UNIT_A, engine_unit("production", A, "2"), UNIT_C)))

    texts = [one.text for one in found if one.name == "production"]
    assert texts == [f"{A[:12]} is served by 2 engines", f"{C[:12]} is served"]


def test_where_a_version_before_is_warm_the_way_back_names_the_line(site: Site) -> None:
    lines.bring(site, D, 2)
    warm = running(UNIT_A, UNIT_C)

    (bad,) = [one for one in found_by_doctor(site, warm) if one.is_good is False]

    assert f"{C[:12]} is still in memory" in bad.text
    assert A[:12] not in bad.text
    assert "sealift rollback --line NAME" in bad.fix


@pytest.mark.parametrize(
    ("stop", "left"), [(lambda site: lines.stop_line(site, 1), C), (lambda site: lines.stop_line(site, 2), A)]
)
def test_a_line_that_was_stopped_is_to_have_no_engine_and_the_other_is_still_asked_for(
    site: Site, stop: Callable[[Site], object], left: str
) -> None:
    stop(site)

    assert [one.text[:12] for one in found_by_doctor(site, running()) if one.is_good is False] == [left[:12]]
    assert served(site, running()) == {left[:12]: 0}
