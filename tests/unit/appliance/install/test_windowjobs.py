"""Windows over a site in one process: what rests, what comes back, who may end it, whatever becomes of the asker."""

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from appliance.audit.facts import Appended
from appliance.config import DatabaseSection
from appliance.errors import ConflictError, JobRefusedError, PrivilegeError, UnitError, UnknownPersonError
from appliance.install.jobdesk import JobDesk
from appliance.install.joboutcome import Outcome
from appliance.install.jobs import Job, Kind
from appliance.install.supervisor import UnitState, engine_unit
from appliance.registry import windows
from appliance.wire import Peer
from media.errors import MalformedError
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories
from tests.support.supervisor import FakeSupervisor
from tests.support.versions import store_version

ANA, *_ = signatories()
BACK = "sealift-switch@follow.service"


class Runner(FakeSupervisor):
    """Its gates end when the test lets them, or when they are stopped; its switch starts what serves."""

    def __init__(self, engines: FakeSupervisor, serves: str) -> None:
        super().__init__()
        self.opened, self.begun = threading.Event(), threading.Event()
        self.engines, self.serves = engines, serves
        self.begins: Callable[[str], None] = lambda _unit: None
        self.is_its_desk_gone = False

    def start(self, unit: str) -> None:
        super().start(unit)
        self.begins(unit)
        if unit == BACK:
            self.engines.start(self.serves)
            return
        self.begun.set()
        assert self.opened.wait(10)
        if self.states[unit] is UnitState.INACTIVE:
            raise UnitError(what=f"{unit} did not start", why="it was stopped", fix="")

    def stop(self, unit: str) -> None:
        super().stop(unit)
        if not self.is_its_desk_gone:  # else nobody is there to whom it would say that it was stopped
            self.opened.set()


class Box:
    """A site that serves one version and holds another."""

    def __init__(self, folder: Path) -> None:
        self.site: Site = open_site(folder)
        self.old, self.new = (
            store_version(self.site.config, serial=n, weights=b"GGUF %d" % n)[1].model_digest for n in (1, 2)
        )
        self.site.promote(self.old)
        self.engines = FakeSupervisor()
        self.serving, self.tested = engine_unit("production", self.old), engine_unit("test", self.new)
        self.engines.start(self.serving)
        self.engines.asked.clear()
        self.runner = Runner(self.engines, self.serving)
        self.desk = JobDesk(self.site.config, self.site.ledger, supervisor=self.engines, runner=self.runner)

    def ask(self, do: str = "ask", door: str = "jobs-operator", **message: Any) -> Mapping[str, Any]:
        return self.desk(Peer(door=door, pid=1, uid=os.getuid(), gid=0), {"do": do, **message})

    def open(self, kind: str = "validate-in-window", **changes: Any) -> int:
        """Ask for a window and return once its unit runs and its engine is up."""
        asked = {"digest": self.new, "person": ANA.id, "reason": "change 4711", "minutes": 30, **changes}
        number = int(self.ask(kind=kind, **asked)["job"])
        assert self.runner.begun.wait(10)
        self.ask(door="jobs-bench", kind="start-test-engine", digest12=self.new[:12])
        return number

    def ended(self, number: int) -> Mapping[str, Any]:
        assert self.desk._courses[number].ended.wait(10)
        return self.ask("show", job=number)

    def cut_off(self, model_digest: str = "") -> None:
        """Record a window as opened that nobody carries out."""
        asked = windows.Asked(
            purpose=windows.Purpose.VALIDATE, model_digest=model_digest or self.new, person=ANA.id, reason="x"
        )
        windows.open_now(self.site.ledger, self.site.clock, asked, previous=self.old)

    @property
    def closed(self) -> list[Mapping[str, Any]]:
        return [leaf.body for leaf in self.site.ledger.find(kind=windows.CLOSED)]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_production_rests_while_the_gates_run_and_comes_back(box: Box) -> None:
    number = box.open()
    assert (box.engines.state(box.serving), box.engines.asked[0]) == (UnitState.INACTIVE, ("rest", box.serving))
    (opened,) = box.site.ledger.find(kind=windows.OPENED)
    assert (opened.body["person"], opened.body["reason"], opened.body["previous"]) == (ANA.id, "change 4711", box.old)

    box.ask("outcome", door="jobs-bench", **Outcome(ok=True, digest="cd" * 32).to_json())
    box.runner.opened.set()

    shown = box.ended(number)
    assert (shown["state"], shown["outcome"]["digest"]) == ("done", "cd" * 32)
    assert box.engines.state(box.serving) is UnitState.ACTIVE
    assert box.engines.state(box.tested) is UnitState.INACTIVE
    (closed,) = box.closed
    assert (closed["window"], closed["why"], closed["cut_over"]) == (opened.sequence, "done", False)
    assert windows.opened(box.site.ledger) is None


