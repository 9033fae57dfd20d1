"""Preparing a USB disk for backups: looked at, its line in /etc/fstab, formatted, mounted, recorded.

Promises: only a whole disk on USB that nothing uses is touched, one that bears anything only where that was allowed;
nothing is changed before all of that is known, the ledger answers, and whoever asked said yes. Cut off, the same
command goes on: the line stands before the disk is formatted, so that no moment makes a medium of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from appliance.actions.backups import fstab, making
from appliance.actions.backups.usbdisk import Disk, Tool, look, run_tool
from appliance.audit.client import SocketLedger, open_ledger
from appliance.config import Config
from appliance.errors import ConflictError, LedgerUnavailableError, PreflightError, StoreWriteError, UnitError
from media import durable
from media.clock import Clock

PREPARED: Final = "backup.disk-prepared"
LABEL: Final = "backup"
FILE_SYSTEM: Final = "ext4"
_PARTS: Final = frozenset({"disk", "part"})
_OTHERS: Final = (
    *("/boot", "/dev/disk", "/etc", "/opt/sealift", "/proc", "/root", "/run", "/sys", "/usr", "/var/lib/sealift"),
)
_FOLDERS: Final = ("systemd-tmpfiles", "--create", "sealift.conf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What would be done to a disk.

    Args:
        disk: Which.
        place: Where it is mounted.
        uuid: That it gets: that of the line which stands, or a new one.
        line: Whether /etc/fstab gets a line.
    """

    disk: Disk
    place: str
    uuid: str
    line: bool

    def to_json(self) -> dict[str, Any]:
        """Return the fields that a person decides by."""
        own = self.disk
        seen = {"device": own.name, "model": own.model, "serial": own.serial, "bytes": own.length}
        return {**seen, "bears": list(own.bears), "folder": self.place, "uuid": self.uuid, "fstab_line": self.line}


def plan(
    config: Config, device: Path, *, may_erase: bool, tool: Tool = run_tool, table: Path = fstab.FSTAB
) -> Preparation:
    """Return what would be done to a disk; nothing is changed.

    Raises:
        ConflictError: Something uses the disk or its place, its place is not for a disk, or it bears something and that
            was not allowed.
        PreflightError: It is no disk on USB, or the site file or /etc/fstab say something else.
        StoreWriteError: lsblk could not look at it.
    """
    place = config.backup.folder
    if not place:
        raise PreflightError(
            what="backups have no folder",
            why="backup.folder is empty",
            fix="name /media/sealift-backup there, and run the command again",
        )
    return plan_for(look(device, tool), place, may_erase=may_erase, tool=tool, table=table)


def plan_for(disk: Disk, place: str, *, may_erase: bool, tool: Tool, table: Path) -> Preparation:
    """Return what would be done to a disk that was looked at; see `plan`."""
    _require_place(Path(place))
    _require_usb_disk(disk)
    _require_unused(disk)
    if disk.bears and not may_erase:
        raise ConflictError(
            what=f"{disk.name} is not empty",
            why=f"it bears {', '.join(disk.bears)}, all of which would be lost",
            fix="look at what is on it; --erase if nobody needs it",
        )
    uuid = uuid_of_line(table, place)
    # Not blkid(8), which ends with an error where it finds none.
    if uuid and disk.uuid != uuid and uuid in tool(["lsblk", "--noheadings", "--list", "--output", "UUID"]).split():
        raise ConflictError(
            what="another disk for backups is plugged in",
            why="disks that take turns bear one UUID, so one at a time can be there",
            fix=f"umount {place}, pull it out, and run the command again",
        )
    return Preparation(disk=disk, place=place, uuid=uuid or str(uuid4()), line=not uuid)


def _require_place(place: Path) -> None:
    real = place.resolve()
    if any(real.is_relative_to(one) or one.is_relative_to(real) for one in map(Path, _OTHERS)):
        why = "the system's or Sealift's own files lie there, and would lie below the disk"
    elif real.is_dir() and not real.is_mount() and any(real.iterdir()):
        why = "it is not empty, and what lies in it would lie below the disk"
    else:
        return
    raise ConflictError(
        what=f"no disk for backups is mounted at {place}",
        why=why,
        fix="name a folder that is for the disk alone as backup.folder: /media/sealift-backup",
    )


def prepare(
    config: Config, made: Preparation, *, clock: Clock, tool: Tool = run_tool, table: Path = fstab.FSTAB
) -> int:
    """Do what was planned and return the record's number; everything on the disk is lost.

    Raises:
        ConflictError: The disk is another one than was looked at, or is used by now.
        LedgerUnavailableError: It could not be recorded; the disk was not touched.
        StoreWriteError: A step failed; the same command goes on.
        UnitError: It is formatted, but not mounted at its place.
    """
    device = f"/dev/{made.disk.name}"
    with _recording(config, clock) as ledger:
        # Somebody took their time to answer, and names of devices are given anew.
        if look(Path(device), tool) != made.disk:
            raise ConflictError(
                what=f"{made.disk.name} is not what it was a moment ago",
                why="it was pulled out, or something uses it by now",
                fix="run the command again",
            )
        if made.line:
            _add_line(table, made)
            tool(["systemctl", "daemon-reload"])
        # One that was here as a medium was set read-only. wipefs takes no disk that is mounted.
        tool(["blockdev", "--setrw", device])
        tool(["wipefs", "--all", "--quiet", device])
        tool([f"mkfs.{FILE_SYSTEM}", "-q", "-F", "-m", "0", "-L", LABEL, "-U", made.uuid, device])
        tool(["udevadm", "settle", "--timeout=30"])
        mount(made.disk, made.place, tool=tool)
        body = {"uuid": made.uuid, "bytes": made.disk.length, "erased": list(made.disk.bears), "line": made.line}
        return ledger.append(PREPARED, body).sequence


