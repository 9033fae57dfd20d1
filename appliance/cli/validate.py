"""`sealift validate`: run the gates on a version in the test stage."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import TaskID

from appliance.actions import validate as action
from appliance.actions import validation_report, window_plan
from appliance.actions import window as windows
from appliance.actions.gating import shown
from appliance.actions.validate import Plan, ValidationReport
from appliance.cli import context as shared
from appliance.cli.context import Context
from appliance.cli.opened import bench_of, is_operator, jobs_of, production_of, records_of
from appliance.cli.windowed import Minutes, broken_off_by_signals, of_version, require_named
from appliance.errors import GateFailedError
from appliance.install.jobclient import JobsClient, Seen
from appliance.install.joboutcome import Outcome
from appliance.install.jobs import Kind
from appliance.registry import catalog, evidence
from appliance.registry.windows import MINUTES, Asked, Purpose
from media.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("validate")(_validate)


def _validate(
    context: typer.Context,
    which: Annotated[str, typer.Argument(help="A digest, the beginning of one, a name, or NAME:VERSION.")],
    only: Annotated[str, typer.Option("--only", help="Run one gate, e.g. smoke in a rehearsal.")] = "",
    report_file: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Print the report to sign; .pdf or .html.")
    ] = None,
    last: Annotated[bool, typer.Option("--last", help="Run nothing; show what the last run found.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; start nothing.")] = False,
    window: Annotated[
        bool, typer.Option("--window", help="Stop what it would replace meanwhile: where memory holds one.")
    ] = False,
    person: Annotated[str, typer.Option("--as", help="With --window: who opens it, by id.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="With --window: why, for the record.")] = "",
    minutes: Minutes = MINUTES,
) -> None:
    """Start the version in test, run its gates, keep the evidence, and stop it again. Production is untouched.

    With --window production rests meanwhile, and comes back whatever happens.
    """
    own = shared.of(context)
    asked = Asked(purpose=Purpose.VALIDATE, model_digest=which, person=person, reason=reason, minutes=minutes)
    _require_fitting(asked, window=window, alone=bool(only or last))
    if dry_run and window:
        with production_of(own) as here:
            gates = window_plan.plan_gates(here, which, minutes=minutes)
        own.result({"dry_run": True, **gates.to_json()}, "\n".join((*gates.lines, "nothing was changed")))
        return
    if dry_run:
        action.require_gate(only)
        with bench_of(own) as here:
            planned = action.plan(here, which)
        own.result(planned.to_json(), _plan_text(planned))
        return
    if report_file is not None:
        validation_report.require_writable(report_file)
    report = _in_window(own, asked) if window else _last(own, which) if last else _run(own, which, only)
    if report_file is not None:
        with records_of(own) as (ledger, _):
            validation_report.write(report_file, report, ledger=ledger, site=own.config.site)
        own.say(f"the report is in {report_file.name}")
    own.result(report.to_json(), _text(report))
    if not report.passed and own.as_json:
        raise typer.Exit(GateFailedError.exit_code)  # the report is the one document on stdout
    report.require_passed()


def _require_fitting(asked: Asked, *, window: bool, alone: bool) -> None:
    if window and alone:
        raise UsageError(
            what="--only and --last have no window",
            why="all gates of the policy run in one",
            fix="leave one of them out",
        )
    if not window and (asked.person or asked.reason):
        raise UsageError(
            what="--as and --reason belong to --window", why="gates beside production stop nothing", fix="give --window"
        )


def _in_window(own: Context, asked: Asked) -> ValidationReport:
    with production_of(own) as here, bench_of(own) as bench, jobs_of(own) as jobs, _shown(own) as show:
        whole = of_version(bench.state, require_named(asked))

        def report(outcome: Outcome) -> ValidationReport:
            if not outcome.digest or jobs is None:
                outcome.require_ok()
            with bench.state.connect() as session:
                version = catalog.version(session, whole.model_digest)
            document = evidence.read(own.config.at, outcome.digest) if jobs is None else jobs.evidence(outcome.digest)
            return action.report_of(version, outcome.digest, document)

        with broken_off_by_signals():
            return windows.validate(here, bench, whole, report=report, progress=show)


@contextmanager
def _shown(own: Context) -> Iterator[Seen]:
    """Yield what shows each gate as it goes."""
    tasks: dict[str, TaskID] = {}
    with own.progress() as bar:

        def show(gate: str, done: int, total: int) -> None:
            if gate not in tasks:
                for earlier in tasks.values():  # a job tells its newest step only
                    bar.update(earlier, total=1, completed=1)
                tasks[gate] = bar.add_task(gate, total=total)
            bar.update(tasks[gate], completed=done, total=total)

        yield show


def _run(own: Context, which: str, only: str) -> ValidationReport:
    with jobs_of(own) as jobs, _shown(own) as show:
        if jobs is not None and not only:
            return _by_job(own, jobs, which, show)
        with bench_of(own) as here:
            return action.validate(here, which, only=only, progress=show)


def _last(own: Context, which: str) -> ValidationReport:
    with records_of(own) as (_, state), jobs_of(own) as jobs:
        with state.connect() as session:
            version = catalog.version(session, which)
            judged = catalog.judgements(session, version.model_digest)
        if not judged:
            raise GateFailedError(
                what=f"{version.name} {version.version} was not validated here",
                why="the ledger has no gate.result for it",
                fix=f"run `sealift validate {version.model_digest[:12]}`",
            )
        digest = max(judged, key=lambda one: one.sequence).evidence_digest
        is_far = jobs is not None and is_operator(own.config)
        document = jobs.evidence(digest) if jobs is not None and is_far else evidence.read(own.config.at, digest)
        return action.report_of(version, digest, document)


def _plan_text(planned: Plan) -> str:
    sets = [f"  {name}: {items} items of the {origin}" for name, origin, items in planned.sets]
    compared = f"  against production: {planned.production[:12] or 'nothing serves'}"
    parent = f"  against full precision: {planned.full_precision or 'not made'}"
    review = "demanded" if planned.demands_review else "not demanded in this environment"
    return "\n".join(
        [
            f"would validate {planned.version.name} {planned.version.version} under {planned.policy.name}",
            f"  gates: {', '.join(planned.policy.gates)}",
            *sets,
            compared,
            parent,
            f"  judged by people: {review}",
        ]
    )


def _by_job(own: Context, jobs: JobsClient, which: str, show: Seen) -> ValidationReport:
    with records_of(own) as (_, state), state.connect() as session:
        version = catalog.version(session, which)
    outcome = jobs.wait(jobs.ask(Kind.VALIDATE, digest=version.model_digest), seen=show)
    if not outcome.digest:
        outcome.require_ok()
    return action.report_of(version, outcome.digest, jobs.evidence(outcome.digest))


def _text(report: ValidationReport) -> str:
    lines = [f"{report.version.name} {report.version.version}  {report.version.model_digest}"]
    for verdict in report.verdicts:
        lines.append(f"{'✓' if verdict.passed else '✗'} {verdict.gate}{f': {verdict.why}' if verdict.why else ''}")
        lines += [f"    {line}" for line in shown.lines_of(verdict.gate, verdict.figures)]
    lines.append(f"evidence {report.evidence_digest}")
    return "\n".join(lines)
