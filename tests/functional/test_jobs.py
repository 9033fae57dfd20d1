"""Root steps by typed jobs: the commands of people, the units that carry jobs out, and every forged job there is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.audit.socket_ledger import SocketLedger
from appliance.install.jobclient import JobsClient, JobsSupervisor
from appliance.install.supervisor import UnitState, engine_unit
from appliance.wire import Line, RemoteError
from tests.support.jobs import UnitRunner, job_service
from tests.support.promoting import bring, enrol_all, homes, serve, site
from tests.support.running_site import Run, RunningSite, as_json, runner

pytestmark = pytest.mark.slow

__all__ = ["homes", "site"]


@pytest.fixture
def units(site: RunningSite) -> Iterator[UnitRunner]:
    with job_service(site.config, site.supervisor) as running:
        yield running


@pytest.fixture
def sealift(site: RunningSite, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(site, capsys)


def refusal(site: RunningSite, door: str, **message: Any) -> str:
    line = Line(site.config.at.socket(door))
    try:
        with pytest.raises(RemoteError) as caught:
            line.call("ask", **message)
    finally:
        line.close()
    return str(caught.value.to_json()["code"])


def test_people_validate_promote_and_stop_by_jobs_alone(
    site: RunningSite, units: UnitRunner, sealift: Run, homes: dict[str, Path]
) -> None:
    enrol_all(site, sealift, homes)
    digest = bring(site, 1)

    assert serve(sealift, digest, homes)["step"] == "serving"
    stopped = as_json(sealift, "stop", "--as", "eva-rossi", "--reason", "maintenance")["stopped"]

    assert stopped == [engine_unit("production", digest)]
    assert units.asked == [f"sealift-validate@{digest}.service", *["sealift-switch@follow.service"] * 2]
    ledger = SocketLedger(site.config.at.socket("ledger-actions"))
    try:
        asked = {leaf.sequence: leaf.body for leaf in ledger.find(kind="job.asked", limit=100)}
        done = {leaf.body["job"]: leaf.body for leaf in ledger.find(kind="job.done", limit=100)}
    finally:
        ledger.close()
    assert asked.keys() == done.keys()
    assert all(body["ok"] is True for body in done.values())
    assert {body["kind"] for body in asked.values()} == {
        *("validate", "start-test-engine", "stop-test-engine", "kill-test-engine"),
        *("start-production-engine", "stop-production-engine"),
        *("switch-production", "halt-production"),
    }


def test_a_job_that_nobody_decided_is_refused_and_not_recorded(
    site: RunningSite, sealift: Run, homes: dict[str, Path]
) -> None:
    enrol_all(site, sealift, homes)
    digest, other = bring(site, 1), bring(site, 2)
    serve(sealift, digest, homes)
    ledger = SocketLedger(site.config.at.socket("ledger-actions"))
    before = ledger.head().size

    with job_service(site.config, site.supervisor) as units:
        # A version that two people did not bring to production, or none of this machine's.
        assert refusal(site, "jobs-operator", kind="switch-production", digest=other) == "not-promoted"
        assert refusal(site, "jobs-switch", kind="start-production-engine", digest12=other[:12]) == "not-promoted"
        assert refusal(site, "jobs-operator", kind="switch-production", digest="a" * 64) == "unknown-version"
        assert refusal(site, "jobs-bench", kind="start-test-engine", digest12="a" * 12) == "unknown-version"
        # What serves is taken away by a person's stop alone.
        assert refusal(site, "jobs-switch", kind="stop-production-engine", digest12=digest[:12]) == "job-refused"
        assert refusal(site, "jobs-operator", kind="halt-production", digest=digest) == "job-refused"
        assert refusal(site, "jobs-operator", kind="install", serial=9) == "unknown-release"
        assert refusal(site, "jobs-operator", kind="plan", serial=9) == "unknown-release"

    assert ledger.head().size == before
    assert units.asked == []
    assert site.supervisor.state(engine_unit("production", digest)) is UnitState.ACTIVE
    ledger.close()


def test_each_door_asks_for_its_own_kinds_and_only_the_carrier_tells_how_a_job_goes(
    site: RunningSite, units: UnitRunner
) -> None:
    digest = bring(site, 1)

    assert refusal(site, "jobs-bench", kind="start-production-engine", digest12=digest[:12]) == "privilege"
    assert refusal(site, "jobs-bench", kind="validate", digest=digest) == "privilege"
    assert refusal(site, "jobs-switch", kind="start-test-engine", digest12=digest[:12]) == "privilege"
    assert refusal(site, "jobs-switch", kind="install", serial=1) == "privilege"
    assert refusal(site, "jobs-admin", kind="start-production-engine", digest12=digest[:12]) == "privilege"
    assert refusal(site, "jobs-operator", kind="start-production-engine", digest12=digest[:12]) == "privilege"
    for door in ("jobs-admin", "jobs-bench"):
        jobs = JobsClient.open(site.config, door)
        with pytest.raises(RemoteError):
            jobs.tell_progress("integrity", 1, 2)
        jobs.close()
    bench = JobsClient.open(site.config, "jobs-bench")
    with pytest.raises(RemoteError):
        bench.jobs()
    JobsSupervisor(bench).stop(engine_unit("test", digest))
    with pytest.raises(RemoteError):
        JobsSupervisor(bench).start(engine_unit("production", digest))
    bench.close()
    assert units.asked == []
