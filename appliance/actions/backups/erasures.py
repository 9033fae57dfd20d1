"""Erasures outlive backups: which keys were destroyed lies beside the backups too, so that an older one restores none.

A key is named by a digest of its material, because a new one may get the name of the old. ``erasures.json``, format 1,
only grows. It is not signed: the worst that a forged entry does is to withhold a key, which a restore shows to the
people who do it. What a restore withholds, the first record of its epoch names: the records of the destruction may be
among those that were lost.
"""

import itertools
import json
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from appliance.actions.backups import shelf
from appliance.audit import epochs, salvage
from appliance.audit.facts import EVERY, Ledger
from appliance.audit.leaf import Leaf
from appliance.config import Config
from appliance.errors import BackupDamagedError
from media import canonical, durable
from media.digest import sha256_hex
from media.errors import MediaError, SealiftError, UsageError

FORMAT: Final = 1
FILE_NAME: Final = "erasures.json"
DESTROYED: Final = "key.destroyed"
_TELLING: Final = (DESTROYED, epochs.RESTORED)
_MOST: Final = 10_000
_BYTES: Final = 4 * 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_WORD = re.compile(r"[0-9a-z]{16,}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]+", re.ASCII)
_SURELY: Final = 48
"""So long a word is no other than a digest, also with a letter in it that no digest has."""
_HASHES = re.compile(r"\b(?:leaf hash|leaves, root) +[0-9a-z]+", re.ASCII)
"""What `sealift audit show` prints below a body."""
_RECORD = re.compile(r"^ *[0-9]+ +[0-9]{4}-[0-9]{2}-[0-9]{2}T\S+ +(\S+)", re.ASCII | re.MULTILINE)
"""The line that it prints above."""
_LISTS: Final = ("digests", "keys")


def digest(material: bytes) -> str:
    """Return what names a key of 32 random bytes; nobody finds the key by it."""
    return sha256_hex(b"sealift/key/" + material)


def recorded(ledger: Ledger) -> frozenset[str]:
    """Return the digests of the keys whose destruction was recorded, and of those that a restore withheld."""
    return _told(leaf for kind in _TELLING for leaf in ledger.find(kind=kind, limit=EVERY))[0]


def salvaged(folder: Path) -> tuple[frozenset[str], bool]:
    """Return what `recorded` would, of a ledger's folder in which rows may be damaged, and whether all was read."""
    leaves, is_whole = salvage.salvaged(folder, _TELLING)
    digests, is_plain = _told(leaves)
    return digests, is_whole and is_plain


def _told(leaves: Iterable[Leaf]) -> tuple[frozenset[str], bool]:
    """Return the digests in records, and whether every record has them in their form."""
    found: set[str] = set()
    is_plain = True
    for leaf in leaves:
        # Of a ledger that somebody wrote to past its service a body may be anything.
        body: Any = leaf.body
        untrusted = body.get("digests", []) if isinstance(body, dict) else None
        names = list(_names(untrusted))
        is_plain &= isinstance(untrusted, list) and len(names) == len(untrusted)
        found.update(names)
    return frozenset(found), is_plain


def named(untrusted: bytes) -> frozenset[str]:
    """Return the digests in a text that people bring: a record of destruction, printed or typed, or a copy of the list.

    Of JSON, which a printed record has in it, what is listed as `digests` or `keys` counts, of any other text each word
    that is a digest but the hashes of a record and its tree.

    Raises:
        UsageError: There is none, or one that is not whole: what it names could come back. Or a record is another one.
    """
    if len(untrusted) > _BYTES:
        raise _not_named(f"it has {len(untrusted)} bytes, and the limit is {_BYTES}")
    found: list[str] = []
    text, begun = untrusted.decode(errors="replace"), 0
    while (at := text.find("{", begun)) >= 0:
        before = text[begun:at]
        told, begun = _from(text, at)
        for kind in _RECORD.findall(before)[-1:]:  # a printed body's record has its kind in the line above
            if kind != DESTROYED:
                raise _other(kind)
        found += [*_words(before), *_listed(told)]
    found += _words(text[begun:])
    broken = [word for word in found if not _DIGEST.fullmatch(word)]
    if broken or not found:
        raise _not_named(f"{broken[0][:64]!r} has {len(broken[0])} characters" if broken else "none was found")
    return frozenset(found)


def _from(text: str, at: int) -> tuple[Any, int]:
    """Return the JSON that begins at a place in a text, and where it ends.

    Raises:
        UsageError: None does.
    """
    try:
        _, end = json.JSONDecoder().raw_decode(text, at)
        return canonical.loads(text[at:end].encode(), max_bytes=_BYTES, allow_floats=True), end
    except (ValueError, RecursionError) as error:
        raise _not_named("what stands in braces is not whole") from error
    except MediaError as error:
        raise _not_named(error.why) from error


