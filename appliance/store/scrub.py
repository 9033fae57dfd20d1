"""Scrubbing: every object of the store is read from the disk and hashed as a whole; its name says what must come out.

Receiving proves signed blocks (docs/adr/0016); this proves the names, over and over, for as long as bytes lie here.
Only an object that does not hold is read a second time, block by block, to tell which bytes are bad. Nothing is
changed: the remedy is to receive again, which puts a sound object in the place of a bad one.

Reading needs no lock. A receive may put an object in place meanwhile; what was opened stays what it was.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from appliance.store import reread
from appliance.store.content import ContentStore, StoredRelease, names_in
from appliance.store.kept_small import broken_files, signed_targets
from appliance.store.reread import Opened, Pace
from appliance.store.spoilt import Problem, Range, Spoilt, Use
from appliance.store.tensors import spans_of
from media import layout
from media.errors import MediaError

_NAME_CHARS: Final = 64
_HEADER_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True, kw_only=True)
class Wanted:
    """One object that stored releases name.

    Args:
        length: Bytes.
        uses: The files that it is.
        blocks: SHA-256 of each block, where signed metadata could be read.
    """

    length: int
    uses: list[Use] = field(default_factory=list)
    blocks: tuple[str, ...] = ()


def wanted_by(releases: Iterable[StoredRelease]) -> dict[str, Wanted]:
    """Return the objects that these releases name, by digest."""
    found: dict[str, Wanted] = {}
    for release in releases:
        try:
            signed = signed_targets(release)
        except (MediaError, OSError, KeyError, TypeError):  # told as a finding of that release
            signed = {}
        for file in release.files.values():
            wanted = found.setdefault(file.sha256, Wanted(length=file.length))
            wanted.uses.append(Use(serial=release.serial, path=file.path))
            target = signed.get(file.path)
            if target is not None and target.sha256 == file.sha256:
                wanted.blocks = target.blocks
    return found


class Scrub:
    """Reads a store again.

    Args:
        store: Which.
        wanted: What its releases name; see `wanted_by`.
        pace: Called with all that is read.
    """

    def __init__(self, store: ContentStore, wanted: Mapping[str, Wanted], pace: Pace) -> None:
        self._store = store
        self._wanted = wanted
        self._pace = pace
        self._buffer = reread.scratch()

    def objects(self, *, after: str = "", only: frozenset[str] | None = None) -> Iterator[tuple[str, int]]:
        """Yield name and length of the objects that are there, by name, beginning behind `after`.

        Args:
            after: The name that was proven last.
            only: Leave out all others.

        Raises:
            StoreDamagedError: The disk does not give their names back.
        """
        for shard in sorted(_names(self._store.objects, length=2)):
            if shard < after[:2]:
                continue
            for name in sorted(_names(self._store.objects / shard, length=_NAME_CHARS)):
                if name > after and (only is None or name in only):
                    facts = self._store.object_path(name).lstat()
                    yield name, facts.st_size

    def prove(self, name: str) -> Spoilt | None:
        """Read one object; return what is wrong with it, or nothing."""
        wanted, path = self._wanted.get(name), self._store.object_path(name)
        try:
            with reread.opened(path) as file:
                if wanted is not None and file.size != wanted.length:
                    return self._spoilt(name, Problem.LENGTH)
                if file.sha256(self._buffer, self._pace) == name:
                    return None
                inode = file.inode
        except FileNotFoundError:
            return self._spoilt(name, Problem.MISSING) if wanted is not None else None
        except OSError:
            inode = -1
        return self._look_closer(name, path, inode=inode)

    def missing(self, only: frozenset[str] | None = None) -> Iterator[Spoilt]:
        """Yield the objects that releases name and that are not there."""
        for name in sorted(self._wanted):
            if (only is None or name in only) and not _is_there(self._store.object_path(name)):
                yield self._spoilt(name, Problem.MISSING)

    def _look_closer(self, name: str, path: Path, *, inode: int) -> Spoilt | None:
        """Read an object that does not hold a second time, and tell which bytes are bad."""
        wanted = self._wanted.get(name)
        blocks = wanted.blocks if wanted is not None else ()
        try:
            with reread.opened(path) as file:
                bad, whole, is_readable = self._bad_blocks(file, blocks)
                if is_readable and whole == name:
                    # A sound object took its place; or the same file was read in two ways.
                    return self._spoilt(name, Problem.UNSTEADY) if inode == file.inode else None
                ranges = tuple(self._range(name, file, number, bad) for number in bad)
        except OSError:
            return self._spoilt(name, Problem.UNREADABLE)
        if not is_readable:
            return self._spoilt(name, Problem.UNREADABLE, ranges)
        if not bad and blocks:
            return self._spoilt(name, Problem.CONTRADICTION)
        return self._spoilt(name, Problem.CHANGED, ranges)

    def _bad_blocks(self, file: Opened, blocks: tuple[str, ...]) -> tuple[list[int], str, bool]:
        """Return the numbers of the bad blocks, the digest of the whole, and whether all of it could be read."""
        bad: list[int] = []
        whole, is_readable = hashlib.sha256(), True
        for number in range(-(-file.size // layout.BLOCK_BYTES)):
            block, first = hashlib.sha256(), number * layout.BLOCK_BYTES
            length = min(layout.BLOCK_BYTES, file.size - first)
            try:
                for chunk in file.chunks(self._buffer, first=first, length=length, pace=self._pace):
                    block.update(chunk)
                    whole.update(chunk)
            except OSError:
                is_readable = False
                bad.append(number)
                continue
            if number < len(blocks) and block.hexdigest() != blocks[number]:
                bad.append(number)
        return bad, whole.hexdigest(), is_readable

    def _range(self, name: str, file: Opened, number: int, bad: list[int]) -> Range:
        wanted = self._wanted.get(name)
        first = number * layout.BLOCK_BYTES
        last = min(first + layout.BLOCK_BYTES, file.size) - 1
        known = min(bad[0] * layout.BLOCK_BYTES, file.size)  # only bytes that were proven are read as a header
        path = wanted.uses[0].path if wanted is not None else ""
        spans = spans_of(
            path,
            length=file.size,
            known=known,
            descriptor=lambda: os.open(self._store.object_path(name), _HEADER_FLAGS),
        )
        return Range(
            first=first,
            last=last,
            tensors=tuple(tensor for tensor, start, end in spans if start <= last and first < end),
        )

    def _spoilt(self, name: str, problem: Problem, ranges: tuple[Range, ...] = ()) -> Spoilt:
        wanted = self._wanted.get(name)
        uses = tuple(wanted.uses) if wanted is not None else ()
        return Spoilt(sha256=name, problem=problem, uses=uses, ranges=ranges)


def spoilt_records(store: ContentStore, serials: Iterable[int]) -> Iterator[Spoilt]:
    """Yield what is wrong with the releases' own files: records, metadata, attestations, manifests, custody."""
    for serial in serials:
        for path in broken_files(store, serial):
            yield Spoilt(sha256="", problem=Problem.RECORD, uses=(Use(serial=serial, path=path),))


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _names(folder: Path, *, length: int) -> list[str]:
    return [name for name in names_in(folder, "objects") if len(name) == length]
