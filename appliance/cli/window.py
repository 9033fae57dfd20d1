"""`sealift window`: whether production rests in a maintenance window, and how to end it."""

from typing import Annotated

import typer

from appliance.actions import window as actions
from appliance.cli import context as shared
from appliance.cli.opened import ledger_of, production_of, require_enrolled
from appliance.registry import windows


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
        f"production rests for {found.purpose} of {found.model_digest[:12]}: {found.person} opened the window at"
        f" {found.at}, {until}: {found.reason}",
    )


def _end(context: typer.Context, person: Annotated[str, typer.Option("--as", help="Who ends it, by id.")]) -> None:
    """End the window that is open and bring production back, also where it was cut off."""
    own = shared.of(context)
    require_enrolled(own, person)
    with production_of(own) as here:
        found = actions.end(here, person)
    own.result(found.to_json(), f"the window of {found.at} is closed; production is back")
