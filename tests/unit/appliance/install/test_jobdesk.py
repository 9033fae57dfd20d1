"""The desk of jobs over a site in one process: what it checks again, how lanes keep jobs apart, what it records."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import (
    ConflictError,
    HostChangeError,
    JobRefusedError,
    NotInstalledError,
    NotPromotedError,
    PrivilegeError,
)
from appliance.install import engines, jobrights, plans, planunit
from appliance.install.engines import Linked
from appliance.install.jobdesk import JobDesk
from appliance.install.joboutcome import Outcome
from appliance.install.releases import InstalledRelease, InstalledReleases
from appliance.install.supervisor import engine_unit
from appliance.registry import evidence
from appliance.wire import Peer
from media.digest import sha256_hex
from tests.support.hostplans import make_plan
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories
from tests.support.supervisor import FakeSupervisor
from tests.support.versions import store_version


class Gate(FakeSupervisor):
    """A runner whose units end when the test lets them."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()

    def start(self, unit: str) -> None:
        super().start(unit)
        assert self.opened.wait(10)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(tmp_path)


def desk_of(site: Site, runner: FakeSupervisor) -> JobDesk:
    return JobDesk(site.config, site.ledger, supervisor=FakeSupervisor(), runner=runner)


def ask(desk: JobDesk, door: str, do: str = "ask", **message: Any) -> Mapping[str, Any]:
    return desk(Peer(door=door, pid=1, uid=os.getuid(), gid=0), {"do": do, **message})


def ended(desk: JobDesk, number: int) -> Mapping[str, Any]:
    assert desk._courses[number].ended.wait(10)
    return ask(desk, "jobs-operator", "show", job=number)


def test_a_long_job_tells_its_progress_and_ends_as_its_unit_says(site: Site) -> None:
    _, descriptor = store_version(site.config)
    runner = Gate()
    desk = desk_of(site, runner)
    number = ask(desk, "jobs-admin", kind="validate", digest=descriptor.model_digest, person="ana")["job"]

    ask(desk, "jobs-bench", "progress", step="integrity", done=1, total=3)
    shown = ask(desk, "jobs-admin", "show", job=number)
    assert (shown["state"], shown["step"], shown["done"], shown["total"]) == ("running", "integrity", 1, 3)
    ask(desk, "jobs-bench", "outcome", **Outcome(ok=True, digest="cd" * 32).to_json())
    runner.opened.set()

    assert ended(desk, number)["state"] == "done"
    assert [leaf.body["ok"] for leaf in site.ledger.find(kind="job.done")] == [True]
    assert site.ledger.leaf(number).body["person"] == "ana"


def test_what_sets_the_clock_tells_nothing_of_another_job_in_its_lane(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobrights, "_uid", lambda account: 54321 if account == "sealift-clock-set" else -1)
    runner = Gate()
    store_version(site.config)
    desk = desk_of(site, runner)
    number = ask(desk, "jobs-operator", kind="plan", serial=1)["job"]

    with pytest.raises(PrivilegeError, match="may not tell how plan goes"):
        desk(Peer(door="jobs-receive", pid=1, uid=54321, gid=0), {"do": "outcome", **Outcome(ok=True).to_json()})
    runner.opened.set()

    ended(desk, number)


def test_jobs_of_one_lane_run_one_after_another_and_the_same_one_once(site: Site) -> None:
    first, second = (store_version(site.config, serial=n, weights=b"GGUF %d" % n)[1].model_digest for n in (1, 2))
    runner = Gate()
    desk = desk_of(site, runner)
    number = ask(desk, "jobs-operator", kind="validate", digest=first)["job"]

    assert ask(desk, "jobs-operator", kind="validate", digest=first)["job"] == number
    with pytest.raises(ConflictError):
        ask(desk, "jobs-operator", kind="validate", digest=second)
    other_lane = ask(desk, "jobs-operator", kind="plan", serial=1)["job"]
    runner.opened.set()

    assert ended(desk, number)["state"] == "failed"
    assert ended(desk, other_lane)["state"] == "failed"
    assert len(site.ledger.find(kind="job.asked")) == 2
    assert ask(desk, "jobs-operator", kind="validate", digest=second)["job"] != number


class Plans(FakeSupervisor):
    """Starts the unit of plans as it is: it has no door, and leaves how it ended in the folder of plans."""

    def __init__(self, site: Site, outcome: Outcome) -> None:
        super().__init__(broken=frozenset() if outcome.ok else frozenset({"sealift-plan@1.service"}))
        self.site, self.outcome = site, outcome

    def start(self, unit: str) -> None:
        plans.folder(self.site.config.at).mkdir(parents=True, exist_ok=True)
        planunit.tell(self.site.config.at, 1, self.outcome)
        super().start(unit)


def test_what_is_decided_while_engines_follow_a_decision_is_followed_after_it(site: Site) -> None:
    """Scenario: a version loads, somebody sees that it is the wrong one, and stops production."""
    served, ana = store_version(site.config)[1].model_digest, signatories()[0]
    runner = Gate()
    desk = desk_of(site, runner)
    site.promote(served)
    first = ask(desk, "jobs-admin", kind="switch-production", digest=served)["job"]
    site.client.stop(person=ana.id, reason="wrong answers")

    halt = ask(desk, "jobs-admin", kind="halt-production", digest=served)["job"]
    assert ask(desk, "jobs-operator", kind="halt-production", digest=served)["job"] == halt
    shown = ask(desk, "jobs-operator", "show", job=halt)
    assert (shown["state"], shown["step"], len(runner.asked)) == ("running", "waiting", 1)
    with pytest.raises(ConflictError, match="has to wait"):
        ask(desk, "jobs-operator", kind="validate-in-window", digest=served, person=ana.id, reason="x", minutes=30)
    runner.opened.set()

    for number in (first, halt):
        ended(desk, number)
    assert runner.asked == [("start", "sealift-switch@follow.service")] * 2
    assert desk.is_idle


