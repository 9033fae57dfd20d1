"""`sealift db`: where ledger and state lie; schemas up and down; from files to a PostgreSQL server and back."""

import signal
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Final

import typer

from appliance.actions.databases import checking, copying, migrating, moving
from appliance.actions.databases.checking import FAULT, OK, Finding
from appliance.actions.databases.copying import Copied
from appliance.actions.databases.migrating import Change
from appliance.actions.databases.moving import Moved
from appliance.cli import context as shared
from appliance.errors import DatabaseError

_SIGNS: Final = {OK: "✓", FAULT: "✗"}

_PLACES: Final = {"postgresql": "on the PostgreSQL server", "sqlite": "in a file of this box"}


class _Kind(StrEnum):
    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class _Way(StrEnum):
    UP = "up"
    DOWN = "down"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    db = typer.Typer(help="Where ledger and state lie: files, or a PostgreSQL server.", no_args_is_help=True)
    app.add_typer(db, name="db")
    db.command("check")(_check)
    db.command("migrate")(_migrate)
    db.command("move")(_move)
    db.command("copy")(_copy)


def _check(context: typer.Context) -> None:
    """Tell where ledger and state lie, and whether the place promises what records need. Changes nothing."""
    own = shared.of(context)
    findings = checking.check(own.config, clock=own.clock)
    faulty = any(one.state == FAULT for one in findings)
    facts = {"ok": not faulty, "findings": [one.to_json() for one in findings]}
    own.result(facts, "\n".join(_line(one) for one in findings))
    if faulty:
        raise typer.Exit(DatabaseError.exit_code)


def _migrate(
    context: typer.Context,
    way: Annotated[_Way, typer.Argument(help="up to the newest schema, or down to none.")],
    to: Annotated[str, typer.Option("--to", metavar="REVISION", help="A revision of the state to stop at.")] = "",
    on: Annotated[_Kind | None, typer.Option("--on", help="Where; as the site file says when not given.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the SQL and change nothing.")] = False,
) -> None:
    """Make or change the tables. Down drops the state, which follows from the ledger, and a ledger only when empty.

    --on postgresql does it on the server that the site file names while the records are in files still.
    """
    own = shared.of(context)
    act = migrating.plan if dry_run else migrating.migrate
    places = own.config.at if on is None else copying.both(own.config)[on is _Kind.POSTGRESQL]
    changes = act(places, way.value, to or None)
    facts = {"dry_run": dry_run, "changes": [asdict(one) for one in changes]}
    own.result(facts, "\n".join(_change(one, dry_run) for one in changes) or "nothing to change")


def _move(
    context: typer.Context,
    to: Annotated[_Kind, typer.Option("--to", help="Where the records go.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, stop and change nothing.")
    ] = False,
) -> None:
    """Move this box's ledger and state to the other kind of database: stop, copy, compare, switch, start.

    A failure leaves the records where they were, with everything running. What was cut off (power, a server that went
    away) is ended by the same command again. Repeating it changes nothing.
    """
    own = shared.of(context)
    with own.progress() as bar:
        task = bar.add_task("copying and comparing", total=None, visible=False)
        mover = moving.open_mover(
            own.config,
            clock=own.clock,
            tell=own.say,
            progress=lambda done, total: bar.update(task, completed=done, total=total, visible=True),
        )
        if dry_run:
            found = mover.preview(to.value)
        else:
            # A terminal that goes away must not leave the ledger stopped.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            found = mover.move(to.value)
    own.result(found.to_json(), _moved(found))


def _copy(
    context: typer.Context,
    to: Annotated[_Kind, typer.Option("--to", help="Where the records go.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Prove the source, look at the target, stop.")] = False,
) -> None:
    """Move the ledger to the other kind of database and make the state there; the ledger's service must be stopped.

    Every leaf is hashed again while it is copied, and the copy is read back and compared: same tree, same chain, same
    checkpoints. The target has to be empty. Afterwards nothing goes on where the records were.
    """
    own = shared.of(context)
    with own.progress() as bar:
        task = bar.add_task("copying and comparing", total=None)
        found = copying.copy(
            own.config,
            to.value,
            clock=own.clock,
            dry_run=dry_run,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    set_kind = own.config.database.kind == to.value
    own.result({**asdict(found), "dry_run": dry_run, "kind_is_set": set_kind}, _copied(found, dry_run, set_kind))


def _line(one: Finding) -> str:
    text = f"{_SIGNS.get(one.state, '!')} {one.name}: {one.value}"
    return f"{text}\n    {one.fix}" if one.fix else text


def _change(one: Change, dry_run: bool) -> str:
    if dry_run:
        return f"-- {one.part}: {one.before} to {one.after}\n{one.statements}"
    return f"{one.part}: {one.before} to {one.after}"


def _moved(found: Moved) -> str:
    place = _PLACES[found.to]
    if not found.needed:
        return f"the {found.size} records are {place} already: nothing is to be done"
    anew = ", ".join(unit.removesuffix(".service") for unit in found.restarted) or "nothing else"
    if found.dry_run:
        return (
            f"{found.size} records would be {place}\n"
            f"  stopped meanwhile: sealift-jobs, sealift-ledger; started anew afterwards: {anew}"
        )
    lines = [f"the records are {place}; its ledger answers with {found.size}, after {found.seconds} s without"]
    if found.copied is not None:
        lines.append(f"  {found.copied.size} records and {found.copied.checkpoints} checkpoints compared")
        lines.append(f"  origin {found.copied.origin}, root {found.copied.root}")
    return "\n".join([*lines, f"  started anew: {anew}"])


def _copied(found: Copied, dry_run: bool, set_kind: bool) -> str:
    done = "would be copied" if dry_run else "copied and compared"
    lines = [
        f"{found.size} records and {found.checkpoints} checkpoints {done}",
        f"  origin {found.origin}, root {found.root}, newest checkpoint of {found.newest_checkpoint} records",
    ]
    if not dry_run and not set_kind:
        lines.append(f'next: set database.kind = "{found.to}" in the site file, then start the services')
    return "\n".join(lines)
