"""`sealift history`: everything that was asked, decided and done about production, or about versions."""

from typing import Annotated

import typer

from appliance.actions import history as actions
from appliance.cli import context as shared
from appliance.cli.opened import records_of
from appliance.promote import actors
from appliance.registry import catalog

_DIGITS = 64


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("history")(_history)


def _history(
    context: typer.Context,
    every: Annotated[
        bool, typer.Option("--all", help="Registrations, gates, holds, deletions and damage, too.")
    ] = False,
    of: Annotated[str, typer.Option("--of", help="Everything about one version: a digest, name or alias.")] = "",
) -> None:
    """Show who did what, when and why, from the ledger, the oldest first."""
    own = shared.of(context)
    with records_of(own) as (ledger, state):
        digest = _digest(of) if of else ""
        if of and not digest:
            with state.connect() as session:
                digest = catalog.version(session, of).model_digest
        events = actions.history(ledger, every=every, model_digest=digest)
    who = {one.sequence: ", ".join(map(actors.shown, one.people)) for one in events}
    lines = [
        f"{one.sequence:>6}  {one.at}  {one.what:<14}  {(one.model_digest or '-')[:12]:<12}  {who[one.sequence]}"
        f"{f'  ({one.reason})' if one.reason else ''}{f'  [{one.where}]' if one.where else ''}"
        for one in events
    ]
    own.result({"events": [one.to_json() for one in events]}, "\n".join(lines) or "nothing was ever in production")


def _digest(untrusted: str) -> str:
    """Return a whole digest as it is: a deleted version is found by nothing else."""
    return untrusted if len(untrusted) == _DIGITS and set(untrusted) <= set("0123456789abcdef") else ""