def finish(
    config: Config, device: Path, *, clock: Clock, tool: Tool = run_tool, table: Path = fstab.FSTAB
) -> int | None:
    """Record a disk that an earlier run prepared and mounted, and was cut off before it recorded it.

    Returns:
        The record's number; None where there is nothing of that kind.

    Raises:
        LedgerUnavailableError: It could not be recorded.
        PreflightError, StoreWriteError: As `plan`.
    """
    place, found = config.backup.folder, look(device, tool)
    is_ours = (found.kind, found.transport, found.labels) == ("disk", "usb", (LABEL,))
    if not is_ours or place not in found.mounted or not is_prepared(found, uuid_of_line(table, place)):
        return None
    tool(_FOLDERS)
    return take_up(config, found, clock=clock, tool=tool)


def take_up(config: Config, disk: Disk, *, clock: Clock, tool: Tool = run_tool) -> int | None:
    """Mount a disk that is prepared (`is_prepared`) where it is not, and record it where a cut-off run did not.

    Returns:
        The record's number; None where there was nothing to record.

    Raises:
        LedgerUnavailableError: It could not be recorded; the disk was not touched.
        StoreWriteError: A program failed.
        UnitError: It is not mounted at its place.
    """
    place = config.backup.folder
    with _recording(config, clock) as ledger:
        if place not in disk.mounted:
            mount(disk, place, tool=tool)
        if ledger.find(kind=PREPARED, field="uuid", value=disk.uuid, limit=1):
            return None
        body = {"uuid": disk.uuid, "bytes": disk.length, "erased": [], "line": False}
        return ledger.append(PREPARED, body).sequence


@contextmanager
def _recording(config: Config, clock: Clock) -> Iterator[SocketLedger]:
    ledger = open_ledger(config, making.DOOR, clock=clock)
    try:
        if not isinstance(ledger, SocketLedger):
            raise LedgerUnavailableError(
                what="a disk for backups cannot be recorded",
                why="sealift-ledger does not run",
                fix="start it and try again",
            )
        yield ledger
    finally:
        ledger.close()


def mount(disk: Disk, place: str, *, tool: Tool) -> None:
    """Mount a disk that was prepared at its place, by the line that names it.

    Raises:
        StoreWriteError: A program failed.
        UnitError: It is not mounted there in the end.
    """
    Path(place).mkdir(parents=True, exist_ok=True)
    tool(["mount", place])
    tool(_FOLDERS)
    if place not in look(Path(f"/dev/{disk.name}"), tool).mounted:
        raise UnitError(
            what=f"{disk.name} is not mounted at {place}",
            why="mount(8) did not say why",
            fix="see `journalctl -b`, and mount it",
        )


def is_prepared(disk: Disk, uuid: str) -> bool:
    """Tell whether a disk bears the file system that a line with this UUID mounts, and so perhaps backups."""
    return bool(uuid) and disk.uuid == uuid and FILE_SYSTEM in disk.bears


def _require_usb_disk(disk: Disk) -> None:
    if disk.kind == "disk" and disk.transport == "usb":
        return
    is_part = disk.kind == "part"
    raise PreflightError(
        what=f"{disk.name} is not prepared for backups",
        why="it is a part of a disk" if is_part else "it is no disk that is plugged in by USB",
        fix="name the whole disk, as in /dev/sdb" if is_part else "see `lsblk -o NAME,TRAN,SIZE,MODEL` for the disk",
    )


def _require_unused(disk: Disk) -> None:
    if others := set(disk.parts) - _PARTS:
        raise ConflictError(
            what=f"{disk.name} is in use", why=f"it is part of {', '.join(sorted(others))}", fix="use another disk"
        )
    if disk.mounted:
        is_medium = disk.mounted[0].startswith("/run/sealift/media/")
        raise ConflictError(
            what=f"{disk.name} is in use",
            why=f"it is mounted at {', '.join(disk.mounted)}",
            fix=f"`sealift media eject {Path(disk.mounted[0]).name}`, and run the command again"
            if is_medium
            else "use another disk, or unmount it",
        )


def uuid_of_line(table: Path, place: str) -> str:
    """Return the UUID by which the place's line mounts; nothing where there is no line.

    Raises:
        PreflightError: More than one line names the place, or it mounts no UUID.
    """
    found = fstab.sources(_read(table), place)
    if not found:
        return ""
    uuid = fstab.uuid_of(found[0])
    try:
        if len(found) == 1:
            return str(UUID(uuid))
    except ValueError:
        pass
    raise PreflightError(
        what=f"/etc/fstab says something else about {place}",
        why=f"{len(found)} lines name it" if len(found) > 1 else f"its line mounts {found[0]}, no UUID of ext4",
        fix="leave one line that begins with UUID=, or none",
    )


def _add_line(table: Path, made: Preparation) -> None:
    try:
        durable.replace(table, fstab.with_line(_read(table), made.uuid, made.place).encode(), mode=0o644)
    except OSError as error:
        raise StoreWriteError(
            what="/etc/fstab cannot be written", why=error.strerror or "", fix="run the command as root"
        ) from error


def _read(table: Path) -> str:
    try:
        return table.read_text()
    except FileNotFoundError:
        return ""
