"""`sealift stop`: one person, one reason, and production, a version, a key or a department is out of service."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import foreseen
from appliance.actions import stop as action
from appliance.actions.foreseen import LINE, VERSION
from appliance.cli import context as shared
from appliance.cli import passwords
from appliance.cli.opened import is_operator, production_of
from appliance.promote.reviews import DEPARTMENT, KEY
from media.errors import UsageError


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
    line: Annotated[str, typer.Option("--line", help="Only the line that serves this model, by name.")] = "",
    version: Annotated[str, typer.Option("--version", help="Only this version: in production, or a canary.")] = "",
    key: Annotated[str, typer.Option("--key", help="Only this key, by its id.")] = "",
    department: Annotated[str, typer.Option("--department", help="Only the keys of this department.")] = "",
    lift: Annotated[bool, typer.Option("--lift", help="Answer a stopped key or department again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Take production, or what is named, out of service. Bringing a version back takes two people."""
    own = shared.of(context)
    all_named = ((LINE, line), (VERSION, version), (KEY, key), (DEPARTMENT, department))
    named = [(what, name) for what, name in all_named if name]
    if len(named) > 1 or (lift and (not named or named[0][0] not in {KEY, DEPARTMENT})):
        raise UsageError(
            what="that is not one thing to stop",
            why="give one of --line, --version, --key and --department; --lift goes with the last two",
            fix="see `sealift stop --help`",
        )
    what, name = named[0] if named else ("production", "")
    if dry_run:
        with production_of(own) as here:
            foreseen.require_stoppable(here, what=what, name=name, lift=lift)
        own.result({"dry_run": True, "what": what, "name": name, "lift": lift}, "nothing was changed")
        return
    secret = None
    if password_file is not None or is_operator(own.config):
        secret = passwords.read(password_file, prompt=f"Password of {person}")
    with production_of(own) as here:
        if what in {KEY, DEPARTMENT}:
            change = action.free_caller if lift else action.stop_caller
            done = change(here, what=what, name=name, person=person, reason=reason, password=secret)
            text = "is answered again" if lift else "is stopped; its callers get a 503"
            own.result(done.to_json(), f"{what} {name} {text}; ledger sequence {done.sequence}")
            return
        if what == LINE or not name:
            facts = action.stop(here, person=person, reason=reason, line=name, password=secret)
        else:
            facts = action.stop_version(here, name, person=person, reason=reason, password=secret)
    digest = (facts.promotion.terms.version if facts.promotion.terms else facts.promotion.previous or "")[:12]
    said = "every line of production" if facts.every_line else digest
    own.result(facts.to_json(), f"{said} is out of service; ledger sequence {facts.promotion.sequence}")
