"""Where received bytes lie and how they are found again.

    objects/sha256/ab/HEX            0444; the name is the SHA-256 of the content, proven when it was stored
    releases/SERIAL/release.json     what the release is; beside it its sum, metadata/, attest/, check/, volumes/N/,
                                     custody/N/
    incoming/CODE12/                 a release on its way; never read by anything but receiving
    quarantine/CODE12/               what a refused release left behind

A `StoredRelease` exists only after every byte was hashed, is in place, and the fact was recorded.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from appliance.errors import StoreBusyError, StoreDamagedError, UnknownReleaseError
from appliance.store.writing import writing
from media import canonical, layout
from media.digest import file_sha256, sha256_hex
from media.errors import MediaError

FORMAT: Final = 1
RELEASE_FILE: Final = "release.json"
RECORD_SUM: Final = "release.json.sha256"
"""Beside the record, as `sha256sum -c` reads it; a release that an older program stored has none."""
_SMALL_BYTES: Final = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file of a release as its signed metadata names it."""

    path: str
    kind: str
    length: int
    sha256: str


_MOMENT: Final = 0.5  # seconds


class ContentStore:
    """The store below one folder. Reading needs no lock; receiving holds it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def incoming(self) -> Path:
        """Releases on their way."""
        return self.root / "incoming"

    @property
    def quarantine(self) -> Path:
        """What refused releases left behind."""
        return self.root / "quarantine"

    @property
    def objects(self) -> Path:
        """Content by digest."""
        return self.root / "objects/sha256"

    def prepare(self) -> None:
        """Create the folders that are missing."""
        for folder in (self.objects, self.root / "releases", self.incoming, self.quarantine):
            folder.mkdir(parents=True, exist_ok=True, mode=0o755)

    def object_path(self, sha256: str) -> Path:
        """Return where the content with this digest lies, or would lie."""
        return self.objects / sha256[:2] / sha256

    def release_folder(self, serial: int) -> Path:
        """Return where the release with this serial lies, or would lie."""
        return self.root / "releases" / str(serial)

    def holds(self, sha256: str, length: int) -> bool:
        """Tell whether an object of that name and length is there; its content is not looked at."""
        try:
            facts = self.object_path(sha256).lstat()
        except OSError:
            return False
        return facts.st_size == length

    def serials(self) -> tuple[int, ...]:
        """Return the serials that have a folder here, oldest first, whether their records read or not.

        Raises:
            StoreDamagedError: The disk does not give the names back.
        """
        names = names_in(self.root / "releases", "releases")
        return tuple(sorted(int(name) for name in names if name.isascii() and name.isdigit()))

    def releases(self) -> tuple["StoredRelease", ...]:
        """Return the stored releases whose records read, oldest serial first.

        A damaged record stops nothing but its own release; `serials` still names it.
        """
        found = []
        for serial in self.serials():
            with suppress(StoreDamagedError, UnknownReleaseError):
                found.append(StoredRelease.load(self, serial))
        return tuple(found)

    def release(self, serial: int | None = None) -> "StoredRelease":
        """Return the stored release of a serial; the newest where none is named.

        Raises:
            UnknownReleaseError: There is none.
            StoreDamagedError: The record of the one that is named does not read.
        """
        if serial is not None:
            return StoredRelease.load(self, serial)
        held = self.releases()
        if not held:
            raise UnknownReleaseError(
                what="the store holds no release", why="nothing was received here", fix="run `sealift receive MEDIUM`"
            )
        return held[-1]

    @contextmanager
    def locked(self, *, descriptor: int | None = None) -> Iterator[int]:
        """Hold the store against any other receive; yields the descriptor that a child may inherit.

        Args:
            descriptor: The inherited descriptor of a parent that holds the lock already.

        Raises:
            StoreBusyError: Someone else holds it.
            StoreWriteError: The store cannot be written at all.
        """
        if descriptor is not None:
            yield descriptor
            return
        with writing("the store"):
            self.prepare()
            handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            _lock(handle)
            yield handle
        finally:
            os.close(handle)


def _lock(handle: int) -> None:
    """Take the lock, within the moment that a killed copier's last child may still have its descriptor.

    Raises:
        StoreBusyError: Someone else holds it.
    """
    until = time.monotonic() + _MOMENT
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() < until:
                time.sleep(0.02)
                continue
            raise StoreBusyError(
                what="another receive is running",
                why="the store is locked",
                fix="wait until it ends; `sealift status` shows it",
            ) from error
        return


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRelease:
    """A release whose every byte was hashed and is in place."""

    store: ContentStore
    serial: int
    release: str
    code: str
    payload_digest: str
    files: Mapping[str, StoredFile]
    facts: Mapping[str, Any]

    @classmethod
    def load(cls, store: ContentStore, serial: int) -> Self:
        """Read what the store says about a serial.

        Raises:
            UnknownReleaseError: The store holds no such release.
            StoreDamagedError: Its record is not readable as one.
        """
        try:
            untrusted = (store.release_folder(serial) / RELEASE_FILE).read_bytes()
        except FileNotFoundError as error:
            raise UnknownReleaseError(
                what=f"the store holds no release with serial {serial}",
                why="it was never received here, or was removed",
                fix="`sealift status` lists the stored releases",
            ) from error
        except PermissionError:
            raise
        except OSError as error:
            raise _unreadable(serial, error.strerror or type(error).__name__) from error
        try:
            facts = canonical.loads(untrusted)
            files = {
                path: StoredFile(path=path, kind=item["kind"], length=item["length"], sha256=item["sha256"])
                for path, item in facts["files"].items()
            }
            return cls(
                store=store,
                serial=facts["serial"],
                release=facts["release"],
                code=facts["code"],
                payload_digest=facts["payload_digest"],
                files=files,
                facts=facts,
            )
        except (MediaError, KeyError, TypeError, AttributeError) as error:
            raise _unreadable(serial, type(error).__name__) from error

    @property
    def folder(self) -> Path:
        """Where the release's metadata/, attest/, check/, volumes/ and custody/ lie."""
        return self.store.release_folder(self.serial)

    def path_of(self, target: str) -> Path:
        """Return the object that holds a target, e.g. ``data/models/NAME/NAME.gguf``.

        Raises:
            UnknownReleaseError: The release has no such file.
        """
        return self.store.object_path(self._file(target).sha256)

    def read(self, target: str, *, max_bytes: int = _SMALL_BYTES) -> bytes:
        """Return a small target's bytes, hashed again while reading.

        Raises:
            UnknownReleaseError: The release has no such file.
            StoreDamagedError: The object is gone, too large or not what was signed.
        """
        file = self._file(target)
        try:
            content = self.path_of(target).read_bytes() if file.length <= max_bytes else b""
        except OSError as error:
            raise _damaged(target, file.sha256, error.strerror or "") from error
        if sha256_hex(content) != file.sha256:
            raise _damaged(target, file.sha256, "its content does not hash to its name")
        return content

    def contents(self) -> Mapping[str, Any]:
        """Return ``data/release.json``: the models, environments and packages that the release brings.

        Raises:
            StoreDamagedError: It is gone or not what was signed.
            UnknownReleaseError: The release has none.
        """
        facts = canonical.loads(self.read(layout.RELEASE_FACTS))
        if not isinstance(facts, dict):
            raise _damaged(layout.RELEASE_FACTS, self._file(layout.RELEASE_FACTS).sha256, "it is no object")
        return facts

    def verify(self, target: str, *, tell: Callable[[int], None] | None = None) -> Path:
        """Hash a target's object again and return its path.

        Args:
            target: The file's path in the release.
            tell: Told now and then how many of its bytes were read.

        Raises:
            UnknownReleaseError: The release has no such file.
            StoreDamagedError: The object is gone or not what was signed.
        """
        file, path = self._file(target), self.path_of(target)
        try:
            found = file_sha256(path, tell=tell)
        except OSError as error:
            raise _damaged(target, file.sha256, error.strerror or "") from error
        if found != file.sha256:
            raise _damaged(target, file.sha256, f"found {found[:12]}")
        return path

    def export_tree(self, destination: Path, *, below: str = f"{layout.DATA}/") -> list[Path]:
        """Lay the files whose names begin with `below` under their own names below `destination`.

        Files are hard links to the store's read-only objects where the file system allows it, else copies. Each is
        hashed again first, because what is laid out is about to be used.

        Raises:
            StoreDamagedError: An object is not what was signed.
        """
        laid = []
        for target in sorted(self.files):
            if target.startswith(below):
                place = destination / target
                place.parent.mkdir(parents=True, exist_ok=True)
                place.unlink(missing_ok=True)
                _lay(self.verify(target), place)
                laid.append(place)
        return laid

    def _file(self, target: str) -> StoredFile:
        try:
            return self.files[target]
        except KeyError:
            raise UnknownReleaseError(
                what=f"release {self.release} has no file {target}",
                why="its signed metadata does not name it",
                fix="`sealift status` shows what the release holds",
            ) from None


def names_in(folder: Path, held: str) -> list[str]:
    """Return the names in a folder of the store, of one that is not there none.

    Args:
        folder: Which.
        held: What it holds, for people.

    Raises:
        StoreDamagedError: The disk does not give them back.
        PermissionError: This user may not read it.
    """
    try:
        return [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []
    except PermissionError:
        raise
    except OSError as error:
        raise StoreDamagedError(
            what=f"the store's list of {held} cannot be read", why=error.strerror or "", fix="look at the disk"
        ) from error


def _lay(source: Path, place: Path) -> None:
    try:
        os.link(source, place)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, place)
        place.chmod(0o444)


def _damaged(target: str, sha256: str, why: str) -> StoreDamagedError:
    return StoreDamagedError(
        what=f"{target} in the store is damaged (sha256 {sha256[:12]})",
        why=why,
        fix="check the disk, then receive the release again from its medium",
    )


def _unreadable(serial: int, why: str) -> StoreDamagedError:
    return StoreDamagedError(
        what=f"the record of the stored release {serial} is damaged",
        why=why,
        fix="receive the release again from its medium",
    )
