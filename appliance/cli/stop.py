"""`sealift stop`: one person, one reason, production out of service."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import stop as action
from appliance.cli import context as shared
from appliance.cli import passwords
from appliance.cli.opened import is_operator, production_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("stop")(_stop)


def _stop(
    context: typer.Context,
    person: Annotated[str, typer.Option("--as", help="Who decides, by id.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")],
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="The person's password; asked of operators. - is stdin.")
    ] = None,
) -> None:
    """Take production out of service. Bringing the version back takes two people."""
    own = shared.of(context)
    secret = None
    if password_file is not None or is_operator(own.config):
        secret = passwords.read(password_file, prompt=f"Password of {person}")
    with production_of(own) as here:
        facts = action.stop(here, person=person, reason=reason, password=secret)
    digest = (facts.promotion.previous or "")[:12]
    own.result(facts.to_json(), f"{digest} is out of service; ledger sequence {facts.promotion.sequence}")
