"""Maintenance windows as the job service carries them out: production rests, the gates run, production comes back.

Promises: nothing stops before the window is recorded. It rests without being taken from the next boot, so a power
failure brings it back by itself. Whoever asked may go: the window is this process's, and production comes back when the
gates have ended, when somebody ends the window, and at its deadline. A window that this process finds open and does not
carry out (it was killed, the machine was switched off) is closed by `look`, which is asked for every few seconds: what
is left in the test stage stops, engines follow the promoter's chain, and only then the record is closed.

Where production has several lines, the one that the version is for rests, and no other: engines of the others run on,
and start and stop meanwhile; a fault in one of them keeps no window open, and what people decide about them is followed
at once.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import ConflictError, JobRefusedError, UnknownPersonError
from appliance.install.joboutcome import Outcome
from appliance.install.jobs import WINDOWS, Job, Kind
from appliance.install.supervisor import Supervisor
from appliance.install.windowengines import clear, resting, running
from appliance.install.windowlines import follows_another, is_spared, resting_line
from appliance.promote.folder import PromoterFolder
from appliance.registry import windows
from appliance.registry.windows import Asked, Closing, Purpose, Window
from appliance.stages import Stage
from media.clock import Clock, SystemClock
from media.errors import SealiftError

TESTED: Final = "tested"
"""The step in which a version has answered and waits to be brought forward."""
_BACK: Final = "sealift-switch@follow.service"
_FORWARD_SECONDS: Final = 120.0
_PAUSE_SECONDS: Final = 0.2
_AGAIN_SECONDS: Final = 1.0


class Told(Protocol):
    """Where a job's course is told; its units tell their outcome there too."""

    step: str
    outcome: Outcome | None


