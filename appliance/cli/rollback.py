"""`sealift rollback`: one person, one reason, back to the version before."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import foreseen
from appliance.actions import rollback as action
from appliance.cli import context as shared
from appliance.cli import passwords
from appliance.cli.opened import is_operator, production_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rollback")(_rollback)


def _rollback(
    context: typer.Context,
    person: Annotated[str, typer.Option("--as", help="Who decides, by id.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")],
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="The person's password; asked of operators. - is stdin.")
    ] = None,
    to: Annotated[str, typer.Option("--to", help="The version; the one before when absent.")] = "",
    line: Annotated[
        str, typer.Option("--line", help="The line that serves this model, by name; asked where there are several.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say where it would lead.")] = False,
) -> None:
    """Go back to a version that was in production before, or end the canary that runs."""
    own = shared.of(context)
    if dry_run:
        with production_of(own) as here:
            found = foreseen.going_back(here, to=to, line=line)
        leads = "ends the canary" if found.model_digest is None else f"goes back to {found.model_digest}"
        if found.in_doubt:
            leads += f"; came with a release in doubt, so only by --to: {', '.join(one[:12] for one in found.in_doubt)}"
        own.result({"dry_run": True, **found.to_json()}, f"{leads}; nothing was changed")
        return
    secret = None
    if password_file is not None or is_operator(own.config):
        secret = passwords.read(password_file, prompt=f"Password of {person}")
    with production_of(own) as here:
        facts = action.rollback(here, person=person, reason=reason, to=to, line=line, password=secret)
    digest = (facts.promotion.model_digest or "")[:12]
    warm = "it was warm" if not facts.served.started else "its engine was started"
    ended = "" if facts.promotion.terms is None else f"the canary {facts.promotion.terms.version[:12]} is ended; "
    own.result(
        facts.to_json(),
        f"{ended}{digest} serves production again after {facts.served.seconds:.1f} s ({warm});"
        f" ledger sequence {facts.promotion.sequence}",
    )