def _words(untrusted: str) -> Iterable[str]:
    """Yield the words that are digests, or seem to be part of one."""
    for word in _WORD.findall(_HASHES.sub(" ", untrusted.lower())):
        if len(word) >= _SURELY or _HEX.fullmatch(word):
            yield word


def _listed(untrusted: Any) -> Iterable[str]:
    """Yield what JSON lists.

    Raises:
        UsageError: It is a record of another kind.
    """
    if isinstance(untrusted, dict):
        kind = untrusted.get("kind", DESTROYED)
        if "body" in untrusted and kind != DESTROYED:
            raise _other(str(kind))
        for name, value in untrusted.items():
            if name in _LISTS and isinstance(value, list):
                yield from map(str, value)
            else:
                yield from _listed(value)
    elif isinstance(untrusted, list):
        for each in untrusted:
            yield from _listed(each)


def noted(folder: Path) -> frozenset[str]:
    """Return the digests that the list beside the backups names; none where there is no list.

    Raises:
        BackupDamagedError: There is one and it does not read: what was erased could come back. So, too, where it is a
            link, a pipe or another thing than a file: the folder is another account's, and its disk is from outside.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(folder / FILE_NAME, flags), "rb") as stream:
            is_plain = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
            untrusted = stream.read(_BYTES + 1) if is_plain else b""
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise _unreadable(error.strerror or "") from error
    if not is_plain:
        raise _unreadable("it is a folder, a pipe or a device")
    try:
        fields = canonical.exact_keys(
            canonical.loads_canonical(untrusted, max_bytes=_BYTES), ("format", "keys"), (), "the list of erasures"
        )
        canonical.integer(fields["format"], "the list of erasures", minimum=FORMAT, maximum=FORMAT)
        return frozenset(_names(canonical.array(fields["keys"], "the list of erasures", most=_MOST)))
    except MediaError as error:
        raise _unreadable(error.why) from error


def note(folder: Path, ledger: Ledger) -> None:
    """Add what the ledger says to the list beside the backups. One that does not read is kept aside under another name.

    Raises:
        OSError: It cannot be written.
        LedgerUnavailableError: There is no ledger to ask.
    """
    try:
        before = noted(folder)
    except BackupDamagedError:  # people may still read in it what no ledger here knows
        (folder / FILE_NAME).rename(_free(folder))
        before = frozenset()
    now = before | recorded(ledger)
    if now != before:
        # Root and the unit of backups both write it, and the other one has to read what is there.
        durable.replace(folder / FILE_NAME, canonical.dumps({"format": FORMAT, "keys": sorted(now)}), mode=0o644)


def note_now(config: Config, ledger: Ledger) -> str:
    """Add what the ledger says to the list at once; return in words why it has to wait for the next backup, or nothing.

    What was destroyed is destroyed, whatever becomes of the list. Nothing is waited for: a backup that is being made
    adds it as well.
    """
    if not config.backup.folder:
        return ""
    try:
        folder = shelf.require_folder(config)
        with shelf.alone(folder):
            note(folder, ledger)
    except OSError as error:
        why = error.strerror or type(error).__name__
    except SealiftError as error:
        why = error.what
    else:
        return ""
    return f"{FILE_NAME} beside the backups gets it with the next backup on each disk ({why})"


def _free(folder: Path) -> Path:
    """Return a name beside the list under which nothing lies."""
    names = (folder / f"{FILE_NAME}.unreadable-{number}" for number in itertools.count(1))
    return next(name for name in names if not (name.exists() or name.is_symlink()))


def _names(untrusted: Any) -> Iterable[str]:
    return (
        name
        for name in (untrusted if isinstance(untrusted, list | tuple) else ())
        if isinstance(name, str) and _DIGEST.fullmatch(name)
    )


def _not_named(why: str) -> UsageError:
    return UsageError(
        what="the text names no erased keys that could be withheld",
        why=f"{why}; a digest has 64 digits of 0-9 and a-f",
        fix=f"bring a record in full, of `sealift audit show NUMBER` or `sealift --json audit list --kind {DESTROYED}`,"
        f" or a copy of {FILE_NAME}; without --json a list shows no digests",
    )


def _other(kind: str) -> UsageError:
    return UsageError(
        what="the record that was brought is not of a destruction",
        why=f"{kind[:100]!a}, not {DESTROYED}",
        fix=f"find its number by `sealift audit list --kind {DESTROYED}`, then `sealift audit show NUMBER`",
    )


def _unreadable(why: str) -> BackupDamagedError:
    return BackupDamagedError(
        what="the list of erasures beside the backups does not read",
        why=why,
        fix="bring the copy of it from another disk with backups",
    )
