"""`sealift readiness`: the go-live report."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import readiness as action
from appliance.actions.readiness import Verdict
from appliance.cli import context as shared
from appliance.cli.marks import marked
from appliance.cli.opened import records_of
from appliance.errors import PreflightError

_GOOD = {Verdict.HELD: True, Verdict.NOT_HELD: False, Verdict.TO_SIGN: None}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("readiness")(_readiness)


def _readiness(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it as .html or .pdf.")] = None,
) -> None:
    """Look at everything that must hold before going live. Ends with 52 when something does not."""
    own = shared.of(context)
    with records_of(own) as (ledger, state):
        here = action.Surroundings(config=own.config, ledger=ledger, state=state, clock=own.clock)
        report = action.readiness(here)
    if out is not None:
        action.write(report, out)
        own.say(f"the report is in {out.name}")
    lines = [
        marked(item.id, f"{item.title}: {item.found}".rstrip(": "), is_good=_GOOD[item.verdict])
        for item in report.items
    ]
    own.result(report.to_json(), "\n".join(lines))
    if not report.is_ready:
        raise typer.Exit(PreflightError.exit_code)
