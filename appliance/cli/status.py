"""`sealift status`: what runs here."""

import typer

from appliance.actions.status import status as ask
from appliance.cli import context as shared
from appliance.cli.marks import marked


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("status")
    def status(context: typer.Context) -> None:
        """Show release, what is in production, units, nodes, ledger and egress."""
        own = shared.of(context)
        found = ask(own.config, clock=own.clock)
        lines = [marked(part.name, part.text, is_good=part.is_good) for part in found.parts]
        own.result(found.to_json(), "\n".join([f"{own.config.site} ({own.config.environment})", *lines]))
