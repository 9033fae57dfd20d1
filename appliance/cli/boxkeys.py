"""`sealift box-keys`: the box's own keys, their versions, and the record of each change."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Annotated

import typer

from appliance.actions import boxkeys as action
from appliance.actions import tokenpin
from appliance.actions.boxkeys import Changed, Keyring
from appliance.audit.client import open_ledger
from appliance.audit.rights import ACTIONS
from appliance.audit.rotating import KEY_NAME
from appliance.cli import context as shared
from appliance.cli.context import Context
from appliance.cli.opened import ledger_of
from appliance.errors import UnitError
from appliance.install.supervisor import UNIT_FILES, is_booted_box, open_supervisor
from media.errors import UsageError

_Name = Annotated[str, typer.Argument(help="As `sealift box-keys list` names it.")]
_Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keys = typer.Typer(help="The box's own keys: versions, renewal, destruction.", no_args_is_help=True)
    app.add_typer(keys, name="box-keys")
    keys.command("list")(_list)
    keys.command("rotate")(_rotate)
    keys.command("destroy")(_destroy)
    keys.command("pin")(_pin)
    keys.command("complete")(_complete)


def _list(context: typer.Context) -> None:
    """List the keys by name; their material is never shown."""
    own = shared.of(context)
    found = action.listed(own.config)
    lines = [
        f"{one.name:<18} {one.purpose:<7} {', '.join(f'v{version}' for version in one.versions) or 'none':<12}"
        f" {', '.join(one.units) or 'the ledger'}"
        for one in found
    ]
    own.result({"keys": [one.to_json() for one in found]}, "\n".join(lines))


def _rotate(context: typer.Context, name: _Name, reason: _Reason, dry_run: _DryRun = False) -> None:
    """Make a new version; older ones still check and open what they made."""
    own = shared.of(context)
    if dry_run:
        _would(own, name, "a new version is made")
        return
    with keyring_of(own) as keyring:
        _said(own, keyring.rotate(name, reason=reason))


def _destroy(
    context: typer.Context,
    name: _Name,
    reason: _Reason,
    dry_run: _DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask again.")] = False,
) -> None:
    """Destroy every version but the newest; what they made is erased with them, in backups too."""
    own = shared.of(context)
    lost = action.loses(name)
    if dry_run:
        _would(own, name, f"all versions but the newest are destroyed: {lost}")
        return
    own.say(f"{name}: {lost}. This cannot be taken back.")
    if not yes and not sys.stdin.isatty():
        raise UsageError(what="nobody can be asked", why="there is no terminal", fix="give --yes")
    if not yes and not typer.confirm("Destroy the older versions?", err=True):
        raise UsageError(what="nothing was destroyed", why="the answer was no", fix="run it again to destroy them")
    with keyring_of(own) as keyring:
        _said(own, keyring.destroy(name, reason=reason))


def _pin(context: typer.Context) -> None:
    """Keep the PIN of the token that the site file chooses; asked for, or one line of standard input."""
    own = shared.of(context)
    if sys.stdin.isatty():
        typed = str(typer.prompt("User PIN of the token", hide_input=True, err=True))
    else:
        typed = sys.stdin.readline().rstrip("\r\n")
    held = tokenpin.place(own.config, typed)
    said = f"the token {own.config.keys.token} opens; it holds {', '.join(held) or 'no key of ours yet'}"
    own.result({"token": own.config.keys.token, "keys": list(held)}, f"{said}. Units use the PIN when they start.")


def _complete(context: typer.Context) -> None:
    """Make keys of names that are new with this release, as an install does before its units start."""
    own = shared.of(context)
    with ExitStack() as opened:
        done = action.complete(
            own.config,
            lambda: opened.enter_context(closing(open_ledger(own.config, ACTIONS, spool=True, clock=own.clock))),
            drop_ins=UNIT_FILES if is_booted_box(own.config) else None,
        )
    said = f"made: {', '.join(done.made) or 'none'}; told beside their files: {', '.join(done.told) or 'none'}"
    own.result(done.to_json(), said)


@contextmanager
def keyring_of(own: Context) -> Iterator[Keyring]:
    """Yield what changes the keys of this box, to one command at a time."""
    has_systemd = is_booted_box(own.config)
    with ledger_of(own) as ledger, _alone(own):
        yield Keyring(
            own.config,
            ledger,
            open_supervisor(own.config),
            reload=_reload if has_systemd else lambda: None,
            drop_ins=UNIT_FILES if has_systemd else None,
        )


@contextmanager
def _alone(own: Context) -> Iterator[None]:
    """Keep two commands from changing keys at once, as the nightly retention and one that somebody types."""
    try:
        folder = os.open(own.config.at.key_files, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # whoever may not read it is told so by what comes next
        yield
        return
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            own.say("another command is changing keys; this one goes on after it")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _reload() -> None:
    done = subprocess.run(["systemctl", "daemon-reload"], capture_output=True, check=False)
    if done.returncode:
        raise UnitError(
            what="systemd did not read its files again", why=f"systemctl ended with {done.returncode}", fix="try again"
        )


def _would(own: Context, name: str, what: str) -> None:
    found = next((one for one in action.listed(own.config) if one.name == name), None)
    if found is None:
        raise UsageError(what="no key has this name", why=name[:40], fix="see `sealift box-keys list`")
    own.result({"would": what, **found.to_json()}, f"{name}: {what}; started again: {', '.join(found.units)}")


def _said(own: Context, done: Changed) -> None:
    versions = ", ".join(f"v{version}" for version in done.versions)
    gone = f"; destroyed: {', '.join(f'v{version}' for version in done.gone)}" if done.gone else ""
    again = f"; started again: {', '.join(done.restarted)}" if done.restarted else ""
    if done.name == KEY_NAME and not (done.gone or done.restarted):
        again = "; the new one signs as soon as the ledger is started again"
    list_waits = f"; {done.unnoted}" if done.unnoted else ""
    own.result(done.to_json(), f"{done.name}: {versions}{gone}{again}{list_waits}{_elsewhere(done)}")


def _elsewhere(done: Changed) -> str:
    """Say which disks bring a key back that a box lost before their next backup, and what then tells."""
    if not done.record:
        return ""
    return (
        "\n  disks with backups that are not plugged in now learn of it with their next backup: print"
        f" `sealift audit show {done.record}` and keep it with them, for a restore before that"
    )
