"""Preparing a USB disk for backups: looked at, its line in /etc/fstab, formatted, mounted, recorded.

Promises: only a whole disk on USB that nothing uses is touched, one that bears anything only where that was allowed;
nothing is changed before all of that is known, the ledger answers, and whoever asked said yes. Cut off, the same
command goes on: the line stands before the disk is formatted, so that no moment makes a medium of it.
"""

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID, uuid4

from appliance.actions.backups import fstab, making
from appliance.audit.client import SocketLedger, open_ledger
from appliance.config import Config
from appliance.errors import ConflictError, LedgerUnavailableError, PreflightError, StoreWriteError, UnitError
from media import durable
from media.clock import Clock

PREPARED: Final = "backup.disk-prepared"
LABEL: Final = "backup"
_COLUMNS: Final = "NAME,TYPE,TRAN,SIZE,MODEL,SERIAL,PTTYPE,FSTYPE,UUID,MOUNTPOINTS"
_SECONDS: Final = 1800
_PARTS: Final = frozenset({"disk", "part"})

Tool = Callable[[Sequence[str]], str]
"""Runs a program of the system and returns what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk as lsblk(8) sees it, with all that lies on it.

    Args:
        name: The kernel's, as in `sdb`.
        kind: What it is: `disk`, `part`, `rom` or another device's word.
        transport: How it is plugged in, as in `usb`.
        length: In bytes.
        model: What it calls itself.
        serial: Likewise.
        bears: Partition table and file systems on it, by their types.
        uuid: Of the file system that fills it; empty for none.
        mounted: Where any of it is mounted, or `[SWAP]`.
        parts: What the devices on it are.
    """

    name: str
    kind: str
    transport: str
    length: int
    model: str
    serial: str
    bears: tuple[str, ...]
    uuid: str
    mounted: tuple[str, ...]
    parts: tuple[str, ...]

    @classmethod
    def from_lsblk(cls, text: str) -> Self:
        """Read what ``lsblk --json --bytes`` said of one device."""
        (top,) = json.loads(text)["blockdevices"]
        rows = [top, *_below(top)]
        bears = [row.get(name) for row in rows for name in ("pttype", "fstype")]
        return cls(
            name=str(top["name"]),
            kind=str(top.get("type") or ""),
            transport=str(top.get("tran") or ""),
            length=int(top.get("size") or 0),
            model=str(top.get("model") or "").strip(),
            serial=str(top.get("serial") or "").strip(),
            bears=tuple(dict.fromkeys(str(one) for one in bears if one)),
            uuid=str(top.get("uuid") or ""),
            mounted=tuple(str(place) for row in rows for place in row.get("mountpoints") or () if place),
            parts=tuple(str(row.get("type") or "") for row in rows[1:]),
        )


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


def run_tool(command: Sequence[str]) -> str:
    """Run a program and return what it said.

    Raises:
        StoreWriteError: It ended with an error, or not at all.
    """
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=_SECONDS)
    except subprocess.CalledProcessError as error:
        said = bytes(error.stderr or b"").decode(errors="replace").strip().splitlines()
        why = said[-1] if said else f"it ended with {error.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    else:
        return done.stdout.decode(errors="replace")
    raise StoreWriteError(
        what=f"{Path(command[0]).name} did not do its work", why=why, fix="look at the disk, and run the command again"
    )


def plan(
    config: Config, device: Path, *, may_erase: bool, tool: Tool = run_tool, table: Path = fstab.FSTAB
) -> Preparation:
    """Return what would be done to a disk; nothing is changed.

    Raises:
        ConflictError: Something uses the disk or its place, or it bears something and that was not allowed.
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
    disk = Disk.from_lsblk(tool(["lsblk", "--json", "--bytes", "--output", _COLUMNS, "--", str(device)]))
    _require_usb_disk(disk)
    _require_unused(disk)
    if disk.bears and not may_erase:
        raise ConflictError(
            what=f"{disk.name} is not empty",
            why=f"it bears {', '.join(disk.bears)}, all of which would be lost",
            fix="look at what is on it; --erase if nobody needs it",
        )
    uuid = _uuid(table, place)
    if (
        uuid
        and disk.uuid != uuid
        and tool(["blkid", "--list-one", "--output", "device", "--match-token", "UUID=" + uuid])
    ):
        raise ConflictError(
            what="another disk for backups is plugged in",
            why="disks that take turns bear one UUID, so one at a time can be there",
            fix=f"umount {place}, pull it out, and run the command again",
        )
    return Preparation(disk=disk, place=place, uuid=uuid or str(uuid4()), line=not uuid)


def prepare(
    config: Config, made: Preparation, *, clock: Clock, tool: Tool = run_tool, table: Path = fstab.FSTAB
) -> int:
    """Do what was planned and return the record's number; everything on the disk is lost.

    Raises:
        LedgerUnavailableError: It could not be recorded; the disk was not touched.
        StoreWriteError: A step failed; the same command goes on.
        UnitError: It is formatted, but not mounted at its place.
    """
    device = f"/dev/{made.disk.name}"
    ledger = open_ledger(config, making.DOOR, clock=clock)
    try:
        if not isinstance(ledger, SocketLedger):
            raise LedgerUnavailableError(
                what="a disk for backups cannot be recorded",
                why="sealift-ledger does not run",
                fix="start it and try again",
            )
        if made.line:
            _add_line(table, made)
            tool(["systemctl", "daemon-reload"])
        # One that was here as a medium was set read-only.
        tool(["blockdev", "--setrw", device])
        tool(["wipefs", "--all", "--quiet", device])
        tool(["mkfs.ext4", "-q", "-F", "-m", "0", "-L", LABEL, "-U", made.uuid, device])
        tool(["udevadm", "settle", "--timeout=30"])
        Path(made.place).mkdir(parents=True, exist_ok=True)
        tool(["mount", made.place])
        tool(["systemd-tmpfiles", "--create", "sealift.conf"])
        if (
            made.place
            not in Disk.from_lsblk(tool(["lsblk", "--json", "--bytes", "--output", _COLUMNS, "--", device])).mounted
        ):
            raise UnitError(
                what=f"{made.disk.name} is not mounted at {made.place}",
                why="mount(8) did not say why",
                fix="see `journalctl -b`, and mount it",
            )
        body = {"uuid": made.uuid, "bytes": made.disk.length, "erased": list(made.disk.bears), "line": made.line}
        return ledger.append(PREPARED, body).sequence
    finally:
        ledger.close()


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


def _uuid(table: Path, place: str) -> str:
    """Return the UUID by which the place's line mounts; nothing where there is no line."""
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


def _below(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for child in row.get("children") or () for one in (child, *_below(child))]