class WindowJobs:
    """Carries one window out at a time.

    Args:
        config: The site file.
        ledger: Where windows are recorded.
        supervisor: Starts and stops engines.
        runner: Starts the units of gates and of the switch, and returns when they have ended.
        clock: By which a window ends.
        sleep: Waits.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        *,
        supervisor: Supervisor,
        runner: Supervisor,
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._supervisor = supervisor
        self._runner = runner
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._lock = threading.Lock()
        self._engines = threading.Lock()
        self._follows = threading.Lock()
        self._window: Window | None = None
        self._kept: Window | None = None
        self._unit = ""
        self._why: Closing | None = None
        self._rests: int | None = None
        self._worked = threading.Event()

    @property
    def rests(self) -> bool:
        """Whether a window keeps production down now, or one line; only its end starts an engine of that one then."""
        return self._rests is not None

    def require_may_start(self, job: Job) -> None:
        """Return unless a window forbids what is to start.

        Raises:
            JobRefusedError: It is an engine of the line that rests while a window is open, or one of the test stage and
                the window ends.
        """
        ends = self._window is not None and self._why is not None
        if (job.kind is Kind.START_PRODUCTION and self._keeps_down(job.digest12)) or (
            job.kind is Kind.START_TEST and ends
        ):
            raise JobRefusedError(
                what="no engine is started now",
                why="a maintenance window is open" if self.rests else "a maintenance window ends",
                fix="wait for it, or end it: `sealift window end --as PERSON`",
            )

    @contextmanager
    def turn(self, job: Job) -> Iterator[None]:
        """Hold the one turn in which an engine is started or stopped; what a window stops is looked for after it again.

        Raises:
            JobRefusedError: As `require_may_start`, of a window that opened or ends since the job was asked for.
        """
        with self._engines:
            self.require_may_start(job)
            yield

    def goes_beside(self, job: Job) -> bool:
        """Whether a job follows what was decided about another line than the one that rests, and need not wait."""
        line = self._rests
        if line is None or self._why is not None:
            return False
        with suppress(SealiftError):
            return follows_another(PromoterFolder(self._config.at.promoter).production(), line, job)
        return False

    @contextmanager
    def beside(self) -> Iterator[str]:
        """Yield the unit that follows the other lines' decisions; no line comes back from a window meanwhile."""
        with self._follows:
            line = self._rests
            yield _BACK if line is None else f"sealift-switch@but-{line}.service"

    def open(self, job: Job) -> Window:
        """Record that a window opens; nothing has stopped yet.

        Raises:
            UnknownPersonError: Nobody of that id is enrolled.
            ConflictError: Another window is open, a canary runs, or the version takes no version's place.
        """
        folder = PromoterFolder(self._config.at.promoter)
        if job.person not in {one.id for one in folder.people().active}:
            raise UnknownPersonError(
                what=f"nobody called {job.person[:64]!r} is enrolled",
                why="a window is opened in a person's name",
                fix="see `sealift people list`",
            )
        if folder.production().canary is not None:
            raise ConflictError(
                what="a canary runs", why="a window stops what serves", fix="end it first: `sealift canary abort`"
            )
        line = resting_line(folder, self._ledger, job.digest, WINDOWS[job.kind])
        return windows.open_now(
            self._ledger,
            self._clock,
            Asked(
                purpose=WINDOWS[job.kind],
                model_digest=job.digest,
                person=job.person,
                reason=job.reason,
                minutes=job.minutes,
            ),
            previous=line.current,
            beside=[digest for _, digest in running(self._supervisor, Stage.TEST)],
            line=line.number,
        )

    def carry_out(self, window: Window, unit: str, course: Told) -> Outcome:
        """Let production rest, run the unit, and bring production back; return how the unit's work ended."""
        with self._lock:
            self._window, self._unit, self._why = window, unit, None
            self._kept = window
            self._worked.clear()
        seconds = window.seconds_left(self._clock.now())
        deadline = threading.Timer(seconds, self._end, (Closing.DEADLINE,))
        deadline.daemon = True
        deadline.start()
        began, tested = time.monotonic(), 0.0
        try:
            course.step = "rest"
            self._rest(window)
            rested = time.monotonic()
            outcome = self._work(window, unit, course)
            tested = time.monotonic() - rested
        except SealiftError as error:
            outcome = Outcome.of_error(error)
        except BaseException:
            self._release()  # `look` brings production back
            raise
        finally:
            deadline.cancel()
            self._worked.set()
        return self._close(window, course, outcome, since=began, tested=tested)

    def opened(self) -> Window | None:
        """Return the window that is open on this node.

        Raises:
            LedgerUnavailableError: It cannot be told whether one is.
        """
        return windows.opened(self._ledger, node=self._config.database.node)

    def closed_elsewhere(self) -> Window | None:
        """Return the window that this process rests production for although it was closed on another node.

        What still carries it out is broken off, so that production comes back.

        Raises:
            LedgerUnavailableError: It cannot be told whether one is.
        """
        kept = self._kept
        if kept is None or ((window := self.opened()) is not None and window.number == kept.number):
            return None
        threading.Thread(target=self._end, args=(Closing.CUT_OFF,), daemon=True).start()
        return kept

    def end(self, digest: str) -> None:
        """End the window that is open, if it is that version's; production comes back.

        Raises:
            JobRefusedError: None of that version is open.
        """
        found = self.opened()
        if found is None or found.model_digest != digest:
            raise JobRefusedError(
                what=f"no window of version {digest[:12]} is open", why="", fix="see `sealift window show`"
            )
        threading.Thread(target=self._end, args=(Closing.ENDED,), daemon=True).start()

    def look(self, course: Told) -> Window | None:
        """Close a window that nobody carries out; return it, or nothing where all is well.

        Raises:
            UnitError: Production did not come back; it is tried again with the next look.
            LedgerUnavailableError: It cannot be told whether one is open.
        """
        window = self.closed_elsewhere() or self.opened()
        if window is None or self._window is not None:
            return None
        for unit in (Job(kind=kind, digest=window.model_digest).unit for kind in WINDOWS):
            with suppress(SealiftError):  # it may never have been started
                self._runner.stop(unit)
        why = Closing.CUT_OFF if window.seconds_left(self._clock.now()) > 0 else Closing.DEADLINE
        back = self._bring_back(window, course)
        self._record(window, why=why, back=back)
        return window

    def followed(self) -> None:
        """Close what is open and not carried out, after engines followed the chain by another job."""
        window = self.opened()
        if window is not None and self._window is None:
            self._record(window, why=Closing.ENDED)

    def _rest(self, window: Window) -> None:
        def rest() -> None:
            for unit in resting(self._config, self._supervisor, window.line):
                self._supervisor.rest(unit)

        self._rests = window.line
        self._empty(rest)

    def _keeps_down(self, digest12: str) -> bool:
        line = self._rests
        if line is None:
            return False
        with suppress(SealiftError):  # where the chain cannot be read, nothing starts
            return not is_spared(PromoterFolder(self._config.at.promoter).production(), line, digest12)
        return True

    def _empty(self, stop: Callable[[], None]) -> None:
        """Stop what runs, which breaks off a start that is under way, and then what such a start left all the same."""
        stop()
        with self._engines:
            stop()

    def _work(self, window: Window, unit: str, course: Told) -> Outcome:
        course.outcome = None
        self._require_open()
        try:
            self._runner.start(unit)
            otherwise = Outcome.unsaid(unit)
        except SealiftError as error:
            otherwise = Outcome.of_error(error)
        self._require_open()
        outcome = _said(course) or otherwise
        if window.purpose is Purpose.CUT_OVER and outcome.ok:
            course.step = TESTED
            self._await_promotion(window)
        return outcome

    def _await_promotion(self, window: Window) -> None:
        """Wait until the promoter brought the version forward, which whoever opened the window asks it for."""
        until = time.monotonic() + _FORWARD_SECONDS
        folder = PromoterFolder(self._config.at.promoter)
        while not folder.production().serves(window.model_digest):
            self._require_open()
            if time.monotonic() > until:
                raise JobRefusedError(
                    what="nobody brought the version forward", why="it answered in the test stage", fix="try again"
                )
            self._sleep(_PAUSE_SECONDS)

    def _require_open(self) -> None:
        if self._why is not None:
            raise JobRefusedError(
                what="the window was ended",
                why="its time is over" if self._why is Closing.DEADLINE else "somebody ended it, or broke it off",
                fix="open another one, with more minutes if these were too few",
            )

    def _end(self, why: Closing) -> None:
        with self._lock:
            if self._window is None or self._why is not None:
                return
            self._why, unit = why, self._unit
        while not self._worked.is_set():  # until it is down: it may just be about to start
            with suppress(SealiftError):
                self._runner.stop(unit)
            self._worked.wait(_AGAIN_SECONDS)

    def _close(self, window: Window, course: Told, outcome: Outcome, *, since: float, tested: float) -> Outcome:
        why = self._why or (Closing.DONE if outcome.ok or outcome.digest else Closing.FAILED)
        self._why = why  # from here on nothing starts in the test stage
        try:
            back = self._bring_back(window, course)
        except SealiftError as error:
            return Outcome.of_error(error, digest=outcome.digest)  # `look` tries again
        finally:
            self._release()
        self._record(window, why=why, back=back, tested=tested, silent=time.monotonic() - since)
        return outcome

    def _release(self) -> None:
        """Carry the window out no more: if its record stays open, `look` closes it."""
        with self._lock:
            self._window, self._unit, self._why = None, "", None

    def _bring_back(self, window: Window, course: Told) -> float:
        """Stop what the window left in the test stage, then let engines follow the chain; return how long that took."""
        began, course.step = time.monotonic(), "back"
        self._empty(lambda: clear(self._config, self._supervisor, window))
        with self._follows:
            self._rests, self._kept, course.outcome = None, None, None
            try:
                self._runner.start(self._unit_of(window))
            except SealiftError:
                if (said := _said(course)) is not None:
                    said.require_ok()  # what the unit itself said of its failure tells more than that it failed
                raise
        return time.monotonic() - began

    def _unit_of(self, window: Window) -> str:
        """Return the unit that brings production back, or the window's line where there are several."""
        has_further = PromoterFolder(self._config.at.promoter).production().has_further
        return f"sealift-switch@line-{window.line}.service" if has_further else _BACK

    def _record(
        self,
        window: Window,
        *,
        why: Closing,
        back: float | None = None,
        tested: float = 0.0,
        silent: float | None = None,
    ) -> None:
        production = PromoterFolder(self._config.at.promoter).production()
        with suppress(SealiftError):  # `look` finds it open and closes it
            windows.close(
                self._ledger,
                window,
                why=why,
                cut_over=window.purpose is Purpose.CUT_OVER and production.serves(window.model_digest),
                tested_seconds=tested,
                silent_seconds=silent,
                back_seconds=back,
            )


def _said(course: Told) -> Outcome | None:
    """Return what a unit told meanwhile, by another thread: it is not what was set here a line before."""
    return course.outcome
