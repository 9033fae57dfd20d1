"""`sealift uninstall`: takes Sealift off this machine and leaves what proves the past."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import uninstall
from appliance.actions.host import open_host
from appliance.actions.uninstall import Decision
from appliance.cli import context as shared
from appliance.cli import passwords
from appliance.cli.opened import promoter_of
from media.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("uninstall")(_uninstall)


def _uninstall(
    context: typer.Context,
    by: Annotated[
        list[str] | None, typer.Option("--by", metavar="PERSON", help="An enrolled person's id; give it twice.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")] = "",
    site: Annotated[str, typer.Option("--site", help="The site's name, typed; asked for when absent.")] = "",
    evidence: Annotated[
        bool, typer.Option("--evidence-too", help="Ledger, keys, people and receipts too, of a box that was retired.")
    ] = False,
    password_file: Annotated[
        list[Path] | None, typer.Option("--password-file", help="Their password files, in the same order.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go and what would stay.")] = False,
) -> None:
    """Take Sealift off this machine. Ledger, keys, people, receipts and backups stay, unless they are asked for."""
    own, people = shared.of(context), by or []
    files: list[Path | None] = [*(password_file or []), *[None] * len(people)]

    def confirm(person: str) -> str:
        password = passwords.read(files[people.index(person)], prompt=f"Password of {person}")
        with promoter_of(own) as promoter:
            return str(promoter.login(person, password)["name"])

    typed = site if site or dry_run else _ask()
    decision = Decision(typed_site=typed, people=tuple(people), reason=reason, evidence=evidence)
    host = open_host(own.config, clock=own.clock)
    if not dry_run:
        own.say("after both passwords what runs is stopped and taken off this machine: a minute or two")
    done = uninstall.uninstall(own.config, decision, host=host, confirm=confirm, clock=own.clock, dry_run=dry_run)
    verb = ("would remove", "would stay") if dry_run else ("removed", "stays")
    lines = [*(f"{verb[0]}  {name}" for name in done.removed), *(f"{verb[1]}  {name}" for name in done.kept)]
    if not dry_run:
        lines += ["the packet filter and Debian's packages stay; backups lie where they were", done.checkpoint]
    own.result({**done.to_json(), "dry_run": dry_run}, "\n".join(lines).strip())


def _ask() -> str:
    if not sys.stdin.isatty():
        raise UsageError(what="nobody typed the site's name", why="there is no terminal", fix="give --site NAME")
    return str(typer.prompt("This takes Sealift off this machine. Type the site's name", err=True))
