"""What media hold, by the names they are sold under.

Discs hold exactly what their standard says. A stick holds less than is printed on it, by an amount that its maker
chooses; a tenth is taken off, for that and for the file system.
"""

import re
from collections.abc import Mapping
from typing import Final

from media.errors import UsageError

DISCS: Final[Mapping[str, int]] = {
    "cd": 360_000 * 2048,
    "dvd": 2_295_104 * 2048,
    "dvd-dl": 4_171_712 * 2048,
    "bd": 12_219_392 * 2048,
    "bd-dl": 24_438_784 * 2048,
    "bd-xl": 48_878_592 * 2048,
    "bd-128": 62_500_864 * 2048,
}
"""Bytes of user data: CD of 80 minutes, DVD of one and two layers (the smaller of + and -), Blu-ray of one to four."""
_TABLES: Final = 32 * 2**20
"""What a file system of some thousand files takes of a disc at most; left free when volumes are planned."""
_STICK: Final = re.compile(r"usb-([1-9][0-9]{0,4})(gb|tb)?", re.ASCII)
_SIZE: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([kMGT]i?)?B?", re.ASCII)
_UNITS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "ki": 2**10, "Mi": 2**20} | {
    "Gi": 2**30,
    "Ti": 2**40,
}
_TIMES: Final = re.compile(r"([1-9][0-9]?)\s*[*x]\s*(.+)", re.ASCII)


def size_of(text: str) -> int:
    """Return the bytes that a text means: ``58GiB``, ``64GB``, ``bd``, or ``usb-64`` for a stick sold as 64 GB.

    Raises:
        UsageError: It means none.
    """
    wanted = text.strip()
    if found := DISCS.get(wanted.lower()):
        return found
    if stick := _STICK.fullmatch(wanted.lower()):
        return int(stick[1]) * (10**12 if stick[2] == "tb" else 10**9) * 9 // 10
    if matched := _SIZE.fullmatch(wanted):
        return int(float(matched[1]) * _UNITS[matched[2] or ""])
    raise UsageError(
        what=f"{text[:40]!r} is no size",
        why="a number and a unit, or the name of a medium, is expected",
        fix=f"write 64GB, 58GiB, usb-64, {', '.join(DISCS)}",
    )


def room_of(text: str) -> int:
    """Return what a volume may take of a medium: `size_of`, less what the file system of a disc needs.

    Raises:
        UsageError: It means no size.
    """
    return size_of(text) - (_TABLES if text.strip().lower() in DISCS else 0)


def rooms_of(text: str) -> list[int]:
    """Return the room on several equal media, as ``5*dvd`` says, or on one.

    Raises:
        UsageError: It means none.
    """
    if matched := _TIMES.fullmatch(text.strip()):
        return [room_of(matched[2])] * int(matched[1])
    return [room_of(text)]
