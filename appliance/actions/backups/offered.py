"""The disks of this machine as a guided install offers them: by which name each is known again, and why some are not.

Promises: nothing is changed. Whoever sets up a box is asked by a list and perhaps for the first time, or is a file that
nobody looks at; so besides what `sealift backup disk` refuses, no disk is offered that bears backups, of whichever box.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.actions.backups import disk as disks
from appliance.actions.backups import fstab
from appliance.actions.backups.disk import Preparation
from appliance.actions.backups.usbdisk import Disk, Tool, look_round, run_tool
from appliance.errors import ConflictError, PreflightError
from appliance.install.answers import disk_name
from appliance.mounttables import mount_points
from media.errors import SealiftError

BY_ID: Final = Path("/dev/disk/by-id")
_MOUNTS: Final = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """What a machine's disks are known by.

    Args:
        tool: Runs its programs.
        table: What it mounts at each start.
        mounts: What is mounted now.
        links: Names of its disks that stay the same, as links to them.
    """

    tool: Tool = run_tool
    table: Path = fstab.FSTAB
    mounts: Path = _MOUNTS
    links: Path = BY_ID

    def mounted(self) -> list[str]:
        """Return the places where something is mounted."""
        return [place for place, _ in mount_points(self.mounts.read_text("utf-8", "replace"))]

    def names(self) -> dict[str, list[str]]:
        """Return the lasting names of each device, by the kernel's."""
        found: dict[str, list[str]] = {}
        if self.links.is_dir():
            for link in sorted(self.links.iterdir()):
                found.setdefault(link.resolve().name, []).append(link.name)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A disk of this machine.

    Args:
        disk: Which.
        names: By which it is known again, the one to write down first; none where it has none of its own.
        made: What would be done to it; None where it is refused or needs nothing.
        refusal: Why it cannot be used.
        is_prepared: It was prepared before, so nothing is to be done and nothing on it is lost.
    """

    disk: Disk
    names: tuple[str, ...]
    made: Preparation | None = None
    refusal: SealiftError | None = None
    is_prepared: bool = False


def offered(place: str, devices: Devices) -> list[Offered]:
    """Return every disk of this machine, those that can be used first.

    Raises:
        PreflightError: /etc/fstab says something else about the place, so that no disk can be prepared for it.
        StoreWriteError: lsblk could not look at them.
    """
    uuid = disks.uuid_of_line(devices.table, place)
    seen, links = look_round(devices.tool), devices.names()
    many = Counter((one.model, one.serial) for one in seen)
    found = []
    for one in seen:
        names = _names(one, links.get(one.name, ()))
        made = None
        is_prepared = disks.is_prepared(one, uuid)
        try:
            if not is_prepared:
                made = disks.plan_for(one, place, may_erase=True, tool=devices.tool, table=devices.table)
                _require_no_backups(one)
            _require_own_name(names, is_alone=many[one.model, one.serial] == 1)
        except SealiftError as error:
            found.append(Offered(disk=one, names=names, refusal=error))
        else:
            found.append(Offered(disk=one, names=names, made=made, is_prepared=is_prepared))
    return sorted(found, key=lambda one: (one.refusal is not None, one.disk.name))


def named(found: Sequence[Offered], wanted: str) -> Offered | None:
    """Return the disk that bears a name; None where it is not there.

    Raises:
        ConflictError: Several bear it.
    """
    these = [one for one in found if wanted in one.names]
    if len(these) > 1:
        raise ConflictError(
            what=f"{len(these)} disks are named {wanted}",
            why=f"{', '.join(one.disk.name for one in these)} bear the same serial number",
            fix="pull out all but the one that is meant",
        )
    return these[0] if these else None


def _names(disk: Disk, links: Sequence[str]) -> tuple[str, ...]:
    found = []
    for name in (disk.serial, *links):
        try:
            found.append(disk_name(name))
        except ValueError:
            continue
    return tuple(name for name in found if name)


def _require_own_name(names: Sequence[str], *, is_alone: bool) -> None:
    if not names:
        raise PreflightError(
            what="the disk has no name of its own",
            why="it says no serial number by which it would be known again",
            fix="`sealift backup disk DEVICE` prepares it after the install",
        )
    if not is_alone:
        raise ConflictError(
            what="two disks say that they are the same",
            why="another one here bears the same serial number",
            fix="pull out all but the one that is meant",
        )


def _require_no_backups(disk: Disk) -> None:
    if disks.FILE_SYSTEM in disk.bears and disks.LABEL in disk.labels:
        raise ConflictError(
            what=f"{disk.name} bears the file system of a disk for backups",
            why="it was prepared for backups before, here or for another box, and they may be all that is left of it",
            fix=f"look at what is on it; `sealift backup disk /dev/{disk.name} --erase` if nobody needs it",
        )
