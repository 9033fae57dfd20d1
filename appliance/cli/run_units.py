"""`sealift run-units`: gateway, admin page, ledger, promoter and engines without root."""

from typing import Annotated

import typer

from appliance.actions import units
from appliance.actions.units import Source, UnitsRun
from appliance.cli import context as shared
from appliance.cli.context import Context
from media.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("run-units")
    def run_units(
        context: typer.Context,
        names: Annotated[list[str] | None, typer.Argument(metavar="[UNIT]...", help="Default: all.")] = None,
        background: Annotated[bool, typer.Option("--background", help="Return when all are ready.")] = False,
        stop: Annotated[bool, typer.Option("--stop", help="Stop the units that run.")] = False,
    ) -> None:
        """Run the units of systemd/ without root: for demo and rehearsal. A box runs them under systemd."""
        own = shared.of(context)
        if stop and (background or names):
            raise UsageError(what="--stop takes nothing else", why="it stops all units", fix="give it alone")
        if stop:
            stopped = units.stop(own.config)
            own.result({"stopped": stopped}, "stopped" if stopped else "nothing was running")
            return
        source = Source(config=own.config, config_file=own.config_path)
        if background:
            _show(own, units.run_in_background(source, names or []))
            return
        units.run(source, names or [], ready=lambda facts: _show(own, facts))


def _show(own: Context, facts: UnitsRun) -> None:
    lines = [f"{name} is ready" for name in facts.units]
    lines += [f"{name} did not come back; see `sealift status`" for name in facts.failed_engines]
    lines += [f"{door}: {address}" for door, address in facts.addresses.items()]
    own.result(facts.to_json(), "\n".join(lines))
