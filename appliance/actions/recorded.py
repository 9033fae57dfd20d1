"""What this box has recorded so far: in the ledger, and in the spool that waits for it.

For questions whose answer may not be "nothing" only because the ledger does not run: facts that still wait count too,
and a ledger that is out of reach is not one that never was.
"""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from appliance.audit import storage
from appliance.audit.facts import EVERY, Ledger
from appliance.audit.leaf import Leaf
from appliance.audit.spool import Spool
from appliance.config import Places
from appliance.errors import LedgerUnavailableError
from media import canonical
from media.digest import sha256_hex
from media.errors import MediaError

RECEIVED: Final = "release.received"
REFUSED: Final = "release.refused"
PARTLY_RECEIVED: Final = "release.partly-received"
REVERIFIED: Final = "release.reverified"
ROTATED: Final = "trust.root-rotated"
NOTED: Final = "trust.note-accepted"
_FACT_BYTES: Final = 2 * 2**20


def ledger_may_exist(places: Places) -> bool:
    """Tell whether there is a ledger, or whatever hides there from this process might be one."""
    try:
        storage.trace(places).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def bodies(places: Places, ledger: Ledger, kind: str) -> list[Mapping[str, Any]]:
    """Return all bodies of a kind in the order of their recording; those that still wait come last.

    Raises:
        LedgerUnavailableError: The ledger, or the spool, is there and does not answer.
    """
    found: list[Mapping[str, Any]] = []
    try:
        found += [leaf.body for leaf in ledger.find(kind=kind, limit=EVERY, newest_first=False)]
    except LedgerUnavailableError:
        if ledger_may_exist(places):
            raise
    return found + waiting(places, kind)


def is_recorded(places: Places, ledger: Ledger, kind: str, *, field: str, value: str | int) -> bool:
    """Tell whether a fact is known; a ledger that does not answer knows nothing."""
    with suppress(LedgerUnavailableError):
        if ledger.find(kind=kind, field=field, value=value, limit=1):
            return True
    return any(body.get(field) == value for body in waiting(places, kind))


def waiting(places: Places, kind: str) -> list[Mapping[str, Any]]:
    """Return the bodies of the facts of a kind that the ledger has not taken yet; what does not read is no fact.

    Raises:
        LedgerUnavailableError: The spool cannot be read.
    """
    facts = [_fact(path) for path in Spool(places.spool).pending()]
    return [fact["body"] for fact in facts if fact.get("kind") == kind and isinstance(fact.get("body"), dict)]


def file_of(leaf: Leaf, path: Path, *, max_bytes: int) -> bytes | None:
    """Return a file that a record names under `files`, by its ending, if it still is as recorded; else None."""
    files = leaf.body.get("files")
    wanted = files.get(path.suffix.removeprefix(".")) if isinstance(files, Mapping) else None
    try:
        content = path.read_bytes() if path.is_file() and path.stat().st_size <= max_bytes else b""
    except OSError:
        return None
    return content if content and sha256_hex(content) == wanted else None


def _fact(path: Path) -> dict[str, Any]:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            is_file = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
            untrusted = stream.read(_FACT_BYTES + 1) if is_file else b""
        return canonical.mapping(canonical.loads(untrusted, max_bytes=_FACT_BYTES, allow_floats=True), "A waiting fact")
    except (OSError, MediaError):
        return {}
