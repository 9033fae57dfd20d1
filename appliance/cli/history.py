"""`sealift history`: everything that was asked, approved and done about production."""

import typer

from appliance.actions import versions as actions
from appliance.cli import context as shared
from appliance.cli.opened import ledger_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("history")(_history)


def _history(context: typer.Context) -> None:
    """Show production's history from the ledger, the oldest first."""
    own = shared.of(context)
    with ledger_of(own) as ledger:
        events = actions.history(ledger)
    lines = [
        f"{one.sequence:>6}  {one.at}  {one.what:<11}  {(one.model_digest or '-')[:12]:<12}  {', '.join(one.people)}"
        f"{f'  ({one.reason})' if one.reason else ''}"
        for one in events
    ]
    own.result({"events": [one.to_json() for one in events]}, "\n".join(lines) or "nothing was ever in production")
