"""A disk as the system's own programs see it, with all that lies on it, and those programs."""

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from appliance.errors import StoreWriteError

_COLUMNS: Final = "NAME,TYPE,TRAN,SIZE,MODEL,SERIAL,PTTYPE,FSTYPE,LABEL,UUID,MOUNTPOINTS"
_LSBLK: Final = ("lsblk", "--json", "--bytes", "--output", _COLUMNS)
_SECONDS: Final = 1800

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
        labels: Of those file systems.
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
    labels: tuple[str, ...]
    uuid: str
    mounted: tuple[str, ...]
    parts: tuple[str, ...]

    @classmethod
    def from_lsblk(cls, text: str) -> list[Self]:
        """Read what ``lsblk --json --bytes`` said, a disk for each device that lies on no other."""
        return [cls._of(top) for top in json.loads(text)["blockdevices"]]

    @classmethod
    def _of(cls, top: dict[str, Any]) -> Self:
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
            labels=tuple(str(row["label"]) for row in rows if row.get("label")),
            uuid=str(top.get("uuid") or ""),
            mounted=tuple(str(place) for row in rows for place in row.get("mountpoints") or () if place),
            parts=tuple(str(row.get("type") or "") for row in rows[1:]),
        )


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


def look(device: Path, tool: Tool) -> Disk:
    """Return a disk as it is now."""
    (found,) = Disk.from_lsblk(tool([*_LSBLK, "--", str(device)]))
    return found


def look_round(tool: Tool) -> list[Disk]:
    """Return every disk that this machine has now; a drive without a medium is none."""
    return [one for one in Disk.from_lsblk(tool(_LSBLK)) if one.kind == "disk" and one.length]


def _below(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for child in row.get("children") or () for one in (child, *_below(child))]
