"""The plan on a bare machine: check mode looks for accounts that only the playbook makes, and that is no obstacle."""

from pathlib import Path

import pytest

from appliance.actions.install import InstallFacts
from appliance.actions.setup import Setup
from appliance.errors import InstallError
from appliance.install import answers
from appliance.install.releases import InstalledRelease, InstalledReleases
from appliance.install.trial import NONE, Trial, Trials
from media.clock import SystemClock
from tests.property.appliance.test_answers import GOOD
from tests.support.installable import places_below, small_release, store_release


class BareHost:
    """An installer whose check mode finds no accounts yet."""

    def install(self, serial: int | None = None) -> InstallFacts:
        raise AssertionError

    def preview(self, serial: int | None = None) -> InstallFacts:
        raise InstallError(what="the task 'accounts : folders' failed on this host", why="no user sealift-ledger")


def setup_of(root: Path) -> Setup:
    store_release(places_below(root), small_release())
    given = answers.from_values(GOOD)
    config = given.config(None)
    config = config.model_copy(update={"places": config.places.model_copy(update={"root": str(root)})})
    return Setup(
        answers=given,
        config=config,
        clock=SystemClock(),
        installer=BareHost(),
        measure=lambda *_: pytest.fail("a plan measures nothing"),
    )


def test_on_a_bare_machine_the_plan_says_that_all_is_new(tmp_path: Path) -> None:
    plan = setup_of(tmp_path).plan()

    assert (plan.install.serial, plan.install.changed) == (1, True)
    assert "from nothing" in plan.install.host
    assert "no user sealift-ledger" in plan.install.difference


def switched_to_release_1(root: Path) -> None:
    releases = InstalledReleases(places_below(root))
    releases.folder(1).mkdir(parents=True)
    releases.write(InstalledRelease(serial=1, release="r1", environments={}, host_files="ab" * 32))
    releases.switch(1)


def test_on_a_machine_that_has_a_release_a_failing_check_stops_the_plan(tmp_path: Path) -> None:
    setup = setup_of(tmp_path)
    switched_to_release_1(tmp_path)

    with pytest.raises(InstallError):
        setup.plan()


@pytest.mark.parametrize(("previous", "is_bare"), [(NONE, True), (1, False)])
def test_a_machine_whose_first_install_was_cut_off_is_as_bare_as_before(
    tmp_path: Path, previous: int, *, is_bare: bool
) -> None:
    setup = setup_of(tmp_path)
    switched_to_release_1(tmp_path)
    Trials(places_below(tmp_path)).begin(Trial(serial=1, release="r1", previous=previous, at="2026-11-20T08:00:00Z"))

    if is_bare:
        assert "from nothing" in setup.plan().install.host
    else:
        with pytest.raises(InstallError):
            setup.plan()
