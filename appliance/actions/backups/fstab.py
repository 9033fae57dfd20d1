"""The line of /etc/fstab by which disks for backups are mounted: one for all disks that take turns.

systemd makes one unit of a place, from the first line that names it, and drops the others with a word in the journal.
So disks that take turns bear one UUID, and one line does for them all.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from appliance.actions.findings import Finding
from appliance.config import Config
from appliance.mounttables import escaped, fstab_rows, plain

FSTAB: Final = Path("/etc/fstab")
OPTIONS: Final = "nofail,nosuid,nodev,noexec"
"""`nofail`: the box starts without the disk."""
_UUID: Final = "UUID="


def sources(text: str, place: str) -> list[str]:
    """Return what the lines of an fstab(5) mount at a place, in their order."""
    wanted = place.rstrip("/")
    return [row[0] for row in fstab_rows(text) if len(row) > 1 and plain(row[1]).rstrip("/") == wanted]


def uuid_of(source: str) -> str:
    """Return the UUID that a source names, or nothing where it names something else."""
    return source.removeprefix(_UUID).strip('"') if source.startswith(_UUID) else ""


def with_line(text: str, uuid: str, place: str) -> str:
    """Return an fstab(5) with a line more, which mounts a disk for backups at a place."""
    before = text if not text or text.endswith("\n") else f"{text}\n"
    return f"{before}{_UUID}{uuid}  {escaped(place)}  ext4  {OPTIONS}  0  2\n"


def standing(config: Config, *, fstab: Path = FSTAB, mounted: Sequence[str]) -> Finding | None:
    """Return whether a disk for backups that is plugged in would be mounted; None where none is meant to be.

    Args:
        config: Whose folder for backups is meant.
        fstab: What mounts at each start.
        mounted: The places where something is mounted now.
    """
    folder = config.backup.folder
    if not folder or config.backup.on_system_disk:
        return None
    try:
        found = sources(fstab.read_text(errors="replace"), folder)
    except OSError:
        found = []
    if not found and any(_holds(place, folder) for place in mounted):
        return None  # another way than a line of its own
    text = {0: "no line in /etc/fstab mounts a disk there", 1: "one line in /etc/fstab"}
    return Finding(
        name="backup disk",
        is_good=len(found) == 1,
        text=text.get(len(found), f"{len(found)} lines in /etc/fstab for one place: systemd takes the first alone"),
        why="a disk that no line names is taken as a medium, and no backup can be written to it",
        fix="plug the disk in and run `sealift backup disk DEVICE`"
        if not found
        else "leave one line, and give each disk that takes turns its UUID (docs/operator/backup.md)",
    )


def _holds(place: str, folder: str) -> bool:
    return place != "/" and (folder == place or folder.startswith(place.rstrip("/") + "/"))
