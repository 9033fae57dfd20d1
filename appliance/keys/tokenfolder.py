"""Letting a group at what a PKCS#11 module keeps as files: SoftHSM2 makes each object for its maker alone.

Root makes keys, and services of other users use them. One that may not read a new version's file sees no such version
and goes on with the one before, without a word; so whoever makes a key sees to it here, before anything rests on it.

Promises: only files and folders of this process's own user are changed, none is followed, and none that has a second
name; the group may write into these folders, so what lies there is not believed.
"""

import grp
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

_OF_FILE: Final = stat.S_IRGRP | stat.S_IWGRP
_OF_FOLDER: Final = stat.S_IRWXG
_NOBODYS: Final = 65534
_GROUPS: Final = Path("/proc/self/gid_map")


def let_in(folder: Path, group: str) -> None:
    """Let a group read and write what this user made below a folder, and have what comes later given to it.

    Args:
        folder: Where the module keeps its files; where there is none, nothing is done.
        group: By name.

    Raises:
        OSError: Something cannot be given to the group.
        KeyError: There is no such group.
    """
    gid = grp.getgrnam(group).gr_gid
    same = {gid} if _is_seen(gid) else {gid, _NOBODYS}
    if not folder.is_dir():
        return
    for _, _, names, at in os.fwalk(folder.resolve()):  # a folder that may not be opened is another user's
        _open_up(at, same, gid, _OF_FOLDER)
        for name in names:
            with suppress(FileNotFoundError):  # a service replaces its own meanwhile
                _file(name, at, same, gid)


def closed_to(folder: Path, group: str) -> tuple[str, ...]:
    """Return the names of files of this user below a folder that a group may not read and write.

    Raises:
        OSError: It cannot be looked at.
        KeyError: There is no such group.
    """
    gid = grp.getgrnam(group).gr_gid
    found = []
    for path in sorted(folder.rglob("*")):
        with suppress(FileNotFoundError):
            seen = path.lstat()
            is_open = seen.st_gid == gid and seen.st_mode & _OF_FILE == _OF_FILE
            if stat.S_ISREG(seen.st_mode) and seen.st_uid == os.geteuid() and not is_open:
                found.append(path.name)
    return tuple(found)


def opening(folder: Path, group: str) -> str:
    """Return the commands by which root lets the group in by hand."""
    there = f"find {folder} -type d -exec chmod g+s {{}} +"
    return f"`chgrp -R {group} {folder} && chmod -R g+rwX {folder} && {there}`"


def _file(name: str, at: int, same: set[int], gid: int) -> None:
    found = os.stat(name, dir_fd=at, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        return
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    try:
        found = os.fstat(file)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            _open_up(file, same, gid, _OF_FILE)
    finally:
        os.close(file)


def _open_up(descriptor: int, same: set[int], gid: int, wanted: int) -> None:
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        return
    mode = stat.S_IMODE(found.st_mode)
    if found.st_gid not in same:
        os.fchown(descriptor, -1, gid)
    if mode & wanted != wanted:
        os.fchmod(descriptor, mode | wanted)
    if wanted == _OF_FOLDER and not mode & stat.S_ISGID:
        with suppress(OSError):  # a unit may not; then what it makes there has to be given to the group each time
            os.fchmod(descriptor, mode | wanted | stat.S_ISGID)


def _is_seen(gid: int) -> bool:
    """Whether a group is shown by its number: a unit with users of its own (PrivateUsers=) sees others as nobody's."""
    try:
        rows = [[int(word) for word in row.split()] for row in _GROUPS.read_text("ascii").splitlines()]
    except (OSError, ValueError):
        return True
    return any(first <= gid < first + count for first, _, count in rows)
