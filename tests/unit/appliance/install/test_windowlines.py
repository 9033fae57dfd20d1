"""Windows where production has two lines: which one rests, and that the other answers on, whatever becomes of them."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.enginesections import EnginesSection, ProductionEngines
from appliance.errors import ConflictError, JobRefusedError
from appliance.install.jobdesk import Course, JobDesk
from appliance.install.joboutcome import Outcome
from appliance.install.jobs import Job, Kind, Lane
from appliance.install.supervisor import UnitState, engine_unit
from appliance.install.windowlines import resting_line
from appliance.promote.promoter import Request
from appliance.registry import windows
from tests.support import lines
from tests.support.promotion import digest
from tests.support.signatories import signatories
from tests.support.supervisor import FakeSupervisor
from tests.support.versions import store_version
from tests.unit.appliance.install.test_windowjobs import Box, Runner, Starting, until

ANA, *_ = signatories()


class Back(Runner):
    """Its switch starts what serves, whichever line it brings back; what it was is told by `asked`."""

    def start(self, unit: str) -> None:
        if not unit.startswith("sealift-switch@"):
            super().start(unit)
            return
        FakeSupervisor.start(self, unit)
        self.begins(unit)
        if unit.startswith("sealift-switch@line-"):
            self.engines.start(self.serves)


class TwoLines(Box):
    """A model for classes is served beside the first one, and a successor of it waits."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        config = self.site.config
        self.first, self.answering = self.old, self.serving
        self.old, self.new = (store_version(config, serial=n, weights=b"GGUF %d" % n)[1].model_digest for n in (3, 4))
        self.number = lines.open_line(self.site, self.old)
        self.called("classes", self.old, self.new)
        self.serving, self.tested = engine_unit("production", self.old), engine_unit("test", self.new)
        self.engines.start(self.serving)
        self.engines.asked.clear()
        self.runner = Back(self.engines, self.serving)
        self.begin()

    def called(self, name: str, *versions: str) -> None:
        for one in versions:
            body = {"model_digest": one, "name": name, "version": "1", "weights_digest": digest("weights" + one)}
            self.site.ledger.append("model.registered", {**body, "serial": 1, "descriptor": {}})

    def restarted(self) -> None:
        """Let the job service begin anew, as after a kill or a boot: the one of before does nothing more."""
        self.runner.is_its_desk_gone = True
        self.begin()

    def begin(self) -> None:
        self.desk = JobDesk(self.site.config, self.site.ledger, supervisor=self.engines, runner=self.runner)

    def signed(self, model_digest: str, **changes: object) -> None:
        """Let a version wait for its promotion by what Ana and Ben sign."""
        made = self.site.request(model_digest)
        request = Request(statement=lines.statement_of(self.site, made, **changes), basis=made.basis)
        self.site.folder.drop_request(made.statement.sha256)
        self.site.folder.save_request(request.statement.sha256, request.to_bytes())

    def asked_of(self, unit: str) -> list[str]:
        return [verb for verb, one in self.engines.asked if one == unit]

    @property
    def window(self) -> windows.Window:
        found = windows.opened(self.site.ledger)
        assert found is not None
        return found


@pytest.fixture
def box(tmp_path: Path) -> Iterator[TwoLines]:
    made = TwoLines(tmp_path)
    yield made
    made.runner.opened.set()


def test_only_the_line_of_the_candidate_rests_and_comes_back_and_the_record_names_its_version(box: TwoLines) -> None:
    number = box.open()

    assert box.engines.state(box.serving) is UnitState.INACTIVE
    assert (box.window.line, box.window.previous) == (box.number, box.old)
    box.runner.opened.set()
    box.ended(number)
    assert box.engines.state(box.serving) is UnitState.ACTIVE
    assert box.asked_of(box.answering) == []
    assert box.runner.asked[-1] == ("start", f"sealift-switch@line-{box.number}.service")
    assert [(one["line"], one["previous"], one["cut_over"]) for one in box.closed] == [(box.number, box.old, False)]


def test_line_1_rests_alone_and_its_record_is_what_it_was(box: TwoLines) -> None:
    (new,) = (store_version(box.site.config, serial=5, weights=b"GGUF 5")[1].model_digest,)
    box.runner.serves, box.new = box.answering, new

    number = box.open()

    assert box.engines.state(box.answering) is UnitState.INACTIVE
    assert box.asked_of(box.serving) == []
    (opened,) = box.site.ledger.find(kind=windows.OPENED)
    assert (opened.body["previous"], "line" in opened.body) == (box.first, False)
    box.runner.opened.set()
    box.ended(number)
    assert box.engines.state(box.answering) is UnitState.ACTIVE
    assert "line" not in box.closed[0]


def test_a_stopped_lines_successor_takes_no_other_line_down(box: TwoLines) -> None:
    lines.stop_line(box.site, box.number)

    resting = resting_line(box.site.folder, box.site.ledger, box.new, windows.Purpose.VALIDATE)

    assert (resting.number, resting.current) == (box.number, None)


