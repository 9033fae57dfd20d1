"""Whatever happens in a maintenance window, and whatever the clock does: production comes back, once, and on record.

What docs/operator/rollout.md and ADR 51 promise of a window for the gates: nothing stops before it is on record;
while it is open only its end starts production's engine, and no second one opens; production comes back after gates
that pass or fail, an end, a deadline, a kill of the job service at any moment and a power cut at any moment, and after
engines that did not start at first; the record is closed once, says why, and other people's versions stay in the test
stage. Nights follow each other on one box, so that what one leaves would be found by the next.
"""

import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from appliance.errors import ConflictError, JobRefusedError, UnitError
from appliance.install.joboutcome import Outcome
from appliance.install.jobs import Job, Kind
from appliance.install.supervisor import UnitState, engine_unit
from appliance.install.windowjobs import WindowJobs
from appliance.registry import windows
from tests.support.promotion import Site, open_site
from tests.support.signatories import signatories
from tests.support.supervisor import FakeSupervisor
from tests.support.versions import store_version

pytestmark = pytest.mark.slow  # whole sites and processes, a second and more each

ANA, *_ = signatories()
OTHERS: Final = engine_unit("test", "c" * 64)
_DAY: Final = 86_400


class Cut(BaseException):
    """The job service is killed."""


@dataclass(frozen=True, kw_only=True)
class Night:
    """One window.

    Attributes:
        during: What happens while the gates run; a number is by how many seconds the clock is corrected.
        ending: How it ends.
        at: Where it is cut off, if it is.
        broken: How often production's engine does not start when it is to come back.
        later: By how much the clock differs when somebody looks again.
        has_others: Whether other people have a version in the test stage.
    """

    during: list[int | str]
    ending: str
    at: str
    broken: int
    later: int
    has_others: bool


SECONDS = st.integers(-_DAY, _DAY)
NIGHTS = st.builds(
    Night,
    during=st.lists(st.one_of(SECONDS, st.sampled_from(["test", "start", "open", "look"])), max_size=4),
    ending=st.sampled_from(["done", "failed", "ended", "deadline", "killed", "power"]),
    at=st.sampled_from(["rest", "gates", "back", "record"]),
    broken=st.integers(0, 2),
    later=SECONDS,
    has_others=st.booleans(),
)
WHY: Final = {"done": "done", "failed": "failed", "ended": "ended", "deadline": "deadline"}


class Course:
    """Where a job's course is told."""

    step = ""
    outcome: Outcome | None = None


