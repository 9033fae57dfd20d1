"""The words of tables of mounts: the kernel's mountinfo, proc(5), and the host's, fstab(5); which types are of here.

What must be durable and be had by one process alone lies on a file system whose locks and syncs are this machine's
kernel's alone. Refused are, whoever asks: what another machine keeps; what several machines write on one disk; what a
hypervisor shares with its guests, since each guest grants locks by itself; and every file system that a program in user
space keeps (FUSE), of which nobody here knows what it does with a sync, whether it goes over a network or not.
"""

import re
from collections.abc import Iterator
from typing import Final

_OF_OTHER_MACHINES: Final = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"}
    | {"orangefs", "pvfs2", "smb3", "smbfs"}
)
_OF_SHARED_DISKS: Final = frozenset({"gfs2", "ocfs2"})
_OF_HYPERVISORS: Final = frozenset({"vboxsf", "virtiofs", "vmhgfs"})
_REFUSED: Final = _OF_OTHER_MACHINES | _OF_SHARED_DISKS | _OF_HYPERVISORS
# What a container without root rights sees as its own disk.
_CONTAINER_ROOT: Final = "fuse.fuse-overlayfs"
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def is_local(kind: str) -> bool:
    """Whether a file system of this type, as the kernel names it in a mountinfo, is this machine's own alone."""
    return kind not in _REFUSED and (not kind.startswith("fuse") or kind == _CONTAINER_ROOT)


def plain(text: str) -> str:
    """Return a field without its escapes: both tables write a space and the like as three octal digits."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)


def escaped(text: str) -> str:
    """Return a text as a field of these tables: what would end the field, or begin an escape, as octal digits."""
    return "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\" else letter for letter in text)


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
