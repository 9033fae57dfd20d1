"""Carries out one typed job in a unit of its own, as an unprivileged user, and tells the job service how it goes.

Entry point: ``python -I -m appliance.actions.worker --config FILE validate DIGEST[-try]``, ``switch follow|warm`` (or
``line-N|but-N``), ``evidence RECORD-DIGEST32``, ``report QUARTER``, ``prove RECORD``, or ``judge`` and ``report due``,
which are no jobs but timers'. It does what the commands do, through the same actions; engines it asks for by jobs
again. It decides
nothing: `validate` is told a version, `switch` follows the promoter's chain, and `judge` lets the promoter look and
follows it.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from appliance import config as configuration
from appliance.actions import canary, elsewhere, export_evidence, production, trying
from appliance.actions import validate as validation
from appliance.actions.controls.judged import in_report
from appliance.actions.controls.live import Here
from appliance.actions.following import Following, kept_warm
from appliance.actions.reports import making, shelf
from appliance.actions.reports.period import Period, require_quarter
from appliance.actions.tracing import proofs
from appliance.audit import pin
from appliance.audit.rights import ACTIONS, BENCH, SWITCH
from appliance.audit.socket_ledger import SocketLedger
from appliance.config import Config
from appliance.errors import LedgerUnavailableError, ProofError
from appliance.install import jobrights
from appliance.install.jobclient import JobsClient, JobsSupervisor
from appliance.install.joboutcome import Outcome
from appliance.promote.client import PromoterClient
from appliance.promote.desk import JUDGE_DOOR
from appliance.promote.folder import PromoterFolder
from appliance.state.database import open_state
from appliance.wire import RemoteError
from media import canonical
from media.clock import SystemClock
from media.errors import MalformedError, SealiftError

_TELL_SECONDS: Final = 0.25
JUDGE: Final = "judge"
_TRY: Final = "-try"
_DOORS: Final = {
    "validate": jobrights.BENCH,
    "switch": jobrights.SWITCH,
    "evidence": jobrights.RECEIVE,
    "report": jobrights.RECEIVE,
    "prove": jobrights.RECEIVE,
}
_EVIDENCE: Final = re.compile(r"([0-9]{1,15})-([0-9a-f]{32})")
_RECORD: Final = re.compile(r"[0-9]{1,15}", re.ASCII)


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry the job out; returns the exit code of its error, 0 when it went well."""
    parser = argparse.ArgumentParser(prog="sealift-worker")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    parser.add_argument("what", choices=(*_DOORS, JUDGE))
    parser.add_argument("instance", nargs="?", default="")
    options = parser.parse_args(arguments)
    try:
        config = configuration.load(options.config)
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return error.exit_code
    if options.what == JUDGE:
        return judge(config)
    if (options.what, options.instance) == ("report", shelf.DUE):
        return report_due(config)
    jobs = JobsClient.open(config, _DOORS[options.what])
    try:
        known = {"validate": validate, "switch": switch, "evidence": evidence, "report": report, "prove": prove}
        carry_out = known[options.what]
        outcome = carry_out(config, options.instance, jobs)
    except SealiftError as error:
        outcome = Outcome.of_error(error)
    sys.stderr.write("" if outcome.ok else f"{outcome.what}: {outcome.why}\n")
    try:
        jobs.tell_outcome(outcome)
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
    jobs.close()
    return 0 if outcome.ok else outcome.exit_code or 1


def validate(config: Config, untrusted_digest: str, jobs: JobsClient) -> Outcome:
    """Run the gates of one version; the outcome names the evidence, also when a gate did not pass.

    With `-try` after the digest it only has to load what was approved and answer, which is not recorded as a gate.
    """
    digest = canonical.sha256_hex(untrusted_digest.removesuffix(_TRY), "instance")
    began, ledger, state = time.monotonic(), SocketLedger(config.at.socket(BENCH)), open_state(config.at)
    try:
        here = validation.Surroundings(
            config=config, ledger=ledger, state=state, supervisor=JobsSupervisor(jobs), clock=SystemClock()
        )
        if untrusted_digest.endswith(_TRY):
            seconds = trying.try_out(here, digest)
            return Outcome(ok=True, millis=int(seconds * 1000))
        report = validation.validate(here, digest, progress=_teller(jobs))
    finally:
        ledger.close()
        state.dispose()
    millis = int((time.monotonic() - began) * 1000)
    try:
        report.require_passed()
    except SealiftError as error:
        return Outcome.of_error(error, digest=report.evidence_digest, millis=millis)
    return Outcome(ok=True, digest=report.evidence_digest, millis=millis, changed=True)


def switch(config: Config, untrusted_instance: str, jobs: JobsClient) -> Outcome:
    """Bring production to what the promoter's chain says; `warm` leaves the version before loaded.

    Where it has several lines, `line-N` brings one back from a window, and `but-N` leaves one resting in it.
    """
    steps, asked = _teller(jobs), Following.of(untrusted_instance)
    with _on_production(config, jobs, tell=lambda text: steps(text.split()[0], 0, 1)) as here:
        chain = PromoterFolder(config.at.promoter)
        keep = kept_warm(chain.production(), here.ledger) if asked.is_warm else ()
        served = production.settle(here, keep=keep, line=asked.line, rests=asked.rests)
    return Outcome(
        ok=True,
        started=served.started,
        stopped=served.stopped,
        millis=int(served.seconds * 1000),
        changed=bool(served.started or served.stopped),
    )


