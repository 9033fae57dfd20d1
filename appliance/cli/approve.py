"""`sealift approve`: one person's yes to a version, signed with the person's own key."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import approve as action
from appliance.actions.approve import Question
from appliance.cli import context as shared
from appliance.cli.context import Context
from appliance.cli.opened import production_of
from media.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("approve")(_approve)


def _approve(
    context: typer.Context,
    which: Annotated[str, typer.Argument(help="A digest, the beginning of one, a name, or NAME:VERSION.")],
    person: Annotated[str, typer.Option("--as", help="Who approves, by id.")],
    gnupg_home: Annotated[
        Path | None, typer.Option("--gnupg-home", help="The GnuPG folder with the person's key.", envvar="GNUPGHOME")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask again.")] = False,
) -> None:
    """Show what would change in production, and sign it."""
    own = shared.of(context)
    home = gnupg_home or Path(os.environ.get("HOME", "/root")) / ".gnupg"
    with production_of(own) as here:
        facts = action.approve(here, which, person=person, home=home, agrees=lambda asked: _agrees(own, asked, yes=yes))
    names = ", ".join(one.name for one in facts.request.approvals)
    own.result(facts.to_json(), f"approved by {names}: {len(facts.request.approvals)} of {facts.needed}")


def _agrees(own: Context, question: Question, *, yes: bool) -> bool:
    own.say(question.to_text())
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(what="nobody can be asked", why="there is no terminal", fix="give --yes")
    return typer.confirm("Sign this?", err=True)
