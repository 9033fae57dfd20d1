"""What commands with which a person signs have in common: where the person's key is, and the question before it."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.context import Context
from media.errors import UsageError

Person = Annotated[str, typer.Option("--as", help="Who approves, by id.")]
GnupgHome = Annotated[
    Path | None, typer.Option("--gnupg-home", help="The GnuPG folder with the person's key.", envvar="GNUPGHOME")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask again.")]


def home_of(given: Path | None) -> Path:
    """Return the GnuPG folder: the one that was given, else the user's own."""
    return given or Path(os.environ.get("HOME", "/root")) / ".gnupg"


def agrees(own: Context, text: str, *, yes: bool) -> bool:
    """Show what would be signed and return the person's answer; `yes` stands for it.

    Raises:
        UsageError: There is no terminal to ask at.
    """
    own.say(text)
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(what="nobody can be asked", why="there is no terminal", fix="give --yes")
    return typer.confirm("Sign this?", err=True)