def judge(config: Config) -> int:
    """Let the promoter judge a canary, and bring engines and state to what it decided; returns the exit code.

    Of several nodes each also follows what was decided by way of another one.
    """
    jobs, changed = JobsClient.open(config, jobrights.SWITCH), None
    try:
        with _on_production(config, jobs, tell=lambda text: sys.stderr.write(f"{text}\n")) as here:
            try:
                changed = canary.judge(here)["changed"]
            except RemoteError as error:
                # A node that does not lead records no verdict; the one that leads does, and its word is followed here.
                if not config.database.node or error.remote_code != LedgerUnavailableError.code:
                    raise
                sys.stderr.write(f"{error.what}\n")
            elsewhere.follow(here)
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return error.exit_code
    finally:
        jobs.close()
    if changed is not None:
        sys.stderr.write(f"{changed['kind']}: {changed['reason']}\n")
    return 0


@contextmanager
def _on_production(
    config: Config, jobs: JobsClient, *, tell: Callable[[str], object]
) -> Iterator[production.Surroundings]:
    ledger, state = SocketLedger(config.at.socket(SWITCH)), open_state(config.at)
    promoter = PromoterClient.open(config, JUDGE_DOOR)
    try:
        yield production.Surroundings(
            config=config,
            ledger=ledger,
            state=state,
            promoter=promoter,
            supervisor=JobsSupervisor(jobs),
            clock=SystemClock(),
            tell=lambda text: (tell(text), None)[1],
        )
    finally:
        promoter.close()
        ledger.close()
        state.dispose()


def evidence(config: Config, untrusted_instance: str, _: JobsClient) -> Outcome:
    """Make the evidence of a record as it was shown to a person; the outcome's digest is that of its content."""
    found = _EVIDENCE.fullmatch(untrusted_instance)
    if found is None:
        raise MalformedError(what="the instance is refused", why="expected RECORD-DIGEST32", fix="ask for a job")
    export_evidence.make_shown(config, int(found[1]), found[2], clock=SystemClock())
    return Outcome(ok=True, changed=True)


def report(config: Config, untrusted_quarter: str, jobs: JobsClient) -> Outcome:
    """Make the report of a quarter and keep it where the page finds it; an instance is in lower case."""
    steps = _teller(jobs)
    _reported(config, require_quarter(untrusted_quarter.upper()), lambda done, of: steps("records", done, of))
    return Outcome(ok=True, changed=True)


def prove(config: Config, untrusted_record: str, jobs: JobsClient) -> Outcome:
    """Verify the origin of an answer afresh and keep what was found; the outcome is that of the proof."""
    if not _RECORD.fullmatch(untrusted_record):
        raise MalformedError(what="the instance is refused", why="expected RECORD", fix="ask for a job")
    began, steps, ledger = time.monotonic(), _teller(jobs), SocketLedger(config.at.socket(ACTIONS))
    try:
        found = proofs.keep(
            config,
            ledger,
            int(untrusted_record),
            clock=SystemClock(),
            tell=lambda step, done, of: steps(step.replace(" ", "-"), done, of),
        )
    finally:
        ledger.close()
    millis = int((time.monotonic() - began) * 1000)
    try:
        found.require()
    except SealiftError as error:
        return Outcome.of_error(error, millis=millis)
    return Outcome(ok=True, millis=millis, changed=True)


def report_due(config: Config) -> int:
    """Make the report of the newest quarter that is over, where there is none yet; returns the exit code."""
    try:
        kept = _reported(config, shelf.DUE, lambda _done, _of: None)
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return error.exit_code
    sys.stderr.write("no report is due\n" if kept is None else f"{kept.name}: record {kept.sequence}\n")
    return 0


def _reported(config: Config, name: str, progress: Callable[[int, int], None]) -> shelf.Kept | None:
    ledger, clock = SocketLedger(config.at.socket(ACTIONS)), SystemClock()

    def count(period: Period) -> dict[str, Any]:
        key = pin.read_pin(config.at)
        if key is None:
            raise ProofError(what="no ledger key is pinned", why="etc/ledger.pub is absent", fix="restore it")
        site, prices = config.site, config.cost
        facts = making.counted(ledger, period, site=site, key=key, clock=clock, prices=prices, progress=progress)
        return in_report(facts, Here(config=config, ledger=ledger, clock=clock))

    try:
        return shelf.keep(config.at.reports, ledger, name, count, clock=clock)
    finally:
        ledger.close()


def _teller(jobs: JobsClient) -> Callable[[str, int, int], None]:
    """Return what tells progress, a few times a second at most; a job goes on when nobody listens."""
    last_step, last_at = "", 0.0

    def tell(step: str, done: int, total: int) -> None:
        nonlocal last_step, last_at
        now = time.monotonic()
        if step == last_step and done < total and now - last_at < _TELL_SECONDS:
            return
        last_step, last_at = step, now
        # Nor when it is refused, as by a service that started since: what is checked meanwhile would count as broken.
        with suppress(SealiftError):
            jobs.tell_progress(step, done, total)

    return tell


if __name__ == "__main__":
    raise SystemExit(main())