def test_engines_of_the_other_line_start_meanwhile_and_those_of_the_resting_one_do_not(box: TwoLines) -> None:
    box.open()

    with pytest.raises(JobRefusedError, match="no engine is started"):
        box.ask(door="jobs-switch", kind="start-production-engine", digest12=box.old[:12])
    assert box.ask(door="jobs-switch", kind="start-production-engine", digest12=box.first[:12])["state"] == "done"

    path = box.site.folder.path / "promotions/000001.json"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(JobRefusedError, match="no engine is started"):  # nobody can say whose it is
        box.ask(door="jobs-switch", kind="start-production-engine", digest12=box.first[:12])
    path.write_bytes(path.read_bytes() + b"}")
    box.runner.opened.set()
    until(lambda: box.desk.is_idle)


def test_an_engine_of_another_line_that_is_being_started_while_a_window_opens_is_up_afterwards(box: TwoLines) -> None:
    box.old, kept = box.first, box.old
    starting = Starting(box)
    box.old = kept
    starting.engines.begun.clear()
    starting.engines.states[box.serving] = UnitState.ACTIVE
    asked: dict[str, Any] = {"digest": box.new, "person": ANA.id, "reason": "change 4711", "minutes": 30}
    number = int(box.ask(kind="validate-in-window", **asked)["job"])
    until(lambda: box.desk.keeps_production_down)

    starting.let_go()
    assert box.runner.begun.wait(10)

    assert starting.refused == []
    assert starting.engines.state(box.answering) is UnitState.ACTIVE
    assert starting.engines.state(box.serving) is UnitState.INACTIVE
    box.runner.opened.set()
    box.ended(number)


def test_one_that_was_cut_off_brings_its_own_line_back_and_clears_nothing_of_the_other(box: TwoLines) -> None:
    """Scenario: the power fails while a successor is tested, in a line that is not the first."""
    box.open()
    box.restarted()
    with pytest.raises(ConflictError, match="another maintenance window"):
        box.ask(kind="validate-in-window", digest=box.new, person=ANA.id, reason="x", minutes=30)

    box.desk.look_after_windows()

    assert box.engines.state(box.serving) is UnitState.ACTIVE
    assert box.engines.state(box.tested) is UnitState.INACTIVE
    assert box.asked_of(box.answering) == []
    assert (box.closed[0]["line"], box.closed[0]["why"]) == (box.number, "cut-off")


def test_one_that_was_cut_off_after_its_version_went_forward_says_so_and_lets_the_one_before_stay_down(
    box: TwoLines,
) -> None:
    asked = windows.Asked(purpose=windows.Purpose.CUT_OVER, model_digest=box.new, person=ANA.id, reason="x")
    windows.open_now(box.site.ledger, box.site.clock, asked, previous=box.old, line=box.number)
    box.engines.rest(box.serving)
    lines.bring(box.site, box.new, box.number)
    box.runner.serves = engine_unit("production", box.new)
    engines = EnginesSection(production=ProductionEngines(count=2))
    box.site.config = box.site.config.model_copy(update={"engines": engines})
    box.restarted()

    box.desk.look_after_windows()

    assert box.closed[0]["cut_over"] is True
    assert set(box.asked_of(box.serving)) == {"rest", "stop"}  # `stop` disables, so no boot starts it
    assert {unit for _, unit in box.engines.asked} == {box.serving, box.runner.serves}  # further engines are line 1's


def test_a_version_is_brought_forward_in_a_window_of_its_own_line(box: TwoLines) -> None:
    box.signed(box.new, replaces=box.old)
    box.runner.serves = engine_unit("production", box.new)
    number = box.open(kind="cut-over-in-window")
    box.ask("outcome", door="jobs-bench", **Outcome(ok=True, millis=7).to_json())
    box.runner.opened.set()
    until(lambda: box.ask("show", job=number)["step"] == "tested")

    lines.bring(box.site, box.new, box.number)

    assert box.ended(number)["state"] == "done"
    assert (box.closed[0]["cut_over"], box.closed[0]["previous"]) == (True, box.old)


def test_what_people_signed_says_which_line_rests_and_not_the_name(box: TwoLines) -> None:
    box.called("classes and more", box.new)
    box.signed(box.new, replaces=box.old)

    number = box.open(kind="cut-over-in-window")

    assert (box.window.line, box.asked_of(box.answering)) == (box.number, [])
    box.ask(kind="end-window", digest=box.new, person=ANA.id)
    box.ended(number)


def test_a_version_that_was_signed_for_line_1_lets_line_1_rest_whatever_its_name(box: TwoLines) -> None:
    box.site.request(box.new)
    box.called("classes", box.new)
    box.runner.serves = box.answering

    number = box.open(kind="cut-over-in-window")

    assert (box.window.line, box.asked_of(box.serving)) == (1, [])
    box.ask(kind="end-window", digest=box.new, person=ANA.id)
    box.ended(number)


