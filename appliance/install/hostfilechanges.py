"""What a release changes in the files by which it changes the host: playbooks, units, accounts, udev rules.

Check mode names a file that would be copied and not what is in it, and leaves out commands, which it cannot foresee. So
people are shown the files themselves, the release before beside the next one.
"""

import difflib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from appliance.install.maintainer import readable
from media.digest import sha256_hex

HEADING: Final = "FILES THAT CHANGE THE HOST"
_FOLDERS: Final = ("ansible", "systemd")


def changed(before: Path, after: Path) -> str:
    """Return the differences of all files of these kinds, by name; nothing where they are the same.

    Args:
        before: The folder of the release that is in use.
        after: That of the one that is to be installed.

    Raises:
        OSError: A file cannot be read.
    """
    lines = list(_lines(before, after))
    return "\n".join([HEADING, *lines, "", ""]) if lines else ""


def _lines(before: Path, after: Path) -> Iterator[str]:
    for name in sorted({*_names(before), *_names(after)}):
        old, new = (_content(folder / name) for folder in (before, after))
        if old == new:
            continue
        shown = readable(name)
        heads = ("nothing" if old is None else f"before/{shown}", "nothing" if new is None else f"after/{shown}")
        yield from (f"--- {heads[0]}", f"+++ {heads[1]}")
        yield from _between(old, new)


def _between(old: bytes | None, new: bytes | None) -> Iterator[str]:
    was, is_now = (_text(content or b"") for content in (old, new))
    if was is None or is_now is None:
        yield from (f"{sign} {_bytes(content)}" for sign, content in (("-", old), ("+", new)) if content is not None)
        return
    told = difflib.unified_diff(readable(was).splitlines(), readable(is_now).splitlines(), lineterm="")
    yield from itertools.islice(told, 2, None)  # behind heads of its own


def _names(folder: Path) -> Iterator[str]:
    for kind in _FOLDERS:
        for path in (folder / kind).rglob("*"):
            if path.is_symlink() or not path.is_dir():
                yield path.relative_to(folder).as_posix()


def _content(path: Path) -> bytes | None:
    if path.is_symlink():
        return f"a link to {path.readlink()}\n".encode()
    return path.read_bytes() if path.is_file() else None


def _text(content: bytes) -> str | None:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _bytes(content: bytes) -> str:
    return f"{len(content)} bytes, SHA-256 {sha256_hex(content)}"
