"""Maintenance windows, for boxes whose memory holds one version: production rests while another is tested or cut over.

Promises: nothing stops before it is recorded who opened the window, why and until when, and for a cut-over before the
approvals are there and the time of going back is said. Whatever fails, the version before serves again; where another
had gone forward already that is recorded as going back, in the name and with the reason of whoever opened the window.
Where the promoter's answer is lost, its chain is asked whether it promoted; how a window ended is said by that chain.

Where the job service runs it carries the window out (`appliance.install.windowjobs`) and outlives the command. Where it
does not (demo, rehearsal), this process does: one that is killed leaves an open record, which `sealift window end`
closes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from appliance.actions import validate as validation
from appliance.actions import window_plan
from appliance.actions.following import serving
from appliance.actions.gates import Progress
from appliance.actions.production import InWindow, Served, Surroundings, settle
from appliance.actions.promote import waiting
from appliance.actions.trying import try_out
from appliance.actions.validate import ValidationReport
from appliance.actions.window_plan import Plan
from appliance.errors import ConflictError, EngineLoadError, NotEnoughApprovalsError, UnknownPersonError
from appliance.install.joboutcome import Outcome
from appliance.install.jobs import Kind
from appliance.install.windowengines import clear, resting, running
from appliance.install.windowjobs import TESTED
from appliance.install.windowlines import resting_line
from appliance.promote.enrolment import require_reason
from appliance.promote.folder import PromoterFolder
from appliance.promote.promoter import Request
from appliance.promote.record import Promotion
from appliance.promote.terms import WATCH_HOURS
from appliance.registry import windows
from appliance.registry.windows import CLOSED, Asked, Closing, Purpose, Window
from appliance.stages import Stage
from media.errors import SealiftError

Report = Callable[[Outcome], ValidationReport]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowFacts:
    """What a cut-over in a window did.

    Attributes:
        plan: What was said before.
        promotion: Of the version that went forward.
        served: What serves since.
        tested_seconds: How long the candidate took in the test stage until it had answered.
        silent_seconds: For how long callers got no answer.
    """

    plan: Plan
    promotion: Promotion
    served: Served
    tested_seconds: float
    silent_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers; times in seconds."""
        return {
            "plan": self.plan.to_json(),
            "model_digest": self.promotion.model_digest,
            "previous": self.promotion.previous,
            "sequence": self.promotion.sequence,
            "tested_seconds": round(self.tested_seconds, 3),
            "silent_seconds": round(self.silent_seconds, 3),
            "return_seconds": self.plan.fit.return_seconds,
            "watch_hours": WATCH_HOURS,
            "started": list(self.served.started),
            "stopped": list(self.served.stopped),
        }


@dataclass(slots=True, kw_only=True)
class _Course:
    """What a window came to."""

    began: float
    why: Closing = Closing.FAILED
    tested: float = 0.0
    promotion: Promotion | None = None
    served: Served = field(default_factory=lambda: Served(standing=None, started=(), stopped=(), seconds=0.0))
    silent: float = 0.0


def validate(
    here: Surroundings, bench: validation.Surroundings, asked: Asked, *, report: Report, progress: Progress
) -> ValidationReport:
    """Run the gates of a version while production rests, and bring production back.

    Args:
        here: What actions on production work with.
        bench: What validation works with.
        asked: Which version, by its whole digest, in whose name, why, for how long.
        report: Makes the report of a job's outcome.
        progress: Told of each gate's steps.

    Raises:
        UnknownPersonError: Nobody of that id is enrolled; nothing was stopped.
        ConflictError: Another window is open, a canary runs, or developers have the version in the test stage.
        UnitError: The version in production did not start again.
        RemoteError: The job service's own error; production is back, or it goes on trying.
    """
    window_plan.plan_gates(here, asked.model_digest, minutes=asked.minutes)
    if here.in_window is not None:
        return report(here.in_window(Kind.VALIDATE_IN_WINDOW, asked, seen=progress))
    with _opened(here, asked) as course:
        found = validation.validate(bench, asked.model_digest, progress=progress)
        course.why = Closing.DONE
    return found