@pytest.mark.parametrize("replaces", [None, digest("gone")], ids=["beside all others", "of what serves no more"])
def test_nothing_rests_for_a_version_that_takes_no_version_s_place(box: TwoLines, replaces: str | None) -> None:
    box.signed(box.new, replaces=replaces)

    with pytest.raises(ConflictError, match="no window is opened"):
        box.ask(kind="cut-over-in-window", digest=box.new, person=ANA.id, reason="x", minutes=30)
    assert (box.engines.asked, windows.opened(box.site.ledger), box.desk.is_idle) == ([], None, True)


def test_what_no_line_has_makes_room_too_as_it_always_did(box: TwoLines) -> None:
    """Scenario: the version before was kept warm."""
    warm = engine_unit("production", digest("warm"))
    box.engines.start(warm)

    number = box.open()

    assert box.engines.state(warm) is UnitState.INACTIVE
    assert box.engines.state(box.answering) is UnitState.ACTIVE
    box.runner.opened.set()
    box.ended(number)


def says(box: TwoLines, unit: str) -> None:
    """Tell as the unit that switches production does how it ended, by its name, and let nobody else's be heard."""
    told = Outcome(ok=True, started=(unit,))
    if unit.startswith("sealift-switch@"):
        box.ask("outcome", door="jobs-switch", **told.to_json())


def test_what_is_decided_about_another_line_is_followed_while_one_rests(box: TwoLines) -> None:
    """Scenario: a model answers nonsense at night, while another's successor is tested."""
    box.runner.begins = lambda unit: says(box, unit)
    window = box.open()
    lines.stop_line(box.site, 1)

    halt = box.ended(int(box.ask(kind="halt-production", digest=box.first)["job"]))

    beside = f"sealift-switch@but-{box.number}.service"
    assert (halt["state"], halt["outcome"]["started"]) == ("done", [beside])
    assert ("start", beside) in box.runner.asked
    assert (box.engines.state(box.serving), windows.opened(box.site.ledger) is None) == (UnitState.INACTIVE, False)
    box.site.promote(box.first)
    switch = box.ended(int(box.ask(kind="switch-production", digest=box.first)["job"]))
    assert switch["state"] == "done"
    box.runner.opened.set()
    assert box.ended(window)["outcome"]["code"] == "unit"  # the gates said nothing, and what others told is not theirs
    assert (box.closed[0]["why"], box.desk.is_idle) == ("failed", True)


def test_what_is_decided_about_the_line_that_rests_waits_for_its_window(box: TwoLines) -> None:
    number = box.open()
    lines.stop_line(box.site, box.number)

    with pytest.raises(ConflictError, match="has to wait"):
        box.ask(kind="halt-production", digest=box.old)
    with pytest.raises(ConflictError, match="has to wait"):
        box.ask(kind="switch-production-warm", digest=box.first)
    box.runner.opened.set()
    box.ended(number)


def test_a_stop_of_all_lines_is_followed_though_one_rests(box: TwoLines) -> None:
    box.runner.begins = lambda unit: says(box, unit)
    number = box.open()
    box.site.client.stop(person=ANA.id, reason="to be sure")

    assert box.ended(int(box.ask(kind="halt-production", digest=box.first)["job"]))["state"] == "done"
    box.runner.opened.set()
    box.ended(number)


def test_a_line_comes_back_only_when_what_was_decided_about_another_is_followed(box: TwoLines) -> None:
    may_end, begun = threading.Event(), threading.Event()

    def begins(unit: str) -> None:
        if unit.startswith("sealift-switch@but-"):
            begun.set()
            assert may_end.wait(10)
        says(box, unit)

    box.runner.begins = begins
    window = box.open()
    lines.stop_line(box.site, 1)
    halt = int(box.ask(kind="halt-production", digest=box.first)["job"])
    assert begun.wait(10)
    assert box.ask(kind="halt-production", digest=box.first)["job"] == halt

    box.runner.opened.set()
    until(lambda: box.ask("show", job=window)["step"] == "back")
    with pytest.raises(ConflictError, match="has to wait"):
        box.ask(kind="halt-production", digest=box.first)
    assert box.engines.state(box.serving) is UnitState.INACTIVE
    may_end.set()

    box.ended(window)
    assert box.ended(halt)["outcome"]["started"] == [f"sealift-switch@but-{box.number}.service"]
    assert box.engines.state(box.serving) is UnitState.ACTIVE
    assert [one for one in box.runner.asked if "switch@" in one[1]][-1][
        1
    ] == f"sealift-switch@line-{box.number}.service"


def test_nothing_else_of_production_begins_while_what_was_decided_beside_a_window_is_followed(box: TwoLines) -> None:
    """Scenario: the window ended meanwhile, and its line did not come back."""
    box.cut_off()
    job = Job(kind=Kind.HALT, digest=box.first)
    box.desk._running[Lane.BESIDE] = Course(job=job, number=1, account="", at="")

    with pytest.raises(ConflictError, match="has to wait"):
        box.ask(kind="switch-production", digest=box.first)
    box.desk.look_after_windows()
    assert (box.runner.asked, box.closed) == ([], [])
