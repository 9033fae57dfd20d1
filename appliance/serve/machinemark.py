"""What tells this machine and its processor from others, so that what was measured here is taken for no other's.

The mark goes into evidence, which leaves the machine; nobody finds the machine's number, or its processor, from it.
"""

from hashlib import sha256
from pathlib import Path
from typing import Final

from media import canonical

_USE: Final = "sealift step times"
_MOST_BYTES: Final = 64 * 1024
# Its maker, family, model and each of its features, as the kernel uses it. A unit sees no /proc/cpuinfo.
_PROCESSOR: Final = "sys/devices/system/cpu/modalias"
_ONLINE: Final = "sys/devices/system/cpu/online"
_MACHINE: Final = "etc/machine-id"


def processor(root: Path = Path("/")) -> str:
    """Return how the kernel names this machine's processor; empty where it does not say."""
    return _text(root / _PROCESSOR)


def mark(root: Path = Path("/")) -> str:
    """Return 64 hex digits; empty where the kernel does not say what processor it is.

    Another machine has other ones, and so has this one with another processor, other features of it (a newer kernel
    may use more of them) or other cores.
    """
    told = processor(root)
    if not told:
        return ""
    known = {"use": _USE, "processor": told, "online": _text(root / _ONLINE), "machine": _text(root / _MACHINE)}
    return sha256(canonical.dumps(known)).hexdigest()


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            said = file.read(_MOST_BYTES).decode("ascii", "replace")
            return "".join(letter for letter in said if letter.isprintable()).strip()
    except OSError:
        return ""
