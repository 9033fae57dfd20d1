"""What of the store nothing needs any more: objects that only deleted versions named, or no stored release at all.

Rules:
    GC-1 An object is needed while any stored release names it for anything but a deleted version.
    GC-2 Objects of releases on their way, or refused and kept for a better medium, are needed: by their journals.
    GC-3 Where a release's record or a journal does not read, nothing is garbage: what it needs cannot be told.
    GC-4 The store is locked meanwhile, so no receive runs; each object goes by one unlink, after it was recorded.
Descriptors, licences, provenance and attestations of a deleted version stay: they prove where its answers came from.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.errors import StoreDamagedError
from appliance.store.content import ContentStore, StoredRelease
from appliance.store.writing import writing
from media import canonical, durable
from media.errors import MediaError

_NAME_CHARS: Final = 64
_MOST_JOURNAL_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """One object that nothing needs.

    Attributes:
        sha256: Its name.
        bytes: Its length.
        versions: The deleted versions that named it; none where no stored release did.
        path: A file that it was, for people; empty where none is known.
    """

    sha256: str
    bytes: int
    versions: tuple[str, ...] = ()
    path: str = ""

    @property
    def why(self) -> str:
        """Why nothing needs it."""
        named = ", ".join(one[:12] for one in self.versions)
        return f"only deleted versions named it: {named}" if named else "no stored release names it"

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers and the record."""
        return {"object": self.sha256, "bytes": self.bytes, "versions": list(self.versions), "path": self.path}


def garbage(store: ContentStore, deleted: Collection[str]) -> tuple[Garbage, ...]:
    """Return what nothing needs, by name.

    Args:
        store: The store, locked by a caller who is going to remove.
        deleted: Digests of the versions that are deleted now.

    Raises:
        StoreDamagedError: A release's record, one of its descriptors or a journal does not read (GC-3).
    """
    needed: set[str] = set()
    doomed: dict[str, tuple[set[str], str]] = {}
    for serial in store.serials():
        stored = StoredRelease.load(store, serial)
        own = _files_of_deleted(stored, deleted)
        for path, file in stored.files.items():
            if path not in own:
                needed.add(file.sha256)
                continue
            versions, _ = doomed.setdefault(file.sha256, (set(), path))
            versions.add(own[path])
    needed |= _on_their_way(store)
    return tuple(
        Garbage(
            sha256=name,
            bytes=length,
            versions=tuple(sorted(doomed[name][0])) if name in doomed else (),
            path=doomed[name][1] if name in doomed else "",
        )
        for name, length in _objects(store)
        if name not in needed
    )


def excused(store: ContentStore, deleted: Collection[str]) -> frozenset[str]:
    """Return the objects that may be missing because only deleted versions named them; none where it cannot be told."""
    needed: set[str] = set()
    doomed: set[str] = set()
    try:
        for stored in store.releases():
            own = _files_of_deleted(stored, deleted)
            for path, file in stored.files.items():
                (doomed if path in own else needed).add(file.sha256)
    except StoreDamagedError:
        return frozenset()
    return frozenset(doomed - needed)


def remove(store: ContentStore, found: Collection[Garbage]) -> None:
    """Unlink objects; the caller holds the lock and has recorded them.

    Raises:
        StoreWriteError: The store cannot be written; what is left is found again.
    """
    with writing("the store"):
        for shard in sorted({one.sha256[:2] for one in found}):
            for one in found:
                if one.sha256[:2] == shard:
                    store.object_path(one.sha256).unlink(missing_ok=True)
            durable.sync_folder(store.objects / shard)


def _files_of_deleted(stored: StoredRelease, deleted: Collection[str]) -> dict[str, str]:
    """Return the paths that a release has only for deleted versions, with the version's digest.

    Raises:
        StoreDamagedError: What the release brings does not read.
    """
    own: dict[str, str] = {}
    others: set[str] = set()
    try:
        for untrusted in canonical.array(stored.contents().get("models", []), "release.json.models"):
            path = canonical.text(canonical.mapping(untrusted, "release.json.models").get("descriptor"), "descriptor")
            raw = stored.read(path)
            digest = stored.files[path].sha256
            files = canonical.array(canonical.mapping(canonical.loads(raw), "descriptor").get("files"), "files")
            paths = [canonical.text(canonical.mapping(one, "file").get("path"), "path") for one in files]
            if digest in deleted:
                own.update(dict.fromkeys(paths, digest))
            else:
                others.update(paths)
    except (MediaError, KeyError) as error:
        raise _unreadable(f"release {stored.serial}", type(error).__name__) from error
    return {path: digest for path, digest in own.items() if path not in others}


def _on_their_way(store: ContentStore) -> set[str]:
    found: set[str] = set()
    for place in (store.incoming, store.quarantine):
        journals = sorted(place.glob("*/journal")) if place.is_dir() else []
        for journal in journals:
            found |= _named_in(journal)
    return found


def _named_in(journal: Path) -> set[str]:
    try:
        with journal.open("rb") as file:
            lines = file.read(_MOST_JOURNAL_BYTES + 1).split(b"\n")
    except OSError as error:
        raise _unreadable("a journal", error.strerror or "") from error
    found = set()
    for line in lines[1:]:
        with suppress(MediaError):  # a torn last line speaks of nothing
            name = canonical.mapping(canonical.loads(line), "journal").get("object")
            if isinstance(name, str):
                found.add(name)
    return found


def _objects(store: ContentStore) -> Iterator[tuple[str, int]]:
    with suppress(FileNotFoundError):
        for shard in sorted(entry.name for entry in os.scandir(store.objects) if len(entry.name) == 2):
            for entry in sorted(os.scandir(store.objects / shard), key=lambda each: each.name):
                if len(entry.name) == _NAME_CHARS and entry.is_file(follow_symlinks=False):
                    yield entry.name, entry.stat(follow_symlinks=False).st_size


def _unreadable(what: str, why: str) -> StoreDamagedError:
    return StoreDamagedError(
        what=f"nothing is removed from the store: {what} does not read",
        why=why or "what it needs cannot be told",
        fix="receive that release again from its medium, or finish or discard its receive",
    )
