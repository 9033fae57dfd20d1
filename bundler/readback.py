"""Reading back what was written, from the device and not from memory, and comparing every byte with what was signed.

A copy that is verified from the page cache proves nothing about a stick. Files are read past the cache (O_DIRECT);
where the file system cannot do that, the cache is dropped file by file and the result says so. Nothing here knows what
the writer meant to write: the expectation is the tag manifest and the payload manifest that people sealed.
"""

import hashlib
import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import ReadBackError
from bundler.measure import Progress, no_progress, require_regular
from media.errors import UnreadableError

_CHUNK = 4 * 2**20
_IN_MEMORY = ("tmpfs", "ramfs", "rootfs")
"""File systems that have no device: whatever is read comes from memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """What reading back showed."""

    files: int
    bytes: int
    past_cache: bool

    @property
    def says(self) -> str:
        """One sentence for the sheet and the custody entry."""
        return "read back from the device" if self.past_cache else "read back from cache"


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
    device = not _in_memory(release)
    done, past_cache = 0, device
    for name, path in sorted(found.items()):
        digest = hashlib.sha256()
        stream = _Stream(path)
        for chunk in stream:
            digest.update(chunk)
            done += len(chunk)
            progress(done, total, name)
        past_cache = past_cache and stream.past_cache
        if digest.hexdigest() != expected[name]:
            raise ReadBackError(
                what=f"{name} came back different from the medium",
                why=f"expected {expected[name][:12]}, read {digest.hexdigest()[:12]}",
                fix="discard this medium and write another one",
            )
    return ReadBack(files=len(found), bytes=done, past_cache=past_cache)


class _Stream:
    """A file's bytes, read past the page cache where the file system can."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.past_cache = False

    def __iter__(self) -> Iterator[memoryview]:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path, flags)
        except OSError as error:
            raise self._unreadable(error) from error
        with os.fdopen(descriptor, "rb", buffering=0) as plain:
            facts = os.fstat(plain.fileno())
            require_regular(facts, self._path.name)
            size = facts.st_size
            os.fsync(plain.fileno())
            os.posix_fadvise(plain.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            try:
                direct = os.open(self._path, flags | os.O_DIRECT)
            except OSError:
                yield from self._read(plain.fileno(), size)
                return
            with os.fdopen(direct, "rb", buffering=0) as source:
                self.past_cache = True
                yield from self._read(source.fileno(), size, fallback=plain.fileno())

    def _read(self, descriptor: int, size: int, *, fallback: int | None = None) -> Iterator[memoryview]:
        with mmap.mmap(-1, _CHUNK) as aligned:
            view = memoryview(aligned)
            try:
                offset = 0
                while offset < size:
                    try:
                        count = os.preadv(descriptor, [view], offset)
                    except OSError as error:
                        if fallback is None:
                            raise self._unreadable(error) from error
                        # this file system takes the flag but not the read: go on by the cache, and say so
                        descriptor, fallback, self.past_cache = fallback, None, False
                        continue
                    if not count:
                        return
                    yield view[:count]
                    offset += count
            finally:
                view.release()

    def _unreadable(self, error: OSError) -> UnreadableError:
        return UnreadableError(
            what=f"{self._path.name} could not be read back",
            why=error.strerror or "input/output error",
            fix="discard this medium and write another one",
        )


def _in_memory(folder: Path) -> bool:
    """Tell whether a folder lies on a file system without a device."""
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split()
        if fields[2] == wanted:
            return fields[fields.index("-") + 1] in _IN_MEMORY
    return False
