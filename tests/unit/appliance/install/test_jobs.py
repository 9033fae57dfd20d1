"""Typed jobs: what a message may say, who may say it, and what its unit is made from."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import PrivilegeError, UnitError
from appliance.install import jobrights
from appliance.install.jobclient import JobsSupervisor
from appliance.install.joboutcome import Outcome, step_of
from appliance.install.jobs import ENGINE_KINDS, LANES, WINDOWS, Job, Kind, Lane, engine_kind
from appliance.install.supervisor import engine_unit, require_unit_name
from appliance.wire import Peer, RemoteError
from media.errors import MediaError, SealiftError

DIGEST = "ab" * 32
NAMED: dict[Kind, dict[str, Any]] = {
    **{kind: {"digest12": DIGEST[:12]} for kind in ENGINE_KINDS},
    **{kind: {"digest": DIGEST} for kind in (Kind.VALIDATE, Kind.SWITCH, Kind.SWITCH_WARM, Kind.HALT, Kind.SET_CLOCK)},
    Kind.ROTATE: {"digest": DIGEST},
    **{kind: {"digest": DIGEST} for kind in (*WINDOWS, Kind.END_WINDOW)},
    **{kind: {"serial": 3} for kind in (Kind.PLAN, Kind.INSTALL)},
    **{kind: {"medium": "sdb1"} for kind in (Kind.RECEIVE, Kind.EJECT)},
    Kind.CARRY_EXPORT: {"medium": "sdb1", "digest": DIGEST},
    Kind.MAKE_EVIDENCE: {"record": 7, "digest": DIGEST},
    Kind.REPORT: {"quarter": "2026Q4"},
    Kind.PROVE: {"record": 7},
}


def message(kind: object, **fields: Any) -> dict[str, Any]:
    return {"do": "ask", "kind": kind, **fields}


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_names_one_thing_and_one_unit_of_ours(kind: Kind) -> None:
    more = {"reason": "change 4711", "minutes": 30} if kind in WINDOWS else {}
    job = Job.from_message(message(str(kind), **NAMED[kind], person="iris", **more))

    assert job.named == NAMED[kind]
    assert require_unit_name(job.unit) == job.unit
    assert (job.lane is None) is (kind in ENGINE_KINDS or kind in {Kind.EJECT, Kind.END_WINDOW})
    assert job.to_json() == {"kind": str(kind), **NAMED[kind], "person": "iris"}


@pytest.mark.parametrize(
    "forged",
    [
        {},
        {"kind": "start-unit", "unit": "ssh.service"},
        {"kind": "install", "serial": 1, "path": "/tmp/release"},
        {"kind": "install", "serial": 1, "digest": DIGEST},
        {"kind": "install", "serial": "1"},
        {"kind": "install", "serial": 0},
        {"kind": "install", "serial": -1},
        {"kind": "install", "serial": True},
        {"kind": "install", "serial": 2**31},
        {"kind": "install"},
        {"kind": "validate", "digest": DIGEST[:12]},
        {"kind": "validate", "digest": f"{DIGEST}\n"},
        {"kind": "validate", "digest": DIGEST.upper()},
        {"kind": "validate", "digest": "../../etc/passwd"},
        {"kind": "start-test-engine", "digest12": DIGEST},
        {"kind": "start-test-engine", "digest12": f"{DIGEST[:11]}/"},
        {"kind": "start-test-engine", "digest12": [DIGEST[:12]]},
        {"kind": "stop-test-engine", "digest12": DIGEST[:12], "stage": "production"},
        {"kind": "start-test-engine", "digest12": DIGEST[:12], "which": "2"},
        {"kind": "start-production-engine", "digest12": DIGEST[:12], "which": "1"},
        {"kind": "start-production-engine", "digest12": DIGEST[:12], "which": "2/../../x"},
        {"kind": "start-production-engine", "digest12": DIGEST[:12], "which": 2},
        {"kind": ["install"], "serial": 1},
        {"kind": "install", "serial": 1, "person": "iris; id"},
        {"kind": "install", "serial": 1, "person": {"id": "iris"}},
        {"kind": "receive", "medium": "../sdb1"},
        {"kind": "receive", "medium": "sdb1/../../etc"},
        {"kind": "receive", "medium": "sdb1", "serial": 1},
        {"kind": "eject", "medium": "sdb1\n"},
        {"kind": "eject", "medium": "SDB1"},
        {"kind": "eject", "medium": "-l"},
        {"kind": "eject"},
        {"kind": "make-report", "quarter": "2026Q5"},
        {"kind": "make-report", "quarter": "2026Q4\n"},
        {"kind": "make-report", "quarter": "due"},
        {"kind": "make-report", "quarter": 20264},
        {"kind": "validate-in-window", "digest": DIGEST},
        {"kind": "validate-in-window", "digest": DIGEST, "reason": "", "minutes": 30},
        {"kind": "validate-in-window", "digest": DIGEST, "reason": "x\n", "minutes": 30, "unit": "ssh.service"},
        {"kind": "cut-over-in-window", "digest": DIGEST, "reason": "x", "minutes": 0},
        {"kind": "validate", "digest": DIGEST, "reason": "x", "minutes": 30},
        {"kind": "prove-answer", "record": -1},
        {"kind": "prove-answer", "record": "7"},
        {"kind": "prove-answer", "record": 7, "request": "req_one"},
        {"kind": "carry-export", "medium": "sdb1"},
        {"kind": "make-evidence", "record": -1, "digest": DIGEST},
        {"kind": "make-evidence", "record": "7", "digest": DIGEST},
        {"kind": "carry-export", "medium": "sdb1", "digest": DIGEST, "path": "/etc/shadow"},
    ],
)
def test_a_forged_job_is_malformed(forged: dict[str, Any]) -> None:
    with pytest.raises(MediaError):
        Job.from_message({"do": "ask", **forged})


@given(
    st.dictionaries(
        st.sampled_from(
            ["kind", "digest", "digest12", "serial", "medium", "person", "unit", "which", "reason", "minutes"]
        ),
        st.one_of(
            st.sampled_from([*map(str, Kind), DIGEST, DIGEST[:12], "2", "cpu"]), st.text(max_size=70), st.integers()
        ),
    )
)
def test_whatever_is_asked_becomes_a_unit_of_digits_or_an_error_of_ours(untrusted: dict[str, Any]) -> None:
    try:
        job = Job.from_message({"do": "ask", **untrusted})
    except SealiftError:
        return
    further = job.which and f"-{job.which}"
    instance = job.unit.partition("@")[2].removesuffix(".service").removesuffix(further).removesuffix("-try")
    assert instance in {job.digest, job.digest12, str(job.serial), job.medium, "follow", "warm"}
    assert require_unit_name(job.unit)


@pytest.mark.parametrize(
    ("door", "kinds"),
    [
        (jobrights.ADMIN, (set(LANES) | {Kind.EJECT}) - set(WINDOWS)),
        (
            jobrights.OPERATOR,
            set(LANES) | {Kind.EJECT, Kind.START_TEST, Kind.STOP_TEST, Kind.KILL_TEST, Kind.END_WINDOW},
        ),
        (jobrights.BENCH, {Kind.START_TEST, Kind.STOP_TEST, Kind.KILL_TEST}),
        (jobrights.SWITCH, {Kind.START_PRODUCTION, Kind.STOP_PRODUCTION}),
        ("jobs-other", set()),
    ],
)
def test_each_door_asks_for_its_own_kinds(door: str, kinds: set[Kind]) -> None:
    peer = Peer(door=door, pid=1, uid=os.getuid(), gid=0)
    for kind in Kind:
        if kind in kinds:
            jobrights.require_may_ask(peer, kind)
            continue
        with pytest.raises(PrivilegeError):
            jobrights.require_may_ask(peer, kind)


@pytest.mark.parametrize("door", jobrights.DOORS)
def test_a_stranger_enters_no_door(door: str) -> None:
    jobrights.require_may_enter(Peer(door=door, pid=1, uid=os.getuid(), gid=0))

    with pytest.raises(PrivilegeError):
        jobrights.require_may_enter(Peer(door=door, pid=1, uid=54321, gid=0))


def test_what_writes_an_export_reads_and_tells_of_its_job_and_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    users = {"sealift-receive": 777, "sealift-export": 778}
    monkeypatch.setattr(jobrights, "_uid", lambda account: users.get(account, -1))
    receives, writes = (Peer(door=jobrights.RECEIVE, pid=1, uid=uid, gid=uid) for uid in (777, 778))

    for peer in (receives, writes):
        jobrights.require_may_enter(peer)
        assert jobrights.lane_of(peer) is Lane.MEDIA
        with pytest.raises(PrivilegeError):
            jobrights.require_may_ask(peer, Kind.CARRY_EXPORT)
    jobrights.require_may_read(writes)
    with pytest.raises(PrivilegeError):
        jobrights.require_may_read(receives)
    for door in set(jobrights.DOORS) - {jobrights.RECEIVE}:
        with pytest.raises(PrivilegeError):
            jobrights.require_may_enter(Peer(door=door, pid=1, uid=778, gid=778))


def test_what_sets_the_clock_tells_of_that_job_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobrights, "_uid", lambda account: 779 if account == "sealift-clock-set" else -1)
    sets = Peer(door=jobrights.RECEIVE, pid=1, uid=779, gid=779)

    jobrights.require_may_enter(sets)
    assert jobrights.lane_of(sets) is Lane.HOST
    jobrights.require_may_tell(sets, Kind.SET_CLOCK)
    for kind in set(Kind) - {Kind.SET_CLOCK}:
        with pytest.raises(PrivilegeError):
            jobrights.require_may_tell(sets, kind)
        jobrights.require_may_tell(Peer(door=jobrights.OPERATOR, pid=1, uid=os.getuid(), gid=0), kind)
    with pytest.raises(PrivilegeError):
        jobrights.require_may_read(sets)
    for door in set(jobrights.DOORS) - {jobrights.RECEIVE}:
        with pytest.raises(PrivilegeError):
            jobrights.require_may_enter(Peer(door=door, pid=1, uid=779, gid=779))


def test_a_peer_tells_only_of_the_lane_it_carries_out() -> None:
    own = os.getuid()
    lanes = {door: jobrights.lane_of(Peer(door=door, pid=1, uid=own, gid=0)) for door in jobrights.DOORS[1:]}

    assert lanes == {
        "jobs-operator": Lane.HOST,
        "jobs-bench": Lane.BENCH,
        "jobs-switch": Lane.PRODUCTION,
        "jobs-receive": Lane.MEDIA,
    }
    for peer in (
        Peer(door=jobrights.ADMIN, pid=1, uid=own, gid=0),
        Peer(door=jobrights.OPERATOR, pid=1, uid=54321, gid=0),
    ):
        with pytest.raises(PrivilegeError):
            jobrights.lane_of(peer)


def test_an_engines_unit_is_asked_for_by_its_stage_and_nothing_else_is() -> None:
    assert engine_kind("start", engine_unit("test", DIGEST)) == (Kind.START_TEST, {"digest12": DIGEST[:12]})
    stopped = (Kind.STOP_PRODUCTION, {"digest12": DIGEST[:12]})
    assert engine_kind("stop", engine_unit("production", DIGEST)) == stopped
    further = {"digest12": DIGEST[:12], "which": "cpu"}
    assert engine_kind("start", engine_unit("production", DIGEST, "cpu")) == (Kind.START_PRODUCTION, further)
    assert engine_kind("start", "sealift-ledger.service") is None
    with pytest.raises(UnitError):
        JobsSupervisor(None).start("sealift-ledger.service")  # type: ignore[arg-type]


def test_an_outcome_reads_back_and_raises_what_the_job_ended_with() -> None:
    error = UnitError(what="it did not start", why="no\x1b[31m memory", fix="buy more")
    outcome = Outcome.of_error(error, digest=DIGEST)

    assert Outcome.from_json(outcome.to_json()) == outcome
    assert "\x1b" not in outcome.why
    with pytest.raises(RemoteError) as caught:
        outcome.require_ok()
    assert (caught.value.remote_exit_code, caught.value.remote_code) == (53, "unit")
    assert Outcome(ok=True).require_ok().ok


@pytest.mark.parametrize(
    "change",
    [
        {"ok": 1},
        {"digest": "x"},
        {"started": ["ssh.service"]},
        {"started": ["sealift-ledger.service"] * 17},
        {"exit_code": 256},
        {"what": "w" * 401},
        {"why": "\x1b[31m"},
        {"path": "/etc/passwd"},
    ],
)
def test_an_outcome_of_another_shape_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SealiftError):
        Outcome.from_json({**Outcome(ok=True).to_json(), **change})


@pytest.mark.parametrize("untrusted", ["", "Integrity", "a b", "x" * 41, 3, "<b>"])
def test_a_step_is_one_short_word(untrusted: object) -> None:
    with pytest.raises(SealiftError):
        step_of(untrusted)
    assert step_of("task-evaluation") == "task-evaluation"


def test_the_desk_of_jobs_opens_no_path_and_runs_no_command_itself() -> None:
    source = (Path(jobrights.__file__).parent / "jobdesk.py").read_text()

    assert "Path(" not in source
    assert "subprocess" not in source
