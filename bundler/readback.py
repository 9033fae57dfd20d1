"""Reading back what was written, from the device and not from memory, and comparing every byte with what was signed.

A copy that is verified from the page cache proves nothing about a stick. The cache is dropped and shown to be empty
file by file, and the file is read past it (O_DIRECT) where its file system can. Where neither holds, or where someone
else's cache lies in between (FUSE, a network, memory), the bytes are still compared, and the result says that the
medium is not verified. Nothing here knows what the writer meant to write: the expectation is what people sealed.
"""

import errno
import hashlib
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bundler import pagecache
from bundler.errors import ReadBackError
from bundler.measure import Progress, no_progress, require_regular
from media.errors import UnreadableError

FROM_DEVICE: Final = "read back from the device"
FROM_CACHE: Final = "not verified: read back from memory only"

_CHUNK = 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """What reading back showed."""

    files: int
    bytes: int
    past_cache: bool

    @property
    def says(self) -> str:
        """One sentence for the sheet and the custody entry."""
        return FROM_DEVICE if self.past_cache else FROM_CACHE


def read_back(release: Path, expected: Mapping[str, str], *, progress: Progress = no_progress) -> ReadBack:
    """Read every file below `release` and compare it with the digests people signed.

    Args:
        release: The folder that was written.
        expected: SHA-256 by name below it, complete.
        progress: Called with bytes done, bytes in all, and the file's name.

    Raises:
        ReadBackError: A file misses, is there too many, or differs.
        UnreadableError: The device did not give a file back.
    """
    found = {path.relative_to(release).as_posix(): path for path in release.rglob("*") if not path.is_dir()}
    if odd := sorted(set(found) ^ set(expected)):
        raise ReadBackError(what=f"{odd[0]} was not written as planned", why=f"{len(odd)} files differ by name")
    total = sum(path.lstat().st_size for path in found.values())
    device = pagecache.is_on_a_device(release)
    done, past_cache = 0, device
    for name, path in sorted(found.items()):
        digest = hashlib.sha256()

        def take(chunk: memoryview, digest: Any = digest, name: str = name) -> None:
            nonlocal done
            digest.update(chunk)
            done += len(chunk)
            progress(done, total, name)

        past_cache = _read_file(path, take) and past_cache
        if digest.hexdigest() != expected[name]:
            raise ReadBackError(
                what=f"{name} came back different from the medium",
                why=f"expected {expected[name][:12]}, read {digest.hexdigest()[:12]}",
                fix="discard this medium and write another one",
            )
    return ReadBack(files=len(found), bytes=done, past_cache=past_cache)


def _read_file(path: Path, take: Callable[[memoryview], None]) -> bool:
    """Hand every byte of a file to `take`; return whether all of them came past the page cache."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags), "rb", buffering=0) as plain, mmap.mmap(-1, _CHUNK) as aligned:
            facts = os.fstat(plain.fileno())
            require_regular(facts, path.name)
            dropped = pagecache.drop(plain.fileno())
            with memoryview(aligned) as buffer:
                read = _read_past_cache(path, flags, facts.st_size, buffer, take)
                _read(plain.fileno(), read, facts.st_size, buffer, take)
    except OSError as error:
        raise UnreadableError(
            what=f"{path.name} could not be read back",
            why=error.strerror or "input/output error",
            fix="discard this medium and write another one",
        ) from error
    return dropped or read == facts.st_size


def _read_past_cache(path: Path, flags: int, size: int, buffer: memoryview, take: Callable[[memoryview], None]) -> int:
    """Read with O_DIRECT as far as the file system goes along with it; return how many bytes came."""
    try:
        descriptor = os.open(path, flags | os.O_DIRECT)
    except OSError:
        return 0
    with os.fdopen(descriptor, "rb", buffering=0) as source:
        try:
            first = os.preadv(source.fileno(), [buffer], 0)
        except OSError as error:
            if error.errno == errno.EINVAL:  # takes the flag, but not the read
                return 0
            raise
        with buffer[:first] as chunk:
            take(chunk)
        return first if first == size else _read(source.fileno(), first, size, buffer, take)


def _read(descriptor: int, offset: int, size: int, buffer: memoryview, take: Callable[[memoryview], None]) -> int:
    """Read from an offset to the end; return where the end was found."""
    while offset < size:
        count = os.preadv(descriptor, [buffer], offset)
        if not count:
            break
        with buffer[:count] as chunk:
            take(chunk)
        offset += count
    return offset
