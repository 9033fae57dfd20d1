"""Whether what a box keeps lies on encrypted disks (requirement H2): read from the kernel, nothing is mapped or opened.

A folder counts as encrypted when every way from its file system down to hardware passes a layer of dm-crypt.
A disk that encrypts itself (OPAL, or the facility's storage) is not visible here, and is said to be unknown to us.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from appliance.actions.filesystems import existing
from appliance.actions.findings import Finding
from appliance.audit.exclusive import file_system_of
from appliance.config import Config

BLOCKS: Final = Path("/sys/dev/block")
TEMPORARY: Final = Path("/tmp")  # noqa: S108 - looked at, and nothing is written there
_SWAPS: Final = Path("/proc/swaps")
_MOUNTS: Final = Path("/proc/self/mountinfo")
_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_CRYPT: Final = "CRYPT-"
_DEPTH: Final = 8
_WHY: Final = "whoever takes the disk out, or buys it used, reads ledger, keys and weights"
_FIX: Final = (
    "put /var/lib/sealift, /etc/sealift, /tmp and the backup disk on LUKS, or state that the disks encrypt themselves"
)


def encryption(
    config: Config,
    *,
    blocks: Path = BLOCKS,
    swaps: Path = _SWAPS,
    temporary: Path = TEMPORARY,
    mounts: Path = _MOUNTS,
) -> Iterator[Finding]:
    """Yield what is known of the disks below state, keys, backups and a ledger that has its own, and of swap.

    Below temporary files, too, where a drill, a proof and an export lay copies of records and keys: those of units lie
    on the same disk as everybody's.
    """
    places = {"state": config.at.state, "keys": config.at.key_files}
    if _number(config.at.ledger) != _number(config.at.state):
        places["ledger"] = config.at.ledger
    if config.backup.folder:
        places["backups"] = Path(config.backup.folder)
    if _number(temporary) != _number(config.at.state) and not _is_memory(temporary, mounts):
        places["temporary files"] = temporary
    found = {name: is_encrypted(path, blocks) for name, path in places.items()}
    bare = [name for name, known in found.items() if known is False]
    hidden = [name for name, known in found.items() if known is None]
    yield Finding(
        name="disk encryption",
        is_good=None if bare or hidden else True,
        text=_said(bare, hidden),
        why=_WHY,
        fix=_FIX,
    )
    open_swaps = [name for name in _swaps(swaps) if not name.startswith("zram") and not _crypt_at(blocks, name)]
    yield Finding(
        name="swap",
        is_good=not open_swaps,
        text="none that writes plain memory to a disk"
        if not open_swaps
        else f"{', '.join(open_swaps)} is not encrypted",
        why="what a request held in memory would lie on the disk",
        fix="swapoff -a, and take it out of /etc/fstab",
    )


def _said(bare: list[str], hidden: list[str]) -> str:
    parts = []
    if bare:
        parts.append(f"no dm-crypt below {', '.join(bare)}")
    if hidden:
        parts.append(f"cannot be seen for {', '.join(hidden)}")
    return "; ".join(parts) or "dm-crypt below state, keys and backups"


def _is_memory(path: Path, mounts: Path) -> bool:
    """Tell whether a folder is in memory, which a swap that is encrypted, or none, leaves on no disk."""
    try:
        return file_system_of(path.resolve(), mounts.read_text("utf-8", "replace")) in _MEMORY
    except OSError:
        return False


def _number(path: Path) -> int:
    return existing(path).stat().st_dev


def is_encrypted(path: Path, blocks: Path) -> bool | None:
    """Tell whether the file system of a path, or of its nearest folder that exists, is; None where no disk is seen."""
    device = device_of(path, blocks)
    return None if device is None else mappings_below(device) is not None


def device_of(path: Path, blocks: Path = BLOCKS) -> Path | None:
    """Return what the kernel says of the disk of a path, or of its nearest folder that exists; None where none is."""
    try:
        number = _number(path)
    except OSError:
        return None
    device = blocks / f"{os.major(number)}:{os.minor(number)}"
    return device if device.exists() else None


def mappings_below(device: Path, depth: int = _DEPTH) -> frozenset[str] | None:
    """Return the names of the dm-crypt mappings that a device is or lies on; None where a way passes none of them."""
    with suppress(OSError):  # no mapping: a partition or a disk
        if (device / "dm/uuid").read_text().startswith(_CRYPT):
            return frozenset({(device / "dm/name").read_text().strip()})
    slaves = list((device / "slaves").glob("*"))
    found = [mappings_below(slave, depth - 1) for slave in slaves] if depth > 0 else []
    below = [one for one in found if one is not None]
    return frozenset().union(*below) if found and len(below) == len(found) else None


def _swaps(file: Path) -> list[str]:
    try:
        lines = file.read_text().splitlines()[1:]
    except OSError:
        return []
    return [re.sub(r"^/dev/", "", line.split()[0]) for line in lines if line.split()]


def _crypt_at(blocks: Path, name: str) -> bool:
    """Tell whether a swap device of this name is encrypted; a swap file is as its disk, which has its own finding."""
    if name.startswith("/"):
        return is_encrypted(Path(name), blocks) is True
    for device in blocks.glob("*"):
        names = {device.resolve().name}
        with suppress(OSError):
            names.add(f"mapper/{(device / 'dm/name').read_text().strip()}")
        if name in names:
            return mappings_below(device) is not None
    return False
