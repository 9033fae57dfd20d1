"""Letting a group at what a PKCS#11 module keeps as files: SoftHSM2 makes each object for its maker alone.

Root makes keys, and services of other users use them. One that may not read a new version's file sees no such version
and goes on with the one before, without a word; so whoever makes a key sees to it here, before anything rests on it.

Promises: only what making the key made is opened, with the folder it lies in and SoftHSM2's own three files beside it;
tokens of other programs, and a vendor's settings and libraries, lie in the same folder and stay as they are. Only files
and folders of this process's own user are changed, none is followed, and none that has a second name; the group may
write into these folders, so what lies there is not believed.
"""

import grp
import os
import shlex
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

_OF_FILE: Final = stat.S_IRGRP | stat.S_IWGRP
_OF_FOLDER: Final = stat.S_IRWXG
_THROUGH: Final = stat.S_IRGRP | stat.S_IXGRP
_OTHERS: Final = stat.S_IROTH | stat.S_IXOTH
_NOBODYS: Final = 65534
_GROUPS: Final = Path("/proc/self/gid_map")
# What SoftHSM2 made with the token, before any key: without it nobody finds the keys.
_NAMING: Final = "token.object"
_OF_TOKEN: Final = frozenset({_NAMING, "token.lock", "generation"})
_LABEL_BYTES: Final = 32
_TOKEN_BYTES: Final = 2**16

Seen = frozenset[tuple[str, str, int]]


def look(folder: Path) -> Seen:
    """Return which files of this user lie below a folder, for `let_in` once a key was made; none where there is none.

    Raises:
        OSError: It cannot be looked at.
    """
    found = ((place, names) for place, _, _, names in _walk(folder))
    return frozenset((place, name, inode) for place, names in found for name, inode in names.items())


def let_in(folder: Path, group: str, before: Seen) -> None:
    """Let a group read and write what this user made below a folder, and have what comes later given to it.

    Args:
        folder: Where the module keeps its files; where there is none, nothing is done.
        group: By name.
        before: What `look` saw before the key was made.

    Raises:
        OSError: Something cannot be given to the group.
        KeyError: There is no such group.
    """
    gid = grp.getgrnam(group).gr_gid
    same = {gid} if _is_seen(gid) else {gid, _NOBODYS}
    through: set[Path] = set()
    for place, at, is_top, names in _walk(folder):
        made = {name for name, inode in names.items() if (place, name, inode) not in before}
        if made:
            _open_up(at, same, gid, _OF_FOLDER)
            for name in made if is_top else made | (_OF_TOKEN & set(names)):
                with suppress(FileNotFoundError):  # a service replaces its own meanwhile
                    _file(name, at, same, gid)
        elif Path(place) not in through:
            continue
        elif os.fstat(at).st_mode & _OTHERS != _OTHERS:
            _open_up(at, same, gid, _THROUGH)
        through.add(Path(place).parent)


def hand_on(folder: Path, group: str, token: str) -> int:
    """Have what is made in our token's folders given to the group from now on; return in how many it was not so yet.

    Only for root at large: a unit that may make no set-ID file cannot. Nothing is opened by it: a folder is passed over
    that is not this user's and the group's already, as those are which people opened by hand under a release of before,
    and so is one in which no file of SoftHSM2's names the token.

    Args:
        folder: Where the module keeps its files; where there is none, nothing is done.
        group: By name.
        token: The token's label.

    Raises:
        OSError: It cannot be looked at, or changed.
        KeyError: There is no such group.
    """
    gid, count = grp.getgrnam(group).gr_gid, 0
    if not folder.is_dir():
        return count
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with ExitStack() as opened:
        opened.callback(os.close, top := os.open(folder.resolve(), flags))
        for name in sorted(each.name for each in os.scandir(top)):
            try:
                opened.callback(os.close, at := os.open(name, flags, dir_fd=top))
            except OSError:  # a file, a link, or gone meanwhile
                continue
            seen = os.fstat(at)
            is_theirs = (seen.st_uid, seen.st_gid) == (os.geteuid(), gid) and seen.st_mode & _OF_FOLDER == _OF_FOLDER
            if is_theirs and not seen.st_mode & stat.S_ISGID and _is_ours(Path(), token, otherwise=False, at=at):
                os.fchmod(at, stat.S_IMODE(seen.st_mode) | stat.S_ISGID)
                count += 1
    return count


def made_in(folder: Path, before: Seen) -> tuple[Path, ...]:
    """Return the folders in which this user made files since `look`.

    Raises:
        OSError: It cannot be looked at.
    """
    return tuple(sorted({Path(place) for place, _, _ in look(folder) - before}))


def closed_to(folder: Path, group: str, token: str) -> tuple[Path, ...]:
    """Return files of this user, in folders of our token below a folder, that a group may not read and write.

    A folder is our token's where SoftHSM2's own file in it names the token; where there is none to read, where
    something in it is open to the group.

    Args:
        folder: Where the module keeps its files. What lies right in it may be settings, and is not spoken of.
        group: By name.
        token: The token's label.

    Raises:
        OSError: It cannot be looked at.
        KeyError: There is no such group.
    """
    gid = grp.getgrnam(group).gr_gid
    found: list[Path] = []
    for place, _, names in os.walk(folder):
        closed, has_open = [], False
        for path in (Path(place) / name for name in names):
            with suppress(FileNotFoundError):
                seen = path.lstat()
                if stat.S_ISREG(seen.st_mode):
                    is_open = seen.st_gid == gid and seen.st_mode & _OF_FILE == _OF_FILE
                    has_open |= is_open
                    closed += [path] if not is_open and seen.st_uid == os.geteuid() else []
        if closed and Path(place) != folder and _is_ours(Path(place), token, otherwise=has_open):
            found += closed
    return tuple(sorted(found))


def opening(folders: Iterable[Path], group: str, *, below: Path) -> str:
    """Return the commands by which root lets the group in by hand: of `below` itself, which others use, no files."""
    commands = []
    for folder in sorted(set(folders)):
        name = shlex.quote(str(folder))
        if folder.resolve() == below.resolve():
            commands.append(f"chgrp {group} {name} && chmod g+rwxs {name}")
        else:
            there = f"find {name} -type d -exec chmod g+s {{}} +"
            commands.append(f"chgrp -R {group} {name} && chmod -R g+rwX {name} && {there}")
    return f"`{' && '.join(commands)}`"


def _walk(folder: Path) -> Iterator[tuple[str, int, bool, dict[str, int]]]:
    """Yield each folder, the inner ones first: its path, open, whether it is the outermost, this user's plain files."""
    if not folder.is_dir():
        return
    top = folder.resolve()
    for place, _, names, at in os.fwalk(top, topdown=False):  # one that may not be opened is another user's
        found = {}
        for name in names:
            with suppress(FileNotFoundError):
                seen = os.stat(name, dir_fd=at, follow_symlinks=False)
                if stat.S_ISREG(seen.st_mode) and seen.st_uid == os.geteuid():
                    found[name] = seen.st_ino
        yield place, at, place == str(top), found


def _is_ours(folder: Path, token: str, *, otherwise: bool, at: int | None = None) -> bool:
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(folder / _NAMING, flags, dir_fd=at), "rb") as stream:
            untrusted = stream.read(_TOKEN_BYTES) if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else b""
    except OSError:
        return otherwise
    return token.encode().ljust(_LABEL_BYTES) in untrusted


def _file(name: str, at: int, same: set[int], gid: int) -> None:
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
