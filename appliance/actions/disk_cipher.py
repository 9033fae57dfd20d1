"""By which cipher the disks below logs, state, keys and backups are encrypted (requirement G8): AES-256 is expected.

The device mapper tells root the cipher and how long the key is; `dmsetup` writes zeros in the key's place, or says
where the kernel keeps it. Nothing is opened, and no key is read.
"""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from appliance.actions.disk_encryption import BLOCKS, device_of, mappings_below
from appliance.actions.findings import Finding
from appliance.config import Config

JOURNAL: Final = Path("/var/log/journal")
_TABLE: Final = re.compile(r"\d+ \d+ crypt (\S+) (?::(\d{1,4}):\S+|((?:[0-9a-fA-F]{2}){1,512})) ", re.ASCII)
_AES: Final = re.compile(r"(?:aes|capi:(?:xts|cbc|gcm)\(aes\))-\S*", re.ASCII)
_EXPECTED_BITS: Final = 256
_SECONDS: Final = 10
_UNTOLD: Final = "its cipher cannot be read"


def cipher(
    config: Config, *, blocks: Path = BLOCKS, journal: Path = JOURNAL, table: Callable[[str], str] | None = None
) -> Iterator[Finding]:
    """Yield by which ciphers the disks are encrypted that are on dm-crypt; that others are not is another finding.

    Args:
        config: The site file.
        blocks: What the kernel says of block devices.
        journal: Where the journal lies.
        table: Returns the device mapper's table of a mapping; asked here when absent.
    """
    places = {"journal": journal, "state": config.at.state, "keys": config.at.key_files}
    if config.backup.folder:
        places["backups"] = Path(config.backup.folder)
    names: dict[str, list[str]] = {}
    for place, path in places.items():
        device = device_of(path, blocks)
        for mapping in sorted((device and mappings_below(device)) or ()):
            names.setdefault(mapping, []).append(place)
    if not names:
        return
    found = {mapping: _read((table or _table)(mapping)) for mapping in names}
    below = "; ".join(f"{found[mapping][0]} below {', '.join(of)}" for mapping, of in sorted(names.items()))
    yield Finding(
        name="disk cipher",
        is_good=True if all(is_expected for _, is_expected in found.values()) else None,
        text=below,
        why="logs and records are to lie under AES-256, and a disk may have been set up otherwise",
        fix="look as root: `dmsetup table`; set the disk up anew (cryptsetup luksFormat), or accept its cipher",
    )


def _read(table: str) -> tuple[str, bool]:
    """Return what to say of a mapping's cipher, and whether it is AES with a key of 256 bits."""
    line = _TABLE.search(table)
    if line is None:
        return _UNTOLD, False
    name, size, digits = line.groups()
    bits = 8 * int(size) if size else 4 * len(digits)
    strength = bits // 2 if re.search(r"\bxts\b", name) else bits  # XTS has two keys, of which one is the tweak's
    said = f"{name[:64]}, keys of {strength} bits"
    return said, _AES.fullmatch(name) is not None and strength == _EXPECTED_BITS


def _table(mapping: str) -> str:
    """Return the device mapper's line on a mapping, without its key; nothing where nobody tells."""
    try:
        done = subprocess.run(["dmsetup", "table", "--", mapping], capture_output=True, check=True, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")
