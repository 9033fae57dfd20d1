"""Lengths and digests of candidate files: whole, by 64 MiB block, and over any run of blocks, in one pass of reading.

A candidate is made of regular files with names that may travel; anything else is refused before a byte is hashed. The
whole-file digest runs beside the block digests on a second core (hashlib releases the interpreter's lock).
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from media.errors import UnreadableError, UnsafePathError
from media.layout import BLOCK_BYTES, safe_path

Progress = Callable[[int, int, str], None]
"""Called with bytes done, bytes in all, and what is being worked on."""


def no_progress(done: int, total: int, label: str) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was read of one file."""

    length: int
    sha256: str
    blocks: tuple[str, ...]


def measure(path: Path, *, advance: Callable[[int], None] = lambda _: None) -> Measured:
    """Hash one file, whole and by blocks. An empty file has no blocks.

    Raises:
        UnsafePathError: It is not a regular file.
        UnreadableError: It could not be read.
    """
    whole = hashlib.sha256()
    blocks: list[str] = []
    length = 0
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as source, ThreadPoolExecutor(max_workers=1) as beside:
            facts = os.fstat(source.fileno())
            require_regular(facts, path.name)
            for block in _blocks(source.read):
                if facts.st_size > BLOCK_BYTES:
                    hashed = beside.submit(_sha256_hex, block)
                    whole.update(block)
                    blocks.append(hashed.result())
                else:
                    whole.update(block)
                    blocks.append(whole.hexdigest())
                length += len(block)
                advance(len(block))
    except OSError as error:
        raise UnreadableError(what=f"{path.name} cannot be read", why=error.strerror or "input/output error") from error
    if length != facts.st_size:
        raise UnreadableError(what=f"{path.name} changed while it was read", why="its size is not what it was")
    return Measured(length=length, sha256=whole.hexdigest(), blocks=tuple(blocks))


def measure_tree(folder: Path, *, prefix: str, progress: Progress = no_progress) -> dict[str, Measured]:
    """Hash every file below a folder; keys are `prefix/NAME` with names that may travel, in sorted order.

    Raises:
        UnsafePathError: A name or a file type that may not travel.
        UnreadableError: A file could not be read.
    """
    found = sorted(_walk(folder, prefix))
    total = sum(size for _, _, size in found)
    done = 0
    measured: dict[str, Measured] = {}
    for name, path, _ in found:

        def advance(count: int, name: str = name) -> None:
            nonlocal done
            done += count
            progress(done, total, name)

        measured[name] = measure(path, advance=advance)
    return measured


def run_digest(path: Path, *, offset: int, length: int) -> str:
    """Hash a run of bytes of a file.

    Raises:
        UnreadableError: The file is shorter, or could not be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as source:
            source.seek(offset)
            left = length
            while left:
                chunk = source.read(min(left, 4 * 2**20))
                if not chunk:
                    raise UnreadableError(what=f"{path.name} is shorter than planned", why=f"{left} bytes are missing")
                digest.update(chunk)
                left -= len(chunk)
    except OSError as error:
        raise UnreadableError(what=f"{path.name} cannot be read", why=error.strerror or "input/output error") from error
    return digest.hexdigest()


def require_regular(facts: os.stat_result, name: str) -> None:
    """Pass only for a regular file.

    Raises:
        UnsafePathError: It is a link, a device, a pipe or a socket.
    """
    if not stat.S_ISREG(facts.st_mode):
        raise UnsafePathError(what=f"{name} is not a regular file", fix="only plain files travel")


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, Path, int]]:
    with os.scandir(folder) as opened:
        entries = list(opened)
    for entry in entries:
        name = f"{prefix}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), name)
            continue
        require_regular(entry.stat(follow_symlinks=False), name)
        yield str(safe_path(name)), Path(entry.path), entry.stat(follow_symlinks=False).st_size


def _blocks(read: Callable[[int], bytes]) -> Iterable[bytes]:
    while True:
        pieces: list[bytes] = []
        wanted = BLOCK_BYTES
        while wanted and (piece := read(wanted)):
            pieces.append(piece)
            wanted -= len(piece)
        if pieces:
            yield pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if wanted:
            return


def _sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
