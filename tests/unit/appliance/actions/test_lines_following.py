"""Which job follows what was decided last, what stays warm, and what the judge's look ends: each line for itself."""

from pathlib import Path

import pytest

from appliance.actions import canary
from appliance.actions.following import Following, kept_warm, switch_for
from appliance.actions.production import settle
from appliance.actions.promote import Step, promote
from appliance.install.jobs import Kind
from appliance.promote.record import Kind as Happened
from appliance.promote.terms import Terms
from tests.support import lines
from tests.support.promotion import Site, open_site
from tests.support.signatories import signatories
from tests.support.supervisor import FakeSupervisor
from tests.support.versions import store_version
from tests.unit.appliance.actions.test_lines import requested, unit_of
from tests.unit.appliance.actions.test_lines_windows import Two, two_lines
from tests.unit.appliance.install.test_jobdesk import ask, desk_of, ended

pytestmark = pytest.mark.slow  # whole sites and processes, a second and more each

__all__ = ["two_lines"]  # a fixture
ANA, *_ = signatories()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(tmp_path)


def versions(site: Site, count: int) -> list[str]:
    return [store_version(site.config, serial=n, weights=b"GGUF %d" % n)[1].model_digest for n in range(1, count + 1)]


def followed(site: Site) -> tuple[Kind, str]:
    """Ask for the job that follows now, which the job service must take."""
    kind, named = switch_for(site.client.current(), warm=False)
    desk = desk_of(site, FakeSupervisor())
    ended(desk, ask(desk, "jobs-operator", kind=str(kind), digest=named)["job"])
    return kind, named


def test_with_one_line_the_job_names_what_serves_or_what_was_stopped(site: Site) -> None:
    old, new = versions(site, 2)
    site.promote(old)
    site.promote(new)
    assert followed(site) == (Kind.SWITCH, new)
    assert switch_for(site.client.current(), warm=True) == (Kind.SWITCH_WARM, new)
    assert kept_warm(site.folder.production(), site.ledger) == (old,)
    site.client.stop(person=ANA.id, reason="to be sure")
    assert followed(site) == (Kind.HALT, new)


def test_with_several_lines_it_names_the_version_of_the_line_that_was_decided_about(site: Site) -> None:
    old, classes, anew = versions(site, 3)
    site.promote(old)
    number = lines.open_line(site, classes)
    assert followed(site) == (Kind.SWITCH, classes)
    lines.stop_line(site, 1)
    assert followed(site) == (Kind.HALT, old)
    lines.bring(site, anew, number)
    assert followed(site) == (Kind.SWITCH, anew)
    lines.go_back(site, classes, number)
    assert followed(site) == (Kind.SWITCH, classes)
    lines.record(site, Happened.STOPPED, {"previous": None, **lines.alone()})
    assert followed(site) == (Kind.HALT, classes)


def test_what_stays_warm_is_the_version_before_in_the_line_that_was_asked_for(site: Site) -> None:
    old, new, classes, anew = versions(site, 4)
    site.promote(old)
    number = lines.open_line(site, classes)
    lines.bring(site, anew, number)
    assert kept_warm(site.folder.production(), site.ledger) == ()  # nobody asked for it
    desk = desk_of(site, FakeSupervisor())
    ended(desk, ask(desk, "jobs-operator", kind="switch-production-warm", digest=anew)["job"])

    site.promote(new)
    assert kept_warm(site.folder.production(), site.ledger) == (classes,)
    lines.stop_line(site, number)
    assert kept_warm(site.folder.production(), site.ledger) == ()


def test_promoting_what_another_line_serves_already_changes_nothing(two: Two) -> None:
    before = two.floor.site.ledger.head().size

    facts = promote(two.floor.here, two.other.model_digest, person=ANA.id)

    assert (facts.step, two.floor.site.ledger.head().size) == (Step.SERVING, before)


def aborted(two: Two) -> None:
    """Start a canary of the line for classes, and end it without its engine, as where the power fails."""
    floor, new = two.floor, two.new.model_digest
    lines.start_canary(floor.site, requested(floor, two.new), two.number)
    settle(floor.here)
    terms = Terms(version=new, percent=20, hours=48, watch_hours=48).to_json()
    serves = {"previous": two.other.model_digest, "model_digest": two.other.model_digest, "line": two.number}
    lines.record(floor.site, Happened.CANARY_ABORTED, {**serves, "terms": terms, **lines.alone()})


def test_the_judge_s_look_finishes_a_line_s_rollout_though_another_line_has_the_last_word(two: Two) -> None:
    floor = two.floor
    aborted(two)
    second = floor.bring("second")
    floor.site.approve(requested(floor, second), *signatories()[:2])
    floor.site.client.promote(floor.site.client.pending()[-1].statement.sha256)
    assert unit_of(two.new) in floor.running()

    canary.judge(floor.here)

    assert floor.running() == {unit_of(second), unit_of(two.other)}


def test_the_judge_s_look_leaves_what_another_line_keeps_warm(two: Two) -> None:
    floor = two.floor
    second = floor.bring("second")
    floor.serve(second, keep_warm=True)
    assert unit_of(two.first) in floor.running()
    aborted(two)
    canary.judge(floor.here)
    floor.supervisor.start(unit_of(two.first))

    assert canary.judge(floor.here)["stopped"] == []
    floor.supervisor.start(unit_of(two.new))
    assert unit_of(two.new) in canary.judge(floor.here)["stopped"]


def test_while_a_line_s_canary_runs_what_somebody_stopped_in_another_stays_stopped(two: Two) -> None:
    floor = two.floor
    lines.start_canary(floor.site, requested(floor, two.new), two.number)
    settle(floor.here)
    floor.supervisor.stop(unit_of(two.first))

    assert canary.judge(floor.here)["started"] == []
    floor.supervisor.stop(unit_of(two.new))
    assert unit_of(two.new) in canary.judge(floor.here)["started"]


@pytest.mark.parametrize(
    ("instance", "following"),
    [
        ("follow", Following()),
        ("warm", Following(is_warm=True)),
        ("line-2", Following(line=2)),
        ("but-12", Following(rests=12)),
        ("line-0", Following()),
        ("but-2x", Following()),
    ],
)
def test_a_unit_that_switches_does_what_its_instance_says(instance: str, following: Following) -> None:
    assert Following.of(instance) == following
