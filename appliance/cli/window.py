"""`sealift window`: whether production rests in a maintenance window, and how to end it."""

from typing import Annotated

import typer

from appliance.actions import window as actions
from appliance.actions import window_gone
from appliance.cli import context as shared
from appliance.cli.opened import ledger_of, production_of, require_enrolled
from appliance.registry import windows
from media.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    window = typer.Typer(help="Maintenance windows: production rests, and comes back.", no_args_is_help=True)
    app.add_typer(window, name="window")
    window.command("show")(_show)
    window.command("end")(_end)


def _show(context: typer.Context) -> None:
    """Show the window that is open."""
    own = shared.of(context)
    with ledger_of(own) as ledger:
        found = windows.opened(ledger)
    if found is None:
        own.result({"open": None}, "no maintenance window is open")
        return
    left = found.seconds_left(own.clock.now())
    until = f"until {found.until}, {left / 60:.0f} min from now" if left else f"past its end at {found.until}"
    own.result(
        {"open": {**found.to_json(), "seconds_left": round(left)}},
        f"production rests{found.where} for {found.purpose} of {found.model_digest[:12]}: {found.person} opened the"
        f" window at {found.at}, {until}: {found.reason}",
    )


def _end(
    context: typer.Context,
    person: Annotated[str, typer.Option("--as", help="Who ends it, by id.")],
    node: Annotated[
        str, typer.Option("--node", metavar="NAME", help="Of a node that is gone for good: close it.")
    ] = "",
    reason: Annotated[str, typer.Option("--reason", help="With --node: why, for the record.")] = "",
) -> None:
    """End the window that is open and bring production back, also where it was cut off."""
    own = shared.of(context)
    if bool(node) != bool(reason.strip()):
        raise UsageError(
            what="--node and --reason go together", why="a window is closed for another node", fix="give both"
        )
    require_enrolled(own, person)
    if node:
        with ledger_of(own) as ledger:
            found = window_gone.end(own.config, ledger, node=node, person=person, reason=reason)
        own.result(found.to_json(), f"the window of {found.at} is closed; node {node} is taken for gone")
        return
    with production_of(own) as here:
        found = actions.end(here, person)
    own.result(found.to_json(), f"the window of {found.at} is closed; production is back")