def cut_over(here: Surroundings, asked: Asked, *, password: str | None = None) -> WindowFacts:
    """Open a window, test, bring the version forward, and close it.

    Args:
        here: What the action works with.
        asked: Which version, in whose name it goes back when it does not serve, why, for how long at most.
        password: Proves the person where the command line's word is not enough.

    Raises:
        NotEnoughApprovalsError: Nobody asked for approvals yet, or too few people approved; nothing was stopped.
        UnknownPersonError: Nobody of that id is enrolled; nothing was stopped.
        ConflictError: Another window is open, a canary runs, or developers have the version in the test stage.
        EngineLoadError: It failed; which version serves is said, and whether the promoter could be asked for that.
        RemoteError: The job service refused, so nothing was stopped.
        UnitError: The version before did not start again either.
    """
    planned = window_plan.plan(here, asked.model_digest)
    request = _approved(here, planned)
    _require_enrolled(here, asked.person)
    require_reason(asked.reason)
    for line in planned.lines:
        here.tell(line)
    began = here.clock.monotonic()
    promoted: list[Promotion] = []
    steps: list[str] = []
    try:
        if here.in_window is not None:
            course = _by_job(here, here.in_window, asked, request, promoted=promoted, steps=steps)
        else:
            course = _here(here, asked, request, promoted)
    except BaseException as error:  # whatever it was, callers get answers again
        if promoted or steps:
            _put_back(here, asked, promoted, password=password)
        elif here.in_window is not None or windows.opened(here.ledger) is not None:
            raise  # the job was refused before anything stopped; or the version before did not start again
        if not isinstance(error, SealiftError):
            raise
        what, serves = _ended_with(here, planned)
        raise EngineLoadError(
            what=f"the window ended with {what}, after {here.clock.monotonic() - began:.1f} s",
            why=f"{error.what}: {error.why}",
            fix=f"look at the engine's journal and at `sealift history`; {serves}",
        ) from error
    return WindowFacts(
        plan=planned,
        promotion=promoted[0],
        served=course.served,
        tested_seconds=course.tested,
        silent_seconds=course.silent,
    )


def end(here: Surroundings, person: str) -> Window:
    """End the window that is open; production comes back. One that was cut off is ended likewise.

    Raises:
        ConflictError: None is open, or it is another node's.
        UnitError: Production did not start again.
    """
    window = windows.opened(here.ledger)
    if window is None:
        raise ConflictError(what="no maintenance window is open", why="", fix="see `sealift status`")
    if window.node not in {"", here.config.database.node}:
        raise ConflictError(
            what=f"the window that is open is node {window.node}'s",
            why="its engine rests there, and comes back there",
            fix="end it on that node; is it gone for good: `sealift window end --node NAME --reason TEXT`, as root",
        )
    asked = Asked(
        purpose=window.purpose, model_digest=window.model_digest, person=person or window.person, reason=window.reason
    )
    if here.in_window is not None:
        here.in_window.end(asked)
    else:
        _bring_back(here, window, _Course(began=here.clock.monotonic(), why=Closing.ENDED), is_seen=False)
    return window


def _here(here: Surroundings, asked: Asked, request: Request, promoted: list[Promotion]) -> _Course:
    with _opened(here, asked) as course:
        here.tell(f"starting version {asked.model_digest[:12]} in the test stage")
        course.tested = try_out(here, asked.model_digest)
        _bring_forward(here, request, promoted)
        course.why = Closing.DONE
    return course


def _by_job(
    here: Surroundings,
    in_window: InWindow,
    asked: Asked,
    request: Request,
    *,
    promoted: list[Promotion],
    steps: list[str],
) -> _Course:
    """Let the job service carry the window out, and ask the promoter when the version has answered."""

    def forward(step: str, _done: int, _total: int) -> None:
        if steps[-1:] == [step]:
            return  # it is told again and again as long as it lasts
        steps.append(step)
        if step != TESTED:
            here.tell(step)
        else:
            _bring_forward(here, request, promoted)

    outcome = in_window(Kind.CUT_OVER_IN_WINDOW, asked, seen=forward).require_ok()
    return _Course(
        began=0.0,
        tested=outcome.millis / 1000,
        served=Served(standing=None, started=outcome.started, stopped=outcome.stopped, seconds=0.0),
        silent=_silent_seconds(here, asked.model_digest),
    )


def _bring_forward(here: Surroundings, request: Request, promoted: list[Promotion]) -> None:
    try:
        promoted.append(here.promoter.promote(request.statement.sha256))
    except BaseException as error:  # its answer may be lost, and not the promotion
        promoted += _made(here, request)
        if not promoted or not isinstance(error, SealiftError):
            raise
    here.tell(f"promotion {promoted[0].number} is recorded at sequence {promoted[0].sequence}")