def test_how_a_plan_ended_is_read_from_what_its_unit_left(site: Site) -> None:
    store_version(site.config, serial=1)
    made = ended(desk := desk_of(site, Plans(site, Outcome(ok=True, digest="cd" * 32))), plan_of(desk))
    failed = Outcome.of_error(HostChangeError(what="the task 'X' failed", why="so it is", fix="look"))
    told = ended(desk := desk_of(site, Plans(site, failed)), plan_of(desk))

    assert (made["state"], made["outcome"]["digest"]) == ("done", "cd" * 32)
    assert (told["state"], told["outcome"]["what"]) == ("failed", "the task 'X' failed")


def plan_of(desk: JobDesk) -> int:
    return int(ask(desk, "jobs-operator", kind="plan", serial=1)["job"])


def test_a_unit_that_fails_without_a_word_fails_its_job(site: Site) -> None:
    _, descriptor = store_version(site.config)
    unit = f"sealift-validate@{descriptor.model_digest}.service"
    desk = desk_of(site, FakeSupervisor(broken=frozenset({unit})))

    shown = ended(desk, ask(desk, "jobs-operator", kind="validate", digest=descriptor.model_digest)["job"])

    assert (shown["state"], shown["outcome"]["code"]) == ("failed", "unit")


def test_stopped_production_is_halted_only_while_the_stop_is_the_last_word(site: Site) -> None:
    _, descriptor = store_version(site.config)
    served, ana = descriptor.model_digest, signatories()[0]
    runner = FakeSupervisor()
    desk = desk_of(site, runner)
    site.promote(served)
    site.client.stop(person=ana.id, reason="maintenance")

    ended(desk, ask(desk, "jobs-operator", kind="halt-production", digest=served)["job"])
    assert runner.asked == [("start", "sealift-switch@follow.service")]
    with pytest.raises(JobRefusedError):
        ask(desk, "jobs-operator", kind="halt-production", digest=digest("other"))
    with pytest.raises(NotPromotedError):
        ask(desk, "jobs-operator", kind="switch-production", digest=served)
    site.promote(served)
    with pytest.raises(JobRefusedError):
        ask(desk, "jobs-operator", kind="halt-production", digest=served)
    with pytest.raises(JobRefusedError):
        ask(desk, "jobs-switch", kind="stop-production-engine", digest12=served[:12])
    assert ask(desk, "jobs-switch", kind="start-production-engine", digest12=served[:12])["state"] == "done"


def test_an_altered_promotion_starts_nothing(site: Site) -> None:
    _, descriptor = store_version(site.config)
    site.promote(descriptor.model_digest)
    place = site.config.at.promoter / "promotions/000001.json"
    place.chmod(0o600)
    place.write_bytes(place.read_bytes().replace(b'"reason":""', b'"reason":"x"'))

    with pytest.raises(NotPromotedError):
        ask(
            desk_of(site, FakeSupervisor()),
            "jobs-switch",
            kind="start-production-engine",
            digest12=descriptor.model_digest[:12],
        )
    assert site.ledger.find(kind="job.asked") == []


def test_documents_are_read_by_digest_and_only_by_people(site: Site) -> None:
    _, descriptor = store_version(site.config)
    desk, plan = desk_of(site, FakeSupervisor()), make_plan()
    plans.keep(site.config.at, plan)
    kept = evidence.store(site.config.at, {"model_digest": descriptor.model_digest})

    for what, name in (("descriptor", descriptor.model_digest), ("evidence", kept), ("plan", plan.digest)):
        assert sha256_hex(ask(desk, "jobs-operator", what, digest=name)["text"].encode()) == name
        for door in ("jobs-bench", "jobs-switch"):
            with pytest.raises(PrivilegeError):
                ask(desk, door, what, digest=name)


def test_an_engine_runs_from_the_environment_its_version_was_validated_in(site: Site) -> None:
    _, descriptor = store_version(site.config)
    places, releases = site.config.at, InstalledReleases(site.config.at)
    for serial, environment in ((1, descriptor.environment), (2, "d" * 64)):
        releases.folder(serial).mkdir(parents=True)
        releases.write(
            InstalledRelease(
                serial=serial, release=f"r{serial}", environments={"engine-llama-cpp": environment}, host_files="e" * 64
            )
        )
    releases.switch(2)
    inner = FakeSupervisor()

    Linked(inner, places).start(engine_unit("production", descriptor.model_digest))

    link = places.current.parent / "engines" / descriptor.model_digest[:12]
    assert link.resolve() == (releases.folder(1) / "engine-llama-cpp").resolve()
    assert inner.asked == [("start", engine_unit("production", descriptor.model_digest))]
    Linked(inner, places).start(engine_unit("production", descriptor.model_digest, "cpu"))
    assert link.with_name(f"{link.name}-cpu").resolve() == link.resolve()
    (releases.folder(1) / "installed.json").unlink()
    with pytest.raises(NotInstalledError, match=descriptor.model_digest[:12]):
        engines.link(places, descriptor.model_digest[:12])
