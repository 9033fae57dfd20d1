"""`sealift validate`: run the gates on a version in the test stage."""

from typing import Annotated, Any

import typer
from rich.progress import TaskID

from appliance.actions import validate as action
from appliance.actions.validate import ValidationReport
from appliance.cli import context as shared
from appliance.cli.context import Context
from appliance.cli.opened import bench_of, jobs_of, records_of
from appliance.errors import GateFailedError
from appliance.install.jobclient import JobsClient, Seen
from appliance.install.jobs import Kind
from appliance.registry import catalog


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("validate")(_validate)


def _validate(
    context: typer.Context,
    which: Annotated[str, typer.Argument(help="A digest, the beginning of one, a name, or NAME:VERSION.")],
    only: Annotated[str, typer.Option("--only", help="Run one gate, e.g. smoke in a rehearsal.")] = "",
) -> None:
    """Start the version in test, run its gates, keep the evidence, and stop it again. Production is untouched."""
    own = shared.of(context)
    with jobs_of(own) as jobs, own.progress() as bar:
        tasks: dict[str, TaskID] = {}

        def show(gate: str, done: int, total: int) -> None:
            if gate not in tasks:
                tasks[gate] = bar.add_task(gate, total=total)
            bar.update(tasks[gate], completed=done, total=total)

        if jobs is not None and not only:
            report = _by_job(own, jobs, which, show)
        else:
            with bench_of(own) as here:
                report = action.validate(here, which, only=only, progress=show)
    own.result(report.to_json(), _text(report))
    if not report.passed and own.as_json:
        raise typer.Exit(GateFailedError.exit_code)  # the report is the one document on stdout
    report.require_passed()


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
        for tasks in verdict.figures.get("sets", ()):
            lines += [
                (
                    f"    {tasks['name']}: {tasks['accuracy_millis'] / 10:.1f} % of {tasks['items']}"
                    f" (95 % interval {tasks['low_millis'] / 10:.1f} to {tasks['high_millis'] / 10:.1f},"
                    f" floor {tasks['floor_millis'] / 10:.1f})"
                ),
                f"      {_reference(tasks['reference'])}",
            ]
    lines.append(f"evidence {report.evidence_digest}")
    return "\n".join(lines)


def _reference(found: dict[str, Any]) -> str:
    if "not_made" in found:
        return f"not compared with full precision: {found['not_made']}"
    moved = found["difference_millinats"]
    likelihoods = "" if moved is None else f", log-likelihoods {moved / 1000:+.3f} on average"
    return (
        f"as its parent {found['parent_sha256'][:12]} in {found['agreement_millis'] / 10:.1f} %"
        f" of {found['items']}{likelihoods}"
    )
