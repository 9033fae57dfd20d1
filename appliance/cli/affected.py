"""`sealift affected`: what one version answered."""

from typing import Annotated

import typer

from appliance.actions.answered import MOST_LISTED, answered
from appliance.cli import context as shared
from appliance.cli.opened import records_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("affected")(_affected)


def _affected(
    context: typer.Context,
    version: Annotated[str, typer.Option("--version", help="A digest, the beginning of one, a name, or NAME:VERSION.")],
    limit: Annotated[int, typer.Option("--limit", help="How many requests are listed, the newest.")] = MOST_LISTED,
) -> None:
    """List what a version answered: of whom, when, and each request by its id."""
    own = shared.of(context)
    with records_of(own) as (ledger, state):
        found = answered(ledger, state, version, most=max(limit, 1))
    lines = [f"{found.version.name} {found.version.version} began {found.answers} answers"]
    if found.answers:
        lines[0] += f", from {found.first} to {found.last}"
        lines += [f"  {name:<32} {count}" for name, count in found.departments.items()]
        lines += [f"  {one['request_id']}  {one['at']}  sequence {one['sequence']}" for one in found.requests]
    own.result(found.to_json(), "\n".join(lines))
