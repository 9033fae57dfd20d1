"""`sealift prove`: from an answer to its origin, every step checked afresh."""

from typing import Annotated

import typer

from appliance.actions import prove as action
from appliance.cli import context as shared
from appliance.cli.opened import ledger_of
from appliance.errors import ProofError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("prove")(_prove)


def _prove(
    context: typer.Context,
    request_id: Annotated[str, typer.Argument(help="The x-request-id header of an answer.")],
) -> None:
    """Prove where an answer came from. Needs no network and nothing running."""
    own = shared.of(context)
    with ledger_of(own) as ledger:
        report = action.prove(own.config, ledger, request_id)
    own.result(report.to_json(), report.to_text())
    if not report.ok and own.as_json:
        raise typer.Exit(ProofError.exit_code)  # the report is the one document on stdout
    report.require()
