"""`sealift census`: the site's own list of names that no engine may see."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import census as action
from appliance.actions import censusnodes
from appliance.cli import context as shared
from appliance.cli.context import Context
from appliance.cli.opened import is_operator, ledger_of, require_enrolled
from appliance.errors import PrivilegeError
from appliance.keys.opening import open_keys
from appliance.timekeeping.believed import BelievedClock
from media import canonical
from media.errors import UsageError

_Person = Annotated[str, typer.Option("--as", metavar="PERSON", help="Who does it, by id.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    census = typer.Typer(help="The site's own list of names that no engine may see.", no_args_is_help=True)
    app.add_typer(census, name="census")
    census.command("import")(_import)
    census.command("show")(_show)
    census.command("forget")(_forget)


def _import(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="UTF-8: a name a line, or CSV with --column; - for stdin.")
    ],
    person: _Person,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="A column of CSV by its name; twice for family name, then given names."),
    ] = None,
    dry_run: _DryRun = False,
) -> None:
    """Replace the list by this one. Gateways look for its names within a second."""
    own = shared.of(context)
    names = action.parsed(_bytes(file), column or ())
    said = f"{len(names.names)} names in {names.rows} rows; {names.unseen} cannot be looked for (everyday words)"
    if dry_run:
        own.result({**names.to_json(), "dry_run": True}, f"would import {said}")
        return
    _require_root(own)
    require_enrolled(own, person)
    with ledger_of(own) as ledger:
        done = censusnodes.bring(
            own.config, names, ledger=ledger, keys=open_keys(own.config, environ={}), person=person
        )
    own.result({**names.to_json(), "sequence": done.sequence}, f"imported {said}")


def _show(context: typer.Context) -> None:
    """Say how many names the list has, since when and by whom; never a name."""
    own = shared.of(context)
    with ledger_of(own) as ledger:
        keys = None if is_operator(own.config) else open_keys(own.config, environ={})
        found = action.standing(own.config, ledger, keys)
    days = found.age_days(BelievedClock(own.config.at, own.clock))
    if found.names:
        text = f"{found.names} names, imported {found.at} by {found.person}, {days} days ago"
    else:
        text = f"there is no list{f'; {found.person} took it away at {found.at}' if found.at else ''}"
    text += f"\nfault: {found.fault}\nfix: {found.fix}" if found.fault else ""
    own.result({**found.to_json(), "age_days": days if found.names else None}, text)


def _forget(
    context: typer.Context,
    person: _Person,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")],
    dry_run: _DryRun = False,
) -> None:
    """Take the list away: from then on names are found behind labels and titles only."""
    own = shared.of(context)
    said = canonical.text(reason.strip(), "the reason", most=400)
    if dry_run:
        own.result({"dry_run": True}, "would take the list away")
        return
    _require_root(own)
    require_enrolled(own, person)
    with ledger_of(own) as ledger:
        was_there = censusnodes.forget(own.config, ledger=ledger, person=person, reason=said)
    own.result({"forgotten": was_there}, "the list is gone" if was_there else "there was no list")


def _require_root(own: Context) -> None:
    """Refuse an operator before anything else could be blamed: a key that only root reads, or a full disk.

    Raises:
        PrivilegeError: Who asks works through the doors of operators.
    """
    if is_operator(own.config):
        raise PrivilegeError(
            what="the list of names is changed by root", why="its key is root's", fix="run it as root, with sudo"
        )


def _bytes(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read(action.MAX_BYTES + 1)
    try:
        with os.fdopen(os.open(Path(file), os.O_RDONLY | os.O_CLOEXEC), "rb") as stream:
            return stream.read(action.MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            what="the list cannot be read", why=error.strerror or "", fix="name a file, or - for standard input"
        ) from error