def _made(here: Surroundings, request: Request) -> list[Promotion]:
    """Return the promotion of a request where it is the chain's last word; nothing, too, where nobody can say."""
    asked = request.statement
    with suppress(SealiftError):
        last = here.promoter.current()["last"]
        if last and (last["statement"], last["model_digest"]) == (asked.to_bytes().decode(), asked.model_digest):
            return [Promotion.from_json(last)]
    return []


def _ended_with(here: Surroundings, planned: Plan) -> tuple[str, str]:
    """Return with which version a window ended by the promoter's chain, and what serves by it."""
    try:
        current = here.promoter.current()
    except SealiftError:
        return "a version that the promoter does not tell", "see `sealift status` for what serves"
    before, now = planned.fit.production, serving(current)
    if before is not None and before.model_digest in now:
        return "the version before", "the version before serves"
    own = planned.fit.version.model_digest
    serves = own if own in now else current["model_digest"]
    named = f"version {serves[:12]}" if serves else "nothing"
    return f"{named} in production", f"{named} serves; `sealift rollback` goes back"


def _silent_seconds(here: Surroundings, model_digest: str) -> float:
    """Return for how long callers got no answer, as the record of the window says; 0 where there is none yet.

    The version serves by now: whatever its record lacks, it does not go back for that.
    """
    with suppress(SealiftError):
        for leaf in here.ledger.find(kind=CLOSED, field="model_digest", value=model_digest, limit=1):
            return int(leaf.body["silent_millis"] or 0) / 1000
    return 0.0


def _put_back(here: Surroundings, asked: Asked, promoted: list[Promotion], *, password: str | None) -> None:
    """Let the version before serve again, which is going back where another was brought forward already.

    Where going back is refused, what the chain says serves, rather than nothing.
    """
    try:
        if promoted:
            text = f"the window: it did not serve ({asked.reason})"[:500]
            previous = str(promoted[0].previous)
            here.promoter.rollback(person=asked.person, reason=text, model_digest=previous, password=password)
    finally:
        settle(here)
        window = windows.opened(here.ledger) if here.in_window is None else None
        if window is not None:
            windows.close(here.ledger, window, why=Closing.FAILED, cut_over=_is_forward(here, window))


@contextmanager
def _opened(here: Surroundings, asked: Asked) -> Iterator[_Course]:
    """Let the version's line of production rest, and bring it back whatever happens meanwhile."""
    _require_enrolled(here, asked.person)
    require_reason(asked.reason)
    line = resting_line(PromoterFolder(here.config.at.promoter), here.ledger, asked.model_digest, asked.purpose)
    rest = resting(here.config, here.supervisor, line.number)
    window = windows.open_now(
        here.ledger,
        here.clock,
        asked,
        previous=line.current,
        beside=[digest for _, digest in running(here.supervisor, Stage.TEST)],
        line=line.number,
    )
    course = _Course(began=here.clock.monotonic())
    try:
        for unit in rest:
            here.tell(f"stopping {unit}")
            here.supervisor.rest(unit)
        yield course
    finally:
        _bring_back(here, window, course)


def _bring_back(here: Surroundings, window: Window, course: _Course, *, is_seen: bool = True) -> None:
    """Stop what is left in the test stage, let engines follow the chain, and close the record."""
    clear(here.config, here.supervisor, window)
    before = here.clock.monotonic()
    course.served = settle(here, line=window.line)
    course.silent = here.clock.monotonic() - course.began
    windows.close(
        here.ledger,
        window,
        why=course.why,
        cut_over=_is_forward(here, window),
        tested_seconds=course.tested,
        silent_seconds=course.silent if is_seen else None,
        back_seconds=here.clock.monotonic() - before,
    )


def _is_forward(here: Surroundings, window: Window) -> bool:
    """Tell whether the version that a window was opened to bring forward is in production."""
    return window.purpose is Purpose.CUT_OVER and window.model_digest in serving(here.promoter.current())


def _approved(here: Surroundings, planned: Plan) -> Request:
    version = planned.fit.version
    request = waiting(here, version.model_digest)
    if request is None or len(request.approvals) < planned.needed:
        ask = "promote" if request is None else "approve"
        raise NotEnoughApprovalsError(
            what=f"{version.name} {version.version} is not approved",
            why=f"{len(planned.approved_by)} of {planned.needed} have approved",
            fix=f"run `sealift {ask} {version.model_digest[:12]} --as PERSON`; nothing was stopped",
        )
    return request


def _require_enrolled(here: Surroundings, person: str) -> None:
    if person not in {one["person"] for one in here.promoter.people() if not one["revoked"]}:
        raise UnknownPersonError(what=f"nobody called {person[:64]} is enrolled", why="", fix="see `sealift people`")
