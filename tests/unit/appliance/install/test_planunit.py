"""The unit that makes plans as others see it: what it says now, what it said before, and what a stranger lays there."""

import os
from pathlib import Path

import pytest

from appliance.config import Config, PlacesSection
from appliance.errors import HostChangeError, UnitError
from appliance.install import plans, planunit
from appliance.install.joboutcome import Outcome
from appliance.wire import RemoteError
from media import canonical
from tests.support.hostplans import make_plan
from tests.support.supervisor import FakeSupervisor

UNIT = "sealift-plan@2.service"


class Runs(FakeSupervisor):
    """A supervisor whose unit says what a test says when it is started."""

    def __init__(self, config: Config, outcome: Outcome | None, *, fails: bool = False) -> None:
        super().__init__(broken=frozenset({UNIT}) if fails else frozenset())
        self.config, self.outcome = config, outcome

    def start(self, unit: str) -> None:
        if self.outcome is not None:
            planunit.tell(self.config.at, 2, self.outcome)
        super().start(unit)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = Config(site="demo", places=PlacesSection(root=str(tmp_path)))
    plans.folder(made.at).mkdir(parents=True)
    return made


def test_the_plan_that_this_run_made_is_returned(config: Config) -> None:
    plan = make_plan(serial=2)
    plans.keep(config.at, plan)
    runs = Runs(config, Outcome(ok=True, digest=plan.digest))

    assert planunit.run(config.at, runs, 2) == plan
    assert runs.asked == [("start", UNIT)]


def test_what_an_earlier_run_said_is_never_taken_for_what_this_one_says(config: Config) -> None:
    plan = make_plan(serial=2)
    plans.keep(config.at, plan)
    planunit.tell(config.at, 2, Outcome(ok=True, digest=plan.digest))

    with pytest.raises(HostChangeError, match="was not made"):
        planunit.run(config.at, Runs(config, None), 2)


def test_the_error_that_the_unit_told_is_the_one_that_is_raised(config: Config) -> None:
    told = Outcome.of_error(HostChangeError(what="the task 'X' failed", why="so it is", fix="look"))

    with pytest.raises(RemoteError, match="the task 'X' failed"):
        planunit.run(config.at, Runs(config, told, fails=True), 2)
    with pytest.raises(UnitError):
        planunit.run(config.at, Runs(config, None, fails=True), 2)


def test_a_digest_without_its_plan_is_refused(config: Config) -> None:
    with pytest.raises(HostChangeError):
        planunit.run(config.at, Runs(config, Outcome(ok=True, digest="ab" * 32)), 2)


def test_what_a_stranger_lays_there_is_read_as_nothing(config: Config, tmp_path: Path) -> None:
    """Scenario: a playbook that nobody approved took the unit over; root reads the folder afterwards."""
    place = plans.folder(config.at) / "2.outcome"
    (tmp_path / "secret").write_bytes(canonical.dumps(Outcome(ok=True, digest="ab" * 32).to_json()))
    place.symlink_to(tmp_path / "secret")
    assert planunit.told(config.at, 2) is None

    place.unlink()
    os.mkfifo(place)
    assert planunit.told(config.at, 2) is None  # and nobody waits for its other end

    for content in (b"", b"{", b"[]", b'{"ok": 1}', b"{" * 200_000):
        place.unlink()
        place.write_bytes(content)
        assert planunit.told(config.at, 2) is None


@pytest.mark.parametrize("lay", ["link", "fifo"])
def test_a_plan_is_read_through_no_link_and_without_waiting(config: Config, tmp_path: Path, lay: str) -> None:
    plan = make_plan(serial=2)
    place = plans.folder(config.at) / f"{plan.digest}.json"
    if lay == "link":
        (tmp_path / "plan").write_bytes(plan.to_bytes())
        place.symlink_to(tmp_path / "plan")
    else:
        os.mkfifo(place)

    with pytest.raises(HostChangeError, match=plan.digest[:12]):
        plans.read(config.at, plan.digest)
