"""`sealift backup disk`: a USB disk for backups, from the box of the shop to mounted."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.actions.backups import disk
from appliance.actions.backups.disk import Preparation
from appliance.actions.backups.usbdisk import Disk
from appliance.cli import context as shared


def prepare(
    context: typer.Context,
    device: Annotated[
        Path, typer.Argument(metavar="DEVICE", help="The whole disk, as in /dev/sdb: `lsblk` lists them.")
    ],
    erase: Annotated[bool, typer.Option("--erase", help="It may bear something, which is lost.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look and say what would be done.")] = False,
) -> None:
    """Prepare a USB disk for backups: its line in /etc/fstab, a new file system, mounted. All on it is lost.

    Each disk that takes turns is prepared so; the one before is pulled out first.
    """
    own = shared.of(context)
    if not dry_run and (recorded := disk.finish(own.config, device, clock=own.clock)) is not None:
        place = own.config.backup.folder
        own.result(
            {"device": device.name, "folder": place, "dry_run": False, "prepared": True, "sequence": recorded},
            f"{device.name} was prepared by a run that was cut off; it is mounted at {place}, record {recorded}",
        )
        return
    made = disk.plan(own.config, device, may_erase=erase)
    facts = {**made.to_json(), "dry_run": dry_run, "prepared": False, "sequence": None}
    if dry_run:
        own.result(facts, text_of(made))
        return
    own.say(text_of(made))
    if not is_typed(made):
        own.result(facts, "nothing was changed")
        raise typer.Exit(code=1)
    sequence = disk.prepare(own.config, made, clock=own.clock)
    own.result(
        {**facts, "prepared": True, "sequence": sequence},
        f"{made.disk.name} is mounted at {made.place}, record {sequence}; `sealift backup make` makes a backup on it",
    )


def is_typed(made: Preparation) -> bool:
    """Ask for the disk's name, without which it is not erased; return whether it was typed."""
    return bool(typer.prompt(f"Type {made.disk.name} to erase it", err=True) == made.disk.name)


def text_of(made: Preparation) -> str:
    """Return what would be done to a disk, in lines for people."""
    return "\n".join(
        [
            line_of(made.disk),
            *([f"  /etc/fstab gets a line that mounts it at {made.place}"] if made.line else []),
            f"  it is formatted anew with ext4 and the UUID {made.uuid}; all on it is lost",
            f"  it is mounted at {made.place}",
        ]
    )


def line_of(disk: Disk) -> str:
    """Return a disk in one line, as people know it."""
    named = " ".join(filter(None, (disk.model, disk.serial))) or "without a name of its own"
    labels = f" ({', '.join(disk.labels)})" if disk.labels else ""
    return f"{disk.name}: {named}, {disk.length / 10**9:.1f} GB, bears {', '.join(disk.bears) or 'nothing'}{labels}"
