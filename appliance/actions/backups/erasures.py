"""Erasures outlive backups: which keys were destroyed lies beside the backups too, so that an older one restores none.

A key is named by a digest of its material, because a new one may get the name of the old. ``erasures.json``, format 1,
only grows. It is not signed: the worst that a forged entry does is to withhold a key, which a restore shows to the
people who do it.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from appliance.audit.facts import EVERY, Ledger
from appliance.errors import BackupDamagedError
from media import canonical, durable
from media.digest import sha256_hex
from media.errors import MediaError

FORMAT: Final = 1
FILE_NAME: Final = "erasures.json"
DESTROYED: Final = "key.destroyed"
_MOST: Final = 10_000
_BYTES: Final = 4 * 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


def digest(material: bytes) -> str:
    """Return what names a key of 32 random bytes; nobody finds the key by it."""
    return sha256_hex(b"sealift/key/" + material)


def recorded(ledger: Ledger) -> frozenset[str]:
    """Return the digests of the keys whose destruction was recorded."""
    leaves = ledger.find(kind=DESTROYED, limit=EVERY)
    return frozenset(name for leaf in leaves for name in _names(leaf.body.get("digests")))


def noted(folder: Path) -> frozenset[str]:
    """Return the digests that the list beside the backups names; none where there is no list.

    Raises:
        BackupDamagedError: There is one and it does not read: what was erased could come back.
    """
    try:
        with (folder / FILE_NAME).open("rb") as stream:
            untrusted = stream.read(_BYTES + 1)
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise _unreadable(error.strerror or "") from error
    try:
        fields = canonical.exact_keys(
            canonical.loads_canonical(untrusted, max_bytes=_BYTES), ("format", "keys"), (), "the list of erasures"
        )
        canonical.integer(fields["format"], "the list of erasures", minimum=FORMAT, maximum=FORMAT)
        return frozenset(_names(canonical.array(fields["keys"], "the list of erasures", most=_MOST)))
    except MediaError as error:
        raise _unreadable(error.why) from error


def note(folder: Path, ledger: Ledger) -> None:
    """Add what the ledger says to the list beside the backups.

    Raises:
        OSError: It cannot be written.
    """
    before: frozenset[str] = frozenset()
    with suppress(BackupDamagedError):
        before = noted(folder)
    now = before | recorded(ledger)
    if now != before:
        durable.replace(folder / FILE_NAME, canonical.dumps({"format": FORMAT, "keys": sorted(now)}), mode=0o640)


def _names(untrusted: Any) -> Iterable[str]:
    return (
        name
        for name in (untrusted if isinstance(untrusted, list | tuple) else ())
        if isinstance(name, str) and _DIGEST.fullmatch(name)
    )


def _unreadable(why: str) -> BackupDamagedError:
    return BackupDamagedError(
        what="the list of erasures beside the backups does not read",
        why=why,
        fix="bring the copy of it from another disk with backups",
    )
