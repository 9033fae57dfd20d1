"""What `validate --window` and `promote --window` share: asking for a window by a job, and breaking it off."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Annotated, Final

import typer
from sqlalchemy import Engine

from appliance.audit.facts import Ledger
from appliance.cli.context import Context
from appliance.errors import UnitError
from appliance.install import jobrights
from appliance.install.jobclient import JobsClient, Seen
from appliance.install.joboutcome import Outcome
from appliance.install.jobs import Kind
from appliance.registry import catalog, windows
from appliance.registry.windows import LEAST_MINUTES, MOST_MINUTES, Asked
from media.errors import SealiftError, UsageError

Minutes = Annotated[
    int,
    typer.Option(
        "--minutes", min=LEAST_MINUTES, max=MOST_MINUTES, help="With --window: when production is back at the latest."
    ),
]
_PAUSE_SECONDS: Final = 0.5
_ENDING_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


def require_named(asked: Asked) -> Asked:
    """Return what is asked when it says who and why.

    Raises:
        UsageError: It does not.
    """
    if not asked.person or not asked.reason:
        raise UsageError(
            what="a window is opened by somebody, with a reason",
            why="callers get no answers meanwhile",
            fix="give --as PERSON and --reason TEXT",
        )
    return asked


def of_version(state: Engine, asked: Asked) -> Asked:
    """Return the same, asked for the version's whole digest.

    Raises:
        UnknownVersionError: There is no such version.
    """
    with state.connect() as session:
        return replace(asked, model_digest=catalog.version(session, asked.model_digest).model_digest)


@contextmanager
def broken_off_by_signals() -> Iterator[None]:
    """Make the signals that end a command break it off as Ctrl-C does, so that what it began is brought to an end."""

    def broken_off(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(number)

    before = {number: signal.signal(number, broken_off) for number in _ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class ByJob:
    """Has the job service carry a window out; a command that is broken off ends it, one that is killed does not."""

    def __init__(self, own: Context, ledger: Ledger) -> None:
        self._own = own
        self._ledger = ledger

    def __call__(self, kind: Kind, asked: Asked, *, seen: Seen = lambda *_: None) -> Outcome:
        """Ask and wait; see `actions.production.InWindow`.

        Raises:
            RemoteError: The job service refused, or what `seen` asked somebody for was refused; production is back.
            WireError: It went away and did not come back; the window goes on, or is closed when it is back.
        """
        jobs = JobsClient.open(self._own.config, jobrights.OPERATOR)
        try:
            number = jobs.ask(
                kind, digest=asked.model_digest, person=asked.person, reason=asked.reason, minutes=asked.minutes
            )
            self._own.say(
                f"job {number} carries the window out; production is back in {asked.minutes} min at the latest"
            )
            return jobs.wait(number, seen=seen)
        except BaseException:
            with suppress(SealiftError):  # it may be over, or it never began
                if self._is_ours(asked):
                    self.end(asked)
            raise
        finally:
            jobs.close()

    def _is_ours(self, asked: Asked) -> bool:
        """Tell whether the window that is open is what was asked for: another one is nobody's to end in passing."""
        found = windows.opened(self._ledger)
        wanted = (asked.purpose, asked.model_digest, asked.person, asked.reason)
        return found is not None and (found.purpose, found.model_digest, found.person, found.reason) == wanted

    def end(self, asked: Asked) -> None:
        """End the window and wait until production is back.

        Raises:
            JobRefusedError: No window of that version is open.
            UnitError: Production is not back yet; the job service goes on trying.
        """
        jobs = JobsClient.open(self._own.config, jobrights.OPERATOR)  # the other line may be in the middle of an answer
        try:
            jobs.ask(Kind.END_WINDOW, digest=asked.model_digest, person=asked.person)
        finally:
            jobs.close()
        self._own.say("the window ends; production comes back")
        until = time.monotonic() + self._own.config.engine.start_seconds
        while windows.opened(self._ledger) is not None:
            if time.monotonic() > until:
                raise UnitError(
                    what="production is not back yet",
                    why="its engine did not start so far; it is tried again every few seconds",
                    fix="see `sealift window show` and `sealift status`",
                )
            time.sleep(_PAUSE_SECONDS)