def test_whoever_ends_it_stops_the_gates_and_gets_production_back(box: Box) -> None:
    number = box.open()

    box.ask(kind="end-window", digest=box.new, person=ANA.id)

    shown = box.ended(number)
    assert (shown["state"], shown["outcome"]["what"]) == ("failed", "the window was ended")
    assert ("stop", f"sealift-validate@{box.new}.service") in box.runner.asked
    assert box.engines.state(box.serving) is UnitState.ACTIVE
    assert box.engines.state(box.tested) is UnitState.INACTIVE
    assert box.closed[0]["why"] == "ended"


def test_at_its_deadline_production_comes_back_though_gates_hang(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows.Window, "seconds_left", lambda *_: 0.05)

    shown = box.ended(
        int(box.ask(kind="validate-in-window", digest=box.new, person=ANA.id, reason="x", minutes=1)["job"])
    )

    assert shown["outcome"]["why"] == "its time is over"
    assert box.engines.state(box.serving) is UnitState.ACTIVE
    assert box.closed[0]["why"] == "deadline"


def test_no_engine_of_production_starts_while_one_is_open(box: Box) -> None:
    number = box.open()

    with pytest.raises(JobRefusedError, match="no engine is started"):
        box.ask(door="jobs-switch", kind="start-production-engine", digest12=box.old[:12])
    for kind in ("switch-production", "validate"):
        with pytest.raises(ConflictError):
            box.ask(kind=kind, digest=box.old)
    assert box.engines.state(box.serving) is UnitState.INACTIVE
    box.runner.opened.set()
    box.ended(number)
    assert box.ask(door="jobs-switch", kind="start-production-engine", digest12=box.old[:12])["state"] == "done"


