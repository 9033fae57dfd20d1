"""A site's own task sets, imported inside: kept by digest, known to the ledger, never on a medium and never exported.

They may hold patient data, so their files are readable by root and the registry's group alone, and the ledger holds
their name, digest and kinds, never a task. A set counts in every validation from its import to its removal; both are
records with a person's name.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from appliance.audit.facts import EVERY, Ledger
from appliance.config import Places
from appliance.errors import StoreDamagedError, StoreWriteError, UnknownVersionError
from appliance.promote.taskset import MAX_BYTES, TaskSet
from media import durable
from media.errors import UsageError

IMPORTED: Final = "evals.imported"
REMOVED: Final = "evals.removed"
_MODE: Final = 0o640


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSet:
    """One imported set; `kinds` counts its items by kind."""

    name: str
    sha256: str
    items: int
    kinds: Mapping[str, int]
    person: str
    sequence: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "items": self.items,
            "kinds": dict(self.kinds),
            "person": self.person,
            "sequence": self.sequence,
        }


def folder(places: Places) -> Path:
    """Return where imported sets lie."""
    return places.registry / "evals"


def parsed(untrusted: bytes) -> tuple[TaskSet, dict[str, int]]:
    """Return a set and its kinds.

    Raises:
        MalformedError, LimitExceededError: As `TaskSet.from_bytes`.
    """
    tasks = TaskSet.from_bytes(untrusted)
    return tasks, dict(sorted(Counter(item.kind for item in tasks.items).items()))


def add(places: Places, ledger: Ledger, untrusted: bytes, *, person: str) -> SiteSet:
    """Keep a set and record it.

    Raises:
        MalformedError, LimitExceededError: It is no task set.
        UsageError: It is imported already, or another of that name is.
        StoreWriteError: It could not be written; nothing was recorded.
        LedgerUnavailableError: It could not be recorded; it does not count.
    """
    tasks, kinds = parsed(untrusted)
    for known in active(ledger):
        if known.sha256 == tasks.sha256 or known.name == tasks.name:
            raise UsageError(
                what=f"a task set {known.name} is imported already",
                why=f"digest {known.sha256[:12]}",
                fix="remove it first: sealift evals remove",
            )
    place = folder(places) / f"{tasks.sha256}.jsonl"
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        durable.replace(place, untrusted, mode=_MODE)
    except OSError as error:
        raise StoreWriteError(
            what="the task set could not be kept", why=error.strerror or "", fix="run it as root; check the disk"
        ) from error
    body = {"name": tasks.name, "sha256": tasks.sha256, "items": len(tasks.items), "kinds": kinds, "person": person}
    done = ledger.append(IMPORTED, body)
    return SiteSet(
        name=tasks.name,
        sha256=tasks.sha256,
        items=len(tasks.items),
        kinds=kinds,
        person=person,
        sequence=done.sequence,
    )


def remove(places: Places, ledger: Ledger, which: str, *, person: str, reason: str) -> SiteSet:
    """Take a set, by name or digest, out of all validations to come, and its file away.

    Raises:
        UnknownVersionError: No such set counts.
        LedgerUnavailableError: It could not be recorded; it still counts.
    """
    found = find(ledger, which)
    ledger.append(REMOVED, {"name": found.name, "sha256": found.sha256, "person": person, "reason": reason})
    (folder(places) / f"{found.sha256}.jsonl").unlink(missing_ok=True)
    return found


def find(ledger: Ledger, which: str) -> SiteSet:
    """Return the set that counts, by its name or six or more digits of its digest.

    Raises:
        UnknownVersionError: There is none.
    """
    for one in active(ledger):
        if one.name == which or (len(which) >= 6 and one.sha256.startswith(which)):
            return one
    raise UnknownVersionError(what=f"no task set {which[:40]!r} is imported", why="", fix="see `sealift evals list`")


def active(ledger: Ledger) -> tuple[SiteSet, ...]:
    """Return the sets that count, in the order of their import."""
    gone: dict[str, int] = {}
    for leaf in ledger.find(kind=REMOVED, limit=EVERY):
        gone.setdefault(str(leaf.body.get("sha256")), leaf.sequence)
    found = []
    for leaf in ledger.find(kind=IMPORTED, limit=EVERY, newest_first=False):
        digest = str(leaf.body.get("sha256"))
        if gone.get(digest, -1) < leaf.sequence:
            kinds = leaf.body.get("kinds")
            found.append(
                SiteSet(
                    name=str(leaf.body.get("name")),
                    sha256=digest,
                    items=int(leaf.body.get("items", 0)),
                    kinds=dict(kinds) if isinstance(kinds, Mapping) else {},
                    person=str(leaf.body.get("person", "")),
                    sequence=leaf.sequence,
                )
            )
    return tuple(found)


def content(places: Places, one: SiteSet) -> bytes:
    """Return a set's bytes, hashed again.

    Raises:
        StoreDamagedError: They are gone, or not what was imported.
    """
    try:
        with (folder(places) / f"{one.sha256}.jsonl").open("rb") as file:
            found = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _damaged(one, error.strerror or "") from error
    if sha256(found).hexdigest() != one.sha256:
        raise _damaged(one, "its bytes have another digest")
    return found


def _damaged(one: SiteSet, why: str) -> StoreDamagedError:
    return StoreDamagedError(
        what=f"the task set {one.name} cannot be read as it was imported",
        why=why,
        fix="remove it and import it again: sealift evals",
    )