class Deadline:
    """A timer that fires when a test says so."""

    made: "Deadline"

    def __init__(self, seconds: float, end: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self.seconds, self.daemon = seconds, False
        self._thread = threading.Thread(target=end, args=arguments, daemon=True)
        Deadline.made = self

    def start(self) -> None:
        """It runs."""

    def cancel(self) -> None:
        """It fires no more."""

    def fire(self) -> None:
        self._thread.start()


class Engines(FakeSupervisor):
    """Engines, and which of them a boot starts."""

    def __init__(self, box: "Box") -> None:
        super().__init__()
        self.box = box
        self.enabled: set[str] = set()

    def start(self, unit: str) -> None:
        super().start(unit)
        if "production" in unit:
            self.enabled.add(unit)

    def stop(self, unit: str) -> None:
        super().stop(unit)
        self.enabled.discard(unit)

    def rest(self, unit: str) -> None:
        assert windows.opened(self.box.site.ledger) is not None, "nothing stops before the window is on record"
        self.box.cut("rest")
        super().rest(unit)

    def boot(self) -> None:
        self.states = {unit: UnitState.ACTIVE if unit in self.enabled else UnitState.INACTIVE for unit in self.states}


class Runner(FakeSupervisor):
    """Its gates do what a night says; its switch starts what serves, unless that is broken."""

    def __init__(self, box: "Box") -> None:
        super().__init__()
        self.box, self.stopped = box, threading.Event()

    def start(self, unit: str) -> None:
        if "switch" in unit:
            self.box.cut("back")
            self.box.back()
            return
        self.stopped.clear()
        self.box.gates()

    def stop(self, unit: str) -> None:
        super().stop(unit)
        self.stopped.set()


class Recorder:
    """The ledger, from which a kill may keep the last record."""

    def __init__(self, box: "Box") -> None:
        self._box = box

    def __getattr__(self, name: str) -> Any:
        return getattr(self._box.site.ledger, name)

    def append(self, kind: str, body: dict[str, Any]) -> Any:
        if kind == windows.CLOSED:
            self._box.cut("record")
        return self._box.site.ledger.append(kind, body)


class Box:
    """A site that serves one version and holds another."""

    def __init__(self, folder: Path) -> None:
        self.site: Site = open_site(folder)
        old, self.new = (
            store_version(self.site.config, serial=n, weights=b"GGUF %d" % n)[1].model_digest for n in (1, 2)
        )
        self.site.promote(old)
        self.old = old
        self.serving, self.tested = engine_unit("production", old), engine_unit("test", self.new)
        self.engines, self.runner, self.course = Engines(self), Runner(self), Course()
        self.engines.start(self.serving)
        self.engines.start(self.tested)
        self.engines.stop(self.tested)
        self.night: Night | None = None
        self.broken = 0
        self.begin()

    def begin(self) -> None:
        """Start the job service."""
        recorder: Any = Recorder(self)
        self.jobs = WindowJobs(
            self.site.config, recorder, supervisor=self.engines, runner=self.runner, clock=self.site.clock
        )

    def job(self, kind: Kind = Kind.VALIDATE_IN_WINDOW) -> Job:
        return Job(kind=kind, digest=self.new, person=ANA.id, reason="change 4711", minutes=30)

    def production(self) -> Job:
        return Job(kind=Kind.START_PRODUCTION, digest12=self.old[:12])

    def cut(self, place: str) -> None:
        """Kill the job service here, if that is how the night ends; once."""
        night = self.night
        if night is not None and night.ending in {"killed", "power"} and night.at == place:
            self.night = None
            raise Cut

    def back(self) -> None:
        if self.broken:
            self.broken -= 1
            raise UnitError(what="the engine did not start", why="the test says so", fix="")
        self.engines.start(self.serving)

    def correct(self, seconds: int) -> None:
        self.site.clock.at += timedelta(seconds=seconds)

    def gates(self) -> None:
        night = self.night
        assert night is not None
        for one in night.during:
            assert self.engines.state(self.serving) is UnitState.INACTIVE, "production rests while the gates run"
            self.happen(one)
        self.cut("gates")
        if night.ending in {"ended", "deadline"}:
            self.jobs.end(self.new) if night.ending == "ended" else Deadline.made.fire()
            assert self.runner.stopped.wait(30)
            raise UnitError(what="the gates were stopped", why="", fix="")
        is_good = night.ending != "failed"
        self.course.outcome = Outcome(ok=is_good, digest="cd" * 32 if is_good else "", what="a gate failed")

    def come_back(self, night: Night) -> None:
        """Start what was killed, after a boot where it was the power."""
        if night.ending == "power":
            self.engines.boot()
            assert self.engines.state(self.serving) is UnitState.ACTIVE, "the boot alone brings production back"
        self.begin()

    def happen(self, what: int | str) -> None:
        if isinstance(what, int):
            self.correct(what)
        elif what == "test":
            with self.jobs.turn(Job(kind=Kind.START_TEST, digest12=self.new[:12])):
                self.engines.start(self.tested)
        elif what == "look":
            assert self.jobs.look(Course()) is None, "it is carried out, so nobody else closes it"
        elif what == "start":
            with pytest.raises(JobRefusedError):
                self.jobs.require_may_start(self.production())
        else:
            with pytest.raises(ConflictError):
                self.jobs.open(self.job())

    def closed(self) -> list[Any]:
        return [leaf.body for leaf in self.site.ledger.find(kind=windows.CLOSED, limit=10_000)]


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with tempfile.TemporaryDirectory(prefix="slf") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "Timer", Deadline)
        yield Box(Path(folder))


def carried_out(box: Box, night: Night) -> int:
    """Open the night's window and carry it out as far as it comes; return its number."""
    box.night, box.broken = night, night.broken
    window = box.jobs.open(box.job())
    try:
        box.jobs.carry_out(window, box.job().unit, box.course)
    except Cut:
        box.come_back(night)
    assert Deadline.made.seconds <= 30 * 60
    return window.number


def looked_after(box: Box, night: Night) -> bool:
    """Look until no window is open; tell whether there was anything to close."""
    was_open = windows.opened(box.site.ledger) is not None
    for _ in range(box.broken):
        with pytest.raises(UnitError):
            box.jobs.look(Course())
        assert windows.opened(box.site.ledger) is not None, "it stays open until production is back"
    try:
        found = box.jobs.look(Course())
    except Cut:  # while it closed what it found
        box.come_back(night)
        found = box.jobs.look(Course())
    assert (found is not None) is was_open
    return was_open


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nights=st.lists(NIGHTS, min_size=1, max_size=3))
def test_production_comes_back_from_every_window(box: Box, nights: list[Night]) -> None:
    for night in nights:
        (box.engines.start if night.has_others else box.engines.stop)(OTHERS)
        before, booted = len(box.closed()), night.ending == "power"
        number = carried_out(box, night)
        is_open = windows.opened(box.site.ledger) is not None
        box.correct(night.later)
        was_open = looked_after(box, night)
        was_cut, box.night = box.night is None, None
        event(f"{night.ending}, {'closed later' if was_open else 'closed at once'}")

        assert windows.opened(box.site.ledger) is None
        closed = box.closed()
        assert (len(closed), closed[0]["window"]) == (before + 1, number), "closed once"
        assert closed[0]["why"] in ({"cut-off", "deadline"} if was_open else {WHY[night.ending]})
        assert is_open is was_open is (was_cut or night.broken > 0)
        times = [closed[0][f"{which}_millis"] for which in ("tested", "silent", "back")]
        assert all(one is None or 0 <= one < 60_000 for one in times), "measured, not read off the clock"
        assert box.engines.state(box.serving) is UnitState.ACTIVE
        assert box.serving in box.engines.enabled
        assert box.engines.state(box.tested) is UnitState.INACTIVE
        stays = night.has_others and not (booted and was_cut)
        assert box.engines.state(OTHERS) is (UnitState.ACTIVE if stays else UnitState.INACTIVE)
        box.jobs.require_may_start(box.production())
