"""A release on its way: objects that are proven one by one, set in place together, then made a release by one rename.

Nothing below `objects/` or `releases/` changes before every byte of the release was proven. An interrupted receive
leaves the folder for the next one to continue; a refused one moves it to quarantine, from where a better medium of the
same release takes it up again.
"""

import contextlib
import ctypes
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from appliance.store.content import RECORD_SUM, RELEASE_FILE, ContentStore
from appliance.store.journal import Journal, is_journal_of
from appliance.store.writing import writing
from media import canonical, durable
from media.digest import sha256_hex

_CODE_CHARS: Final = 12
_STAGED: Final = "release"
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2


@dataclass(slots=True, kw_only=True)
class Incoming:
    """The folder of one release on its way."""

    store: ContentStore
    folder: Path
    objects: int
    journal: Journal

    @classmethod
    def begin(cls, store: ContentStore, *, code: str, payload_digest: str, full: bool) -> Self:
        """Continue what an interrupted, refused or incomplete receive of the same payload left, or start afresh.

        There is one folder for a payload at most: under its code, under the code of an older signing, or under the
        payload's own digest. So nothing is proven twice, and nothing stays behind when the release is in place.

        Args:
            store: The store, locked by the caller.
            code: The release code; empty while volumes are missing, since it may lie on one of them.
            payload_digest: The payload, which all volumes name.
            full: Forget what was proven before.

        Raises:
            StoreWriteError, NoSpaceError: The store cannot be written.
        """
        names = [each[:_CODE_CHARS] for each in (code, payload_digest) if each]
        folder = store.incoming / names[0]
        with writing("a new release"):
            store.prepare()
            for left in _left(store, names, payload_digest):
                if left.exists() and not folder.exists():
                    left.rename(folder)
            (folder / "objects").mkdir(parents=True, exist_ok=True, mode=0o750)
            objects = os.open(folder / "objects", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        journal = Journal.open(folder / "journal", payload_digest=payload_digest, full=full)
        return cls(store=store, folder=folder, objects=objects, journal=journal)

    def close(self) -> None:
        """Release the descriptors; the folder stays for the next receive."""
        self.journal.close()
        os.close(self.objects)

    def has_proven(self, sha256: str, length: int) -> bool:
        """Tell whether this release's own journal says that the object is durable and proven, and it is there."""
        if self.journal.complete.get(sha256) != length:
            return False
        with contextlib.suppress(OSError):
            return (self.folder / "objects" / sha256).stat().st_size == length
        return self.store.holds(sha256, length)

    def held_bytes(self, sha256: str, length: int) -> int:
        """Return how many bytes the object takes already, so that the plan of room does not count them twice."""
        if self.store.holds(sha256, length):
            return length
        for name in (sha256, f"{sha256}.part"):
            with contextlib.suppress(OSError):
                return min(length, (self.folder / "objects" / name).stat().st_blocks * 512)
        return 0

    def place_objects(self, objects: Iterable[str]) -> None:
        """Move proven objects to their places; safe to repeat after a power cut."""
        shards: set[Path] = set()
        with writing("the objects"):
            for sha256 in objects:
                staged, place = self.folder / "objects" / sha256, self.store.object_path(sha256)
                place.parent.mkdir(exist_ok=True, mode=0o755)
                with contextlib.suppress(FileNotFoundError):
                    staged.replace(place)
                    shards.add(place.parent)
            for shard in {*shards, self.store.objects}:
                durable.sync_folder(shard)

    def stage(self, small_files: Iterable[tuple[str, Iterable[bytes]]]) -> dict[str, str]:
        """Lay the release's own files (metadata, attestations, custody) into the folder that will become the release.

        Returns:
            The SHA-256 of each, as the release's record says it.

        Raises:
            StoreWriteError, NoSpaceError: The store cannot be written.
        """
        staged, digests = self.folder / _STAGED, dict[str, str]()
        with writing("the release's metadata"):
            shutil.rmtree(staged, ignore_errors=True)
            for path, pieces in small_files:
                place = staged / path
                place.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
                hasher = hashlib.sha256()
                with written_durably(place) as stream:
                    for piece in pieces:
                        hasher.update(piece)
                        stream.write(piece)
                digests[path] = hasher.hexdigest()
        return digests

    def complete(self, facts: Mapping[str, Any]) -> None:
        """Write the release's record beside its files; `publish` makes it a release."""
        staged = self.folder / _STAGED
        with writing("the release's record"):
            record = canonical.dumps(facts)
            write_durably(staged / RELEASE_FILE, record)
            write_durably(staged / RECORD_SUM, f"{sha256_hex(record)}  {RELEASE_FILE}\n".encode())
            for folder in sorted((path for path in staged.rglob("*") if path.is_dir()), reverse=True):
                durable.sync_folder(folder)
            durable.sync_folder(staged)

    def refuse(self) -> None:
        """Move everything to quarantine: nothing of it is read except by a receive of the same release."""
        refused = self.store.quarantine / self.folder.name
        with writing("the quarantine"):
            shutil.rmtree(self.folder / _STAGED, ignore_errors=True)
            shutil.rmtree(refused, ignore_errors=True)
            self.folder.rename(refused)
            durable.sync_folder(self.store.quarantine)


def _left(store: ContentStore, names: Iterable[str], payload_digest: str) -> Iterator[Path]:
    """Yield where receives of a payload may have left something: under these names first, then under any other."""
    places = (store.incoming, store.quarantine)
    yield from (place / name for name in names for place in places)
    for place in places:
        yield from (each.parent for each in sorted(place.glob("*/journal")) if is_journal_of(each, payload_digest))


def publish(store: ContentStore, *, code: str, serial: int) -> None:
    """Make a completed release visible by one rename; safe to repeat after a power cut.

    A release of the same serial that was signed again takes the place of the older signatures.

    Raises:
        StoreWriteError: The store cannot be written.
    """
    folder = store.incoming / code[:_CODE_CHARS]
    staged, place = folder / _STAGED, store.release_folder(serial)
    with writing("the release"):
        if _holds(staged, code):
            if place.exists():
                _exchange(staged, place)  # at no moment is the release absent
            else:
                staged.rename(place)
            durable.sync_folder(place.parent)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(store.quarantine / code[:_CODE_CHARS], ignore_errors=True)


def _holds(staged: Path, code: str) -> bool:
    """Tell whether the folder holds this very signing; after an exchange it holds the one before."""
    try:
        facts = canonical.loads((staged / RELEASE_FILE).read_bytes())
    except FileNotFoundError:
        return False
    return isinstance(facts, dict) and facts.get("code") == code


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders of one file system in one step (renameat2(2), RENAME_EXCHANGE)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def discard(store: ContentStore, *, code: str) -> None:
    """Forget a release on its way that the store holds already, byte for byte."""
    with writing("the store"):
        shutil.rmtree(store.incoming / code[:_CODE_CHARS], ignore_errors=True)


def write_durably(place: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with written_durably(place) as stream:
        stream.write(content)


@contextlib.contextmanager
def written_durably(place: Path) -> Iterator[BinaryIO]:
    """Give a new file to write; afterwards wait until the disk has it."""
    with place.open("wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
    place.chmod(0o444)
