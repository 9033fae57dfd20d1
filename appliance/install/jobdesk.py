"""Answers typed jobs: checks each again, records it, lets its unit carry it out, and says how it goes.

Messages, by `appliance.wire`; doors and rights in `jobrights`, who asks in `jobaskers`, kinds in `jobs`:

    ask{kind, digest|digest12|serial|medium, person?} -> {job, state}    engines, eject at once; others in a unit each
    show{job} -> {job, kind, ..., state, step, done, total, outcome}
    jobs -> {jobs:[...]}                                           newest first
    units -> {units:[{unit, state}]}
    evidence{digest} | descriptor{digest} | plan{digest} | export{digest} -> {text} by digest, for people who read it
    progress{step, done, total} | outcome{...} -> {}               from the unit that carries the lane's job out
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import ConflictError, JobRefusedError, WireError
from appliance.install import arrivals, auditors, exported, jobrights, plans, planunit
from appliance.install.decided import Decided
from appliance.install.jobaskers import INTRODUCTION, Askers
from appliance.install.joboutcome import Outcome, step_of
from appliance.install.jobs import ENGINE_KINDS, FOLLOWS, WINDOWS, Job, Kind, Lane
from appliance.install.supervisor import Supervisor
from appliance.install.windowjobs import WindowJobs
from appliance.registry import carriers, evidence
from appliance.registry.windows import Window
from appliance.store.content import ContentStore
from appliance.watchdog.loops import is_free
from appliance.wire import Peer
from media import canonical
from media.errors import SealiftError

ASKED: Final = "job.asked"
DONE: Final = "job.done"
_MOST_KEPT: Final = 200
_MOST_SHOWN: Final = 50
_MOST_WAITING: Final = 3
_WAITING: Final = "waiting"

Fields = Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class Course:
    """One job on its way; `number` is the ledger's sequence of its record."""

    job: Job
    number: int
    account: str
    at: str
    state: str = "running"
    step: str = ""
    done: int = 0
    total: int = 0
    outcome: Outcome | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def to_json(self) -> dict[str, Any]:
        """Return what `show` and `jobs` answer."""
        return {
            "job": self.number,
            **self.job.to_json(),
            "account": self.account,
            "at": self.at,
            "state": self.state,
            "step": self.step,
            "done": self.done,
            "total": self.total,
            "outcome": None if self.outcome is None else self.outcome.to_json(),
        }


