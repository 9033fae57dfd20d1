"""The words of tables of mounts: the kernel's mountinfo, proc(5), and the host's, fstab(5)."""

import re
from collections.abc import Iterator
from typing import Final

_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def plain(text: str) -> str:
    """Return a field without its escapes: both tables write a space and the like as three octal digits."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)


def fstab_rows(text: str) -> Iterator[list[str]]:
    """Yield the fields of each line of an fstab(5), still escaped; comments and empty lines have none."""
    for line in text.splitlines():
        if (words := line.split()) and not words[0].startswith("#"):
            yield words


def mount_points(mountinfo: str) -> Iterator[tuple[str, str]]:
    """Yield where each file system of a mountinfo is mounted, and its type."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        words, rest = before.split(), after.split()
        if len(words) > 4 and rest:
            yield plain(words[4]), rest[0]
