"""`sealift automation`: keys for the site's own scripts, which read and ask and can never approve."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli import context as shared
from appliance.cli import passwords
from appliance.cli.opened import promoter_of
from appliance.promote.automation import MOST_DAYS, USUAL_DAYS
from appliance.promote.automation_key import AutomationKey, Scope

Person = Annotated[str, typer.Option("--as", help="The enrolled person who does it.")]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="File with the person's password; - is standard input.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; record nothing.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    automation = typer.Typer(help="Keys for scripts; none can ever approve.", no_args_is_help=True)
    app.add_typer(automation, name="automation")
    automation.command("create")(_create)
    automation.command("list")(_list)
    automation.command("revoke")(_revoke)


def _create(
    context: typer.Context,
    name: Annotated[str, typer.Option("--name", help="What the script is called: lower case, digits, hyphens.")],
    person: Person,
    scope: Annotated[
        list[Scope] | None, typer.Option("--scope", help="What it may do; more than once; read alone when absent.")
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=MOST_DAYS, help="How long it works.")] = USUAL_DAYS,
    purpose: Annotated[str, typer.Option("--purpose", help="What it is for, for the record.")] = "",
    password_file: PasswordFile = None,
    dry_run: DryRun = False,
) -> None:
    """Make a key and print it once. The person who makes it answers for what it asks."""
    own = shared.of(context)
    password = passwords.read(password_file, prompt=f"Password of {person}")
    with promoter_of(own) as promoter:
        key, text = promoter.make_automation_key(
            name=name,
            person=person,
            password=password,
            scopes=[str(one) for one in scope or ()],
            days=days,
            purpose=purpose,
            dry_run=dry_run,
        )
    facts = {**key.to_json(), "key": text, "dry_run": dry_run}
    if dry_run:
        own.result(facts, f"would make {key.actor} for {', '.join(key.scopes)}, until {key.expires_at}")
        return
    own.say(f"{key.actor}: {', '.join(key.scopes)}, until {key.expires_at}; it is shown once and kept nowhere")
    own.result(facts, text)


def _list(context: typer.Context) -> None:
    """List all automation keys, without their secrets."""
    own = shared.of(context)
    with promoter_of(own) as promoter:
        found = promoter.automation_keys()
    own.result(
        {"keys": [one.to_json() for one in found]},
        "\n".join(_line(one) for one in found) or "there is no automation key",
    )


def _revoke(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The key's name, or the ten letters after sl-auto-.")],
    person: Person,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")],
    password_file: PasswordFile = None,
    dry_run: DryRun = False,
) -> None:
    """End a key at once; any enrolled person may."""
    own = shared.of(context)
    password = passwords.read(password_file, prompt=f"Password of {person}")
    with promoter_of(own) as promoter:
        key = promoter.revoke_automation_key(name, person=person, password=password, reason=reason, dry_run=dry_run)
    said = f"would end {key.actor}" if dry_run and not key.ended else f"{key.actor} works no more: {key.ended}"
    own.result({**key.to_json(), "dry_run": dry_run}, said)


def _line(one: AutomationKey) -> str:
    until = f"  ended: {one.ended}" if one.ended else f"  until {one.expires_at}"
    return (
        f"{one.key_id}  {one.actor:<40} {', '.join(one.scopes):<24}{until}{f'  ({one.purpose})' if one.purpose else ''}"
    )