class JobDesk:
    """Answers one message at a time per connection; jobs of one lane run one after another.

    Who asks for another one meanwhile is refused, but for what follows a decision about production: that waits, since
    the decision is recorded, and who made it cannot make it once more.

    Args:
        config: The site file.
        ledger: Where jobs are recorded; none is carried out that is not.
        supervisor: Starts engines, and gives each its environment.
        runner: Starts the units of long jobs and returns when they have ended.
        read: Reads the site file as it is now, for the engines it names; as it was without.
        askers: Says who the peers are; without, the kernel shows them all.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        *,
        supervisor: Supervisor,
        runner: Supervisor,
        read: Callable[[], Config] | None = None,
        askers: Askers | None = None,
    ) -> None:
        self._config = config
        self._askers = askers
        self._decided = Decided(config, ledger, read=read or (lambda: config))
        self._ledger = ledger
        self._supervisor = supervisor
        self._runner = runner
        self._lock = threading.Lock()
        self._windows = WindowJobs(config, ledger, supervisor=supervisor, runner=runner)
        self._courses: OrderedDict[int, Course] = OrderedDict()
        self._running: dict[Lane, Course] = {}
        self._beside: Course | None = None
        self._waiting: list[Course] = []
        self._answers: dict[str, Callable[[Peer, Fields], dict[str, Any]]] = {
            "ask": self._ask,
            "show": self._show,
            "jobs": self._jobs,
            "units": self._units,
            "evidence": self._evidence,
            "descriptor": self._descriptor,
            "plan": self._plan,
            "export": self._export,
            "progress": self._progress,
            "outcome": self._outcome,
        }

    def turns(self, seconds: float) -> bool:
        """Whether a message would have its turn within `seconds`; carrying a job out holds no turn."""
        return is_free(self._lock, seconds)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being carried out."""
        with self._lock:
            return not self._running

    def __call__(self, peer: Peer, untrusted: Fields) -> Mapping[str, Any]:
        """Answer one message; a `Handler` of `appliance.wire`.

        Raises:
            WireError: Nobody knows this message.
            PrivilegeError: Not through this door, or not by this user.
        """
        if self._askers is not None:
            peer = self._askers.seen(peer, untrusted)
        untrusted = {name: value for name, value in untrusted.items() if name != INTRODUCTION}
        jobrights.require_may_enter(peer)
        answer = self._answers.get(str(untrusted.get("do")))
        if answer is None:
            raise WireError(
                what="no such message to the job service", why=str(untrusted.get("do"))[:40], fix="use the same release"
            )
        return answer(peer, untrusted)

    def _ask(self, peer: Peer, untrusted: Fields) -> dict[str, Any]:
        job = Job.from_message(untrusted)
        jobrights.require_may_ask(peer, job.kind)
        self._windows.require_may_start(job)
        self._decided.require(job)
        auditors.require_may_let_leave(self._config, self._ledger, peer, job)
        self._require_nothing_reads(job)
        if job.lane is None:
            return self._at_once(peer, job)
        with self._lock:
            lanes = (Lane.BESIDE,) if self._windows.goes_beside(job) else job.lanes
            other = self._in_the_way(lanes)
            waits = other is not None and lanes == (Lane.PRODUCTION,) and self._may_wait(job, other)
            # What runs began before this was decided, and may know nothing of it.
            known = self._waiting if waits else [] if other is None else [other]
            same = next((one for one in known if _is_same(one, job)), None)
            if same is not None and job.kind not in WINDOWS:
                return {"job": same.number, "state": same.state}
            if other is not None and not waits:
                raise ConflictError(
                    what=f"{job.kind} has to wait",
                    why=f"job {other.number} ({other.job.kind}) runs",
                    fix="ask again"
                    if other.job.kind not in WINDOWS
                    else "end it first: `sealift window end --as PERSON`",
                )
            window = self._windows.open(job) if job.kind in WINDOWS else None
            course = self._begin(peer, job)
            if waits:
                course.step = _WAITING
                self._waiting.append(course)
                return {"job": course.number, "state": course.state}
            self._running |= dict.fromkeys(lanes, course)
        self._set_off(course, window)
        return {"job": course.number, "state": course.state}

    def _may_wait(self, job: Job, other: Course) -> bool:
        """Tell whether a job follows a decision behind another one that does."""
        follow = {job.kind, other.job.kind} <= FOLLOWS and self._running.get(Lane.PRODUCTION) is other
        return follow and len(self._waiting) < _MOST_WAITING

    def _set_off(self, course: Course, window: Window | None = None) -> None:
        threading.Thread(target=self._carry_out, args=(course, window), daemon=True).start()

    def _in_the_way(self, lanes: Sequence[Lane]) -> Course | None:
        """Return a job that runs in one of these lanes; one beside a window is in production's way, once that ended."""
        found = (*lanes, Lane.BESIDE) if Lane.PRODUCTION in lanes else lanes
        return next((self._running[lane] for lane in found if lane in self._running), None)

    def _begin(self, peer: Peer, job: Job) -> Course:
        account = jobrights.account_of(peer)
        done = self._ledger.append(ASKED, {**job.to_json(), "account": account, "door": peer.door})
        course = Course(job=job, number=done.sequence, account=account, at=done.time)
        self._courses[course.number] = course
        while len(self._courses) > _MOST_KEPT:
            self._courses.popitem(last=False)
        return course

    def _at_once(self, peer: Peer, job: Job) -> dict[str, Any]:
        with self._lock:
            course = self._begin(peer, job)
        verb = ENGINE_KINDS[job.kind][0] if job.kind in ENGINE_KINDS else "stop"
        engines = self._supervisor
        change = {"start": engines.start, "stop": engines.stop, "kill": engines.kill}[verb]
        try:
            if job.kind is Kind.END_WINDOW:
                self._windows.end(job.digest)
            else:
                with self._windows.turn(job):
                    change(job.unit)
        except SealiftError as error:
            self._end(course, Outcome.of_error(error))
            raise
        self._end(course, Outcome(ok=True))
        return {"job": course.number, "state": course.state}

    @property
    def keeps_production_down(self) -> bool:
        """Whether a maintenance window keeps engines of production down now."""
        return self._windows.rests

    def look_after_windows(self) -> None:
        """Close a window that nobody carries out any more; where that does not succeed, the next look tries again."""
        with suppress(SealiftError):
            window = self._windows.closed_elsewhere() or self._windows.opened()
            if window is None:
                return
            job = Job(kind=Kind.END_WINDOW, digest=window.model_digest)
            course = Course(job=job, number=window.number, account="", at="")
            lanes = (Lane.PRODUCTION, Lane.BENCH)
            with self._lock:
                if self._in_the_way(lanes) is not None:
                    return
                self._running |= dict.fromkeys(lanes, course)
            try:
                self._windows.look(course)
            finally:
                self._free(course)

    def _carry_out(self, course: Course, window: Window | None) -> None:
        job, outcome = course.job, Outcome.unsaid(course.job.unit)
        try:
            if window is not None:
                outcome = self._windows.carry_out(window, job.unit, course)
            elif self._running.get(Lane.BESIDE) is course:
                outcome = self._carry_out_beside(course) or outcome
            else:
                if job.kind is Kind.CARRY_EXPORT:
                    exported.prepare(self._config.at, arrivals.arrived(self._config.at, job.medium))
                self._runner.start(job.unit)
                outcome = self._said(course) or outcome
                if outcome.ok and job.lane is Lane.PRODUCTION:  # before the lane is free for another window
                    with suppress(SealiftError):  # the next look closes it
                        self._windows.followed()
        except SealiftError as error:
            # What the unit itself said of its failure tells more than that it failed.
            said = self._said(course)
            outcome = said if said and not said.ok else Outcome.of_error(error)
        finally:
            self._free(course)
            self._end(course, outcome)

    def _carry_out_beside(self, course: Course) -> Outcome | None:
        with self._windows.beside() as unit:
            self._beside = course
            try:
                self._runner.start(unit)
            finally:
                self._beside = None
        return course.outcome

    def _free(self, course: Course) -> None:
        with self._lock:
            self._running = {lane: one for lane, one in self._running.items() if one is not course}
            # Under the lock, so that nothing else takes the lane in between.
            following = self._waiting.pop(0) if self._waiting and Lane.PRODUCTION not in self._running else None
            if following is not None:
                following.step = ""
                self._running[Lane.PRODUCTION] = following
        if following is not None:
            self._set_off(following)

    def _said(self, course: Course) -> Outcome | None:
        """Return how the unit says that it ended: by the door; the one that makes plans has none and leaves a file."""
        if course.job.kind is Kind.PLAN:
            return planunit.told(self._config.at, course.job.serial)
        return course.outcome

    def _end(self, course: Course, outcome: Outcome) -> None:
        course.outcome, course.state = outcome, "done" if outcome.ok else "failed"
        body = {"job": course.number, **course.job.named, "kind": str(course.job.kind), **outcome.headline()}
        with suppress(SealiftError):  # that it was asked is recorded; what it did has records of its own
            self._ledger.append(DONE, body)
        course.ended.set()

    def _require_nothing_reads(self, job: Job) -> None:
        other = self._running.get(Lane.MEDIA)
        if job.kind is Kind.EJECT and other is not None:
            raise ConflictError(
                what=f"medium {job.medium} cannot be taken out yet",
                why=f"job {other.number} reads it",
                fix="wait for it",
            )

    def _export(self, peer: Peer, untrusted: Fields) -> dict[str, Any]:
        jobrights.require_may_read(peer)
        digest = canonical.sha256_hex(untrusted.get("digest"), "digest")
        found = exported.find(self._config.at, digest)
        return {"text": exported.content_of(found.read_bytes())[0].decode()}

    def _show(self, peer: Peer, untrusted: Fields) -> dict[str, Any]:
        jobrights.require_may_read(peer)
        number = canonical.integer(untrusted.get("job"), "job")
        course = self._courses.get(number)
        if course is None:
            raise JobRefusedError(
                what=f"job {number} is not known",
                why="the job service started since",
                fix="see its record in the ledger",
            )
        return course.to_json()

    def _jobs(self, peer: Peer, _: Fields) -> dict[str, Any]:
        jobrights.require_may_read(peer)
        with self._lock:
            found = list(self._courses.values())
        return {"jobs": [course.to_json() for course in reversed(found[-_MOST_SHOWN:])]}

    def _units(self, _: Peer, __: Fields) -> dict[str, Any]:
        return {"units": [{"unit": one.name, "state": str(one.state)} for one in self._supervisor.units()]}

    def _evidence(self, peer: Peer, untrusted: Fields) -> dict[str, Any]:
        jobrights.require_may_read(peer)
        document = evidence.read(self._config.at, canonical.sha256_hex(untrusted.get("digest"), "digest"))
        return {"text": canonical.dumps(document).decode()}

    def _descriptor(self, peer: Peer, untrusted: Fields) -> dict[str, Any]:
        jobrights.require_may_read(peer)
        digest = canonical.sha256_hex(untrusted.get("digest"), "digest")
        _, descriptor, _ = carriers.carrier(ContentStore(self._config.at.store), digest)
        return {"text": descriptor.raw.decode()}

    def _plan(self, peer: Peer, untrusted: Fields) -> dict[str, Any]:
        jobrights.require_may_read(peer)
        plan = plans.read(self._config.at, canonical.sha256_hex(untrusted.get("digest"), "digest"))
        return {"text": plan.to_bytes().decode()}

    def _progress(self, peer: Peer, untrusted: Fields) -> dict[str, Any]:
        course = self._of_teller(peer)
        fields = canonical.exact_keys(dict(untrusted), ("do", "step", "done", "total"), what="progress")
        course.step = step_of(fields["step"])
        course.done = canonical.integer(fields["done"], "progress.done")
        course.total = canonical.integer(fields["total"], "progress.total")
        return {}

    def _outcome(self, peer: Peer, untrusted: Fields) -> dict[str, Any]:
        course = self._of_teller(peer)
        course.outcome = Outcome.from_json({name: value for name, value in untrusted.items() if name != "do"})
        return {}

    def _of_teller(self, peer: Peer) -> Course:
        lane = jobrights.lane_of(peer)
        course = (self._beside if lane is Lane.PRODUCTION else None) or self._running.get(lane)
        if course is None:
            raise JobRefusedError(what=f"no {lane} job runs", why="nothing is told of it", fix="ask for the job first")
        jobrights.require_may_tell(peer, course.job.kind)
        return course


def _is_same(course: Course, job: Job) -> bool:
    return (course.job.kind, course.job.named) == (job.kind, job.named)
