"""`sealift rollback`: one person, one reason, back to the version before."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.actions import rollback as action
from appliance.cli import context as shared
from appliance.cli import passwords
from appliance.cli.opened import is_operator, production_of, promoter_of


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
        with promoter_of(own) as promoter:
            canary, standing = promoter.canary()["canary"], promoter.current()
        returnable = _returnable(standing, line)
        doubted = [digest for digest in returnable if digest in standing.get("in_doubt", ())]
        leads = "ends the canary" if canary and not to else f"goes back to {to or next(iter(returnable), 'nothing')}"
        if doubted:
            leads += f"; came with a release in doubt, so only by --to: {', '.join(one[:12] for one in doubted)}"
        told = {"dry_run": True, "canary": bool(canary), "returnable": returnable, "in_doubt": doubted}
        own.result(told, f"{leads}; nothing was changed")
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


def _returnable(standing: Mapping[str, Any], name: str) -> list[str]:
    found = [one["returnable"] for one in standing["lines"] if one["name"] == name]
    return [str(digest) for digest in (found[0] if found else standing["returnable"])]