class Slow(FakeSupervisor):
    """Its first start takes until the test says so, and shows nothing before."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.may_end = threading.Event(), threading.Event()

    def start(self, unit: str) -> None:
        if not self.begun.is_set():
            self.begun.set()
            assert self.may_end.wait(10)
        super().start(unit)


class Starting:
    """Engines of production that are being started while a window opens: one is under way, one waits for its turn."""

    def __init__(self, box: Box) -> None:
        self.box, self.engines, self.refused = box, Slow(), list[JobRefusedError]()
        box.desk = JobDesk(box.site.config, box.site.ledger, supervisor=self.engines, runner=box.runner)
        box.runner.engines = self.engines
        self.threads = [self.begin(), self.begin()]

    def begin(self) -> threading.Thread:
        """Ask for the start of the engine in production and return once that is on record."""
        asked = len(self.box.site.ledger.find(kind="job.asked", limit=10)) + 1
        thread = threading.Thread(target=self.ask)
        thread.start()
        assert self.engines.begun.wait(10)
        until(lambda: len(self.box.site.ledger.find(kind="job.asked", limit=10)) == asked)
        return thread

    def ask(self) -> None:
        try:
            self.box.ask(door="jobs-switch", kind="start-production-engine", digest12=self.box.old[:12])
        except JobRefusedError as error:
            self.refused.append(error)

    def let_go(self) -> None:
        """Let the start that is under way come to its end, and wait until nobody starts anything any more."""
        self.engines.may_end.set()
        for thread in self.threads:
            thread.join(10)


def until(holds: Callable[[], bool]) -> None:
    for _ in range(500):
        if holds():
            return
        threading.Event().wait(0.02)
    raise AssertionError(holds)


def test_an_engine_that_is_being_started_while_a_window_opens_rests_too(box: Box) -> None:
    starting = Starting(box)
    asked: dict[str, Any] = {"digest": box.new, "person": ANA.id, "reason": "change 4711", "minutes": 30}
    number = int(box.ask(kind="validate-in-window", **asked)["job"])
    until(lambda: box.desk.keeps_production_down)

    starting.let_go()
    assert box.runner.begun.wait(10)

    assert starting.engines.state(box.serving) is UnitState.INACTIVE
    assert [error.why for error in starting.refused] == ["a maintenance window is open"]
    box.runner.opened.set()
    box.ended(number)
    assert starting.engines.state(box.serving) is UnitState.ACTIVE


def test_an_engine_of_the_test_stage_that_is_being_started_while_its_window_ends_is_stopped(box: Box) -> None:
    engines = Slow()
    box.desk = JobDesk(box.site.config, box.site.ledger, supervisor=engines, runner=box.runner)
    box.runner.engines = engines
    asked: dict[str, Any] = {"digest": box.new, "person": ANA.id, "reason": "change 4711", "minutes": 30}
    number = int(box.ask(kind="validate-in-window", **asked)["job"])
    assert box.runner.begun.wait(10)  # before that the window would wait for the start
    starting = threading.Thread(
        target=box.ask, kwargs={"door": "jobs-bench", "kind": "start-test-engine", "digest12": box.new[:12]}
    )
    starting.start()
    assert engines.begun.wait(10)
    box.runner.opened.set()
    until(lambda: box.ask("show", job=number)["step"] == "back")

    engines.may_end.set()
    starting.join(10)
    box.ended(number)

    assert engines.state(box.tested) is UnitState.INACTIVE


def test_one_that_was_cut_off_is_closed_by_the_next_process(box: Box) -> None:
    box.cut_off()
    box.engines.rest(box.serving)
    box.engines.start(box.tested)

    box.desk.look_after_windows()
    box.desk.look_after_windows()

    assert box.engines.state(box.serving) is UnitState.ACTIVE
    assert box.engines.state(box.tested) is UnitState.INACTIVE
    (closed,) = box.closed
    assert closed["why"] in {"cut-off", "deadline"}
    assert box.desk.is_idle


def test_a_window_of_another_node_is_left_to_it(box: Box) -> None:
    box.site.ledger.log.node = "a"
    box.cut_off()
    for node, is_left in (("b", True), ("a", False)):
        among = DatabaseSection(kind="postgresql", socket="/nowhere", node=node)
        config = box.site.config.model_copy(update={"database": among})
        JobDesk(config, box.site.ledger, supervisor=box.engines, runner=box.runner).look_after_windows()
        assert (windows.opened(box.site.ledger) is not None) is is_left


def test_a_window_of_another_node_is_not_closed_by_what_is_promoted_on_this_one(box: Box) -> None:
    def says(_unit: str) -> None:
        box.ask("outcome", door="jobs-switch", **Outcome(ok=True).to_json())

    box.site.ledger.log.node, box.runner.begins = "a", says
    box.cut_off()
    for node, is_left in (("b", True), ("a", False)):
        among = DatabaseSection(kind="postgresql", socket="/nowhere", node=node)
        config = box.site.config.model_copy(update={"database": among})
        box.desk = JobDesk(config, box.site.ledger, supervisor=box.engines, runner=box.runner)

        box.ended(int(box.ask(kind="switch-production", digest=box.old)["job"]))

        assert (windows.opened(box.site.ledger) is not None) is is_left


def test_a_node_that_was_taken_for_gone_breaks_its_window_off_once_it_hears_that_it_was_closed(box: Box) -> None:
    number = box.open()
    window = windows.opened(box.site.ledger)
    assert window is not None
    box.desk.look_after_windows()
    assert box.engines.state(box.serving) is UnitState.INACTIVE

    windows.close(box.site.ledger, window, why=windows.Closing.GONE, ended=windows.Ended(person="bo", reason="burnt"))
    box.desk.look_after_windows()
    box.ended(number)

    assert box.engines.state(box.serving) is UnitState.ACTIVE
    assert [(one["window"], one["why"]) for one in box.closed] == [(window.number, "cut-off"), (window.number, "gone")]
    box.engines.asked.clear()
    box.desk.look_after_windows()
    assert not box.engines.asked


def test_what_another_node_closed_comes_back_where_nothing_carries_it_out_any_more(box: Box) -> None:
    number = box.open()
    window = windows.opened(box.site.ledger)
    assert window is not None
    box.desk._windows._release()  # as after a thread that broke
    windows.close(box.site.ledger, window, why=windows.Closing.GONE, ended=windows.Ended(person="bo", reason="burnt"))

    found = box.desk._windows.closed_elsewhere()
    assert found is not None
    box.desk._windows.look(box.desk._courses[number])
    assert (box.engines.state(box.serving), box.desk.keeps_production_down) == (UnitState.ACTIVE, False)
    assert box.desk._windows.closed_elsewhere() is None


def test_closing_an_earlier_window_once_more_closes_no_later_one(box: Box) -> None:
    box.cut_off()
    first = windows.opened(box.site.ledger)
    assert first is not None
    windows.close(box.site.ledger, first, why=windows.Closing.GONE, ended=windows.Ended(person="bo", reason="burnt"))
    assert (box.closed[0]["by"], box.closed[0]["because"]) == ("bo", "burnt")
    box.cut_off()
    windows.close(box.site.ledger, first, why=windows.Closing.CUT_OFF)

    found = windows.opened(box.site.ledger)
    assert found is not None
    assert found.number > first.number


def test_a_window_is_ended_though_its_version_is_not_in_the_store_any_more(box: Box) -> None:
    box.cut_off(gone := digest("gone"))

    assert box.ask(kind="end-window", digest=gone, person=ANA.id)["state"] == "done"


def test_where_production_does_not_start_the_window_stays_open_and_is_tried_again(box: Box) -> None:
    number = box.open()
    box.engines.broken = frozenset({box.serving})
    box.runner.opened.set()

    assert box.ended(number)["state"] == "failed"
    assert windows.opened(box.site.ledger) is not None
    box.desk.look_after_windows()
    assert windows.opened(box.site.ledger) is not None
    box.engines.broken = frozenset()
    box.desk.look_after_windows()

    assert windows.opened(box.site.ledger) is None
    assert box.engines.state(box.serving) is UnitState.ACTIVE


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_window_whose_thread_breaks_is_closed_by_the_next_look_and_its_job_ends(box: Box) -> None:
    def broken(unit: str) -> None:
        if unit != BACK:
            raise RuntimeError(unit)

    box.runner.begins = broken
    asked: dict[str, Any] = {"digest": box.new, "person": ANA.id, "reason": "x", "minutes": 30}
    number = int(box.ask(kind="validate-in-window", **asked)["job"])
    assert box.ended(number)["state"] == "failed"
    for thread in threading.enumerate():
        if "_carry_out" in thread.name:
            thread.join(10)  # or its end would be heard of in the next test
    assert (windows.opened(box.site.ledger) is None, box.engines.state(box.serving)) == (False, UnitState.INACTIVE)

    box.desk.look_after_windows()

    assert (windows.opened(box.site.ledger) is None, box.engines.state(box.serving)) == (True, UnitState.ACTIVE)


def test_a_window_that_another_job_ended_is_closed_before_the_next_one_may_be_opened(box: Box) -> None:
    """Scenario: nobody carries it out, engines follow the chain, and somebody waits for that to open another window."""
    idle: list[bool] = []

    def recorded(appended: Appended) -> None:
        if box.site.ledger.leaf(appended.sequence).kind == windows.CLOSED:
            idle.append(box.desk.is_idle)

    def says(_unit: str) -> None:
        box.ask("outcome", door="jobs-switch", **Outcome(ok=True).to_json())

    box.cut_off()
    box.site.ledger.appended, box.runner.begins = recorded, says

    assert box.ended(int(box.ask(kind="switch-production", digest=box.old)["job"]))["state"] == "done"

    assert idle == [False]
    assert box.closed[0]["why"] == "ended"


def test_what_developers_had_in_the_test_stage_stays(box: Box) -> None:
    lent = engine_unit("test", digest("lent"))
    box.engines.start(lent)

    number = box.open()
    box.runner.opened.set()
    box.ended(number)

    assert box.engines.state(lent) is UnitState.ACTIVE


def test_a_version_that_answered_waits_to_be_brought_forward_and_the_one_before_is_not_back_after_a_boot(
    box: Box,
) -> None:
    box.runner.serves = engine_unit("production", box.new)
    number = box.open(kind="cut-over-in-window")
    box.ask("outcome", door="jobs-bench", **Outcome(ok=True, millis=7).to_json())
    box.runner.opened.set()
    for _ in range(100):
        if box.ask("show", job=number)["step"] == "tested":
            break
        threading.Event().wait(0.02)

    box.site.promote(box.new)

    assert box.ended(number)["state"] == "done"
    assert ("stop", box.serving) in box.engines.asked  # `stop` disables, `rest` does not
    assert box.closed[0]["cut_over"] is True


def test_one_at_a_time_by_an_enrolled_person_with_a_reason_through_the_door_of_operators(box: Box) -> None:
    asked: dict[str, Any] = {"kind": "validate-in-window", "digest": box.new, "reason": "x", "minutes": 30}
    with pytest.raises(UnknownPersonError):
        box.ask(**asked, person="nobody")
    for door in ("jobs-admin", "jobs-bench", "jobs-switch"):
        with pytest.raises(PrivilegeError):
            box.ask(door=door, **asked, person=ANA.id)
    for wrong in ({"reason": " "}, {"minutes": 0}, {"minutes": 100_000}, {"minutes": "5"}):
        with pytest.raises(MalformedError):
            box.ask(**{**asked, **wrong}, person=ANA.id)
    with pytest.raises(JobRefusedError, match="no window"):
        box.ask(kind="end-window", digest=box.new, person=ANA.id)
    assert (box.engines.asked, box.site.ledger.find(kind=windows.OPENED)) == ([], [])

    number = box.open()
    for version in (box.old, box.new):  # nobody joins a window of somebody else's: breaking it off would end theirs
        with pytest.raises(ConflictError):
            box.ask(**{**asked, "digest": version}, person=ANA.id)
    box.runner.opened.set()
    box.ended(number)


def test_a_window_names_two_units_of_the_bench_and_takes_both_lanes() -> None:
    for kind, suffix in ((Kind.VALIDATE_IN_WINDOW, ""), (Kind.CUT_OVER_IN_WINDOW, "-try")):
        job = Job.from_message(
            {"do": "ask", "kind": str(kind), "digest": "ab" * 32, "person": "", "reason": "x", "minutes": 1}
        )
        assert job.unit == f"sealift-validate@{'ab' * 32}{suffix}.service"
        assert {str(lane) for lane in job.lanes} == {"production", "bench"}
