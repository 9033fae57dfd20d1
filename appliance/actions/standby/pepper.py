"""The secret under which API keys are hashed: the one secret that two boxes of a site share, so that keys work on both.

It goes sealed for the other box alone, with all its versions, each under its number: a key names the version that it
was made under. A standby takes those of the first box in place of its own, unless a key was made there under one of
them, which would end. The first box takes only versions that it lacks, as after a renewal while the standby served.

Sealed are the 32 bytes where version 1 is the only one, as releases of before read it (one of before seals its newest
so, whatever its number); else of each version four bytes of its number, the high one first, and its 32 bytes, the
lowest number first.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from appliance.actions.backups import erasures
from appliance.actions.pinned import plain_bytes
from appliance.audit.facts import EVERY, Ledger
from appliance.config import Config
from appliance.errors import CiphertextError, ConflictError, KeyMissingError, StoreWriteError
from appliance.keys.opening import folder_of, open_keys
from appliance.keys.provider import SECRET_BYTES, KeyProvider
from appliance.stages import is_tried
from appliance.standby import bundle, carried, mirror, sealed
from appliance.standby.pairing import Paired, Relation, require_paired
from media import durable
from media.digest import same, sha256_hex
from media.errors import MissingFileError

ADOPTED: Final = "standby.pepper-adopted"
PEPPER: Final = "api-key-pepper"
KEPT: Final = "kept"
TAKEN: Final = "adopted"
WAITS: Final = "waits"
REFUSED: Final = "refused"
WAITING: Final = "api-key-pepper.sealed"
"""Beside the mirror of the box that sealed it: what could not be taken yet, since this process may write no key."""
UNNUMBERED: Final = 0
_CREATED: Final = "key.created"
_NUMBER_BYTES: Final = 4
_EACH: Final = _NUMBER_BYTES + SECRET_BYTES
_MOST: Final = 64
_MOST_SEALED: Final = 4096


def sealed_for(config: Config, pair: Paired, keys: KeyProvider) -> bytes:
    """Return the pepper's versions sealed for the paired box; nothing where a token has them, which they never leave.

    Raises:
        KeyMissingError: There is none, or this process may not read it.
    """
    if config.keys.provider == "token":
        return b""
    here = {version: keys.get(PEPPER, version=version).bytes for version in keys.versions(PEPPER)[-_MOST:]}
    if not here:
        keys.get(PEPPER)
    return sealed.seal(_packed(here), pair.peer.sealing, bundle.context(pair))


def adopt(config: Config, untrusted: bytes, pair: Paired, *, ledger: Ledger, again: bool = False) -> str:
    """Use the other box's versions of the pepper from now on.

    What was sealed is kept until `told` was called, since units go by what they were started with: until then
    `adopt_waiting` answers as if it had come again.

    Args:
        config: The site file.
        untrusted: What the other box sealed.
        pair: With that box.
        ledger: Where it is recorded.
        again: It came before, and was not taken to its end.

    Returns:
        `KEPT` where nothing is news, `TAKEN` where units are to be told, `WAITS` where this process may write no key.

    Raises:
        CiphertextError: It does not open, or holds no keys.
        ConflictError: An API key was made here under another secret of one number, or this box keeps its on a token,
            or the other box is of a release that sends no numbers.
        KeyMissingError: This process may not read keys.
        LedgerUnavailableError: It could not be recorded; nothing was changed.
        StoreWriteError: It has to wait and could not be kept.
    """
    if config.keys.provider == "token" and pair.is_first:
        return KEPT
    if config.keys.provider == "token":
        raise ConflictError(
            what="the other box's secret of API keys cannot be taken",
            why="this box keeps its keys on a token, and no key made outside is used there",
            fix="give both boxes the same kind of keys: docs/operator/keys.md, PKCS#11",
        )
    found = _unpacked(sealed.unseal(untrusted, folder_of(config), bundle.context(pair)))
    news, waiting = _news(config, found, pair, ledger, again=again), _waiting(config, pair)
    if not news and not waiting.exists():
        return KEPT
    _keep(waiting, untrusted)
    newest = config.at.key_files / f"{PEPPER}.v{open_keys(config).newest(PEPPER)}"
    try:
        # Before it is recorded: the unit that keeps a standby current sees no key file.
        owner = newest.stat()
    except OSError:
        return WAITS
    if not news:
        return TAKEN
    ledger.append(ADOPTED, {"peer": pair.peer.name, "origin": pair.peer.origin, "versions": sorted(news)})
    try:
        for version, secret in sorted(news.items()):
            _place(config.at.key_files / f"{PEPPER}.v{version}", secret, owner)
    except OSError as error:
        raise KeyMissingError(
            what="the secret of API keys cannot be written",
            why=error.strerror or "",
            fix=f"mend it, then run `sealift standby take {pair.peer.name}` as root",
        ) from error
    return TAKEN


def told(config: Config, peer: str) -> None:
    """Note that the units which use the secret were told of what was taken.

    Raises:
        PairingRefusedError: The box is not paired.
    """
    with suppress(OSError):  # then they are told again
        _waiting(config, require_paired(config.at, peer)).unlink(missing_ok=True)


def adopt_waiting(config: Config, peer: str, *, ledger: Ledger) -> str:
    """Take what waits of a paired box's secret; `KEPT` where nothing does.

    Raises:
        As `adopt`.
        PairingRefusedError: The box is not paired.
    """
    pair = require_paired(config.at, peer)
    if pair.relation is not Relation.STANDBY:
        return KEPT
    try:
        untrusted = plain_bytes(_waiting(config, pair), "what the other box sealed", limit=_MOST_SEALED)
    except MissingFileError:
        return KEPT
    try:
        return adopt(config, untrusted, pair, ledger=ledger, again=True)
    except CiphertextError:  # of a pairing that ended: the next bundle brings it anew
        told(config, peer)
        return KEPT


def waits(peer: str) -> KeyMissingError:
    """Return what is said while something waits."""
    return KeyMissingError(
        what=f"the newer secret of API keys of {peer} is not in use here",
        why="this process may write no key",
        fix=f"run `sealift standby take {peer}` once as root, by hand",
    )


def _news(config: Config, found: Mapping[int, bytes], pair: Paired, ledger: Ledger, *, again: bool) -> dict[int, bytes]:
    """Return which versions this box takes.

    Raises:
        ConflictError: A key was made here under another secret with the number of one of them.
    """
    if UNNUMBERED in found and pair.is_first:
        return {}
    own = open_keys(config)
    here = {version: own.get(PEPPER, version=version).bytes for version in own.versions(PEPPER)}
    if UNNUMBERED in found:
        found = _numbered(found[UNNUMBERED], here, pair.peer.origin, ledger, again=again)
    # Mostly nothing is news, and nothing of the ledger is read.
    found = {version: secret for version, secret in found.items() if not _is_same(secret, here.get(version))}
    if found:
        gone = erasures.recorded(ledger)
        found = {version: secret for version, secret in found.items() if erasures.digest(secret) not in gone}
    if pair.is_first:
        return {version: secret for version, secret in found.items() if version > max(here, default=0)}
    others = set(found) & set(here)
    made_here = [
        leaf
        for leaf in (ledger.find(kind=_CREATED, limit=EVERY) if others else ())
        if not carried.origin_of(leaf.body) and not is_tried(leaf.body) and leaf.body.get("key_version") in others
    ]
    if made_here:
        raise ConflictError(
            what="the other box's secret of API keys cannot be taken",
            why=f"{len(made_here)} API keys were made here under another one of the same number",
            fix="set the standby up anew before it makes keys of its own",
        )
    return found


def _is_same(secret: bytes, own: bytes | None) -> bool:
    return own is not None and same(sha256_hex(secret), sha256_hex(own))


def _is_renewed(ledger: Ledger, origin: str) -> bool:
    """Tell whether another secret from that box than those here is a later one: its first was taken, or used up."""
    adopted = ledger.find(kind=ADOPTED, field="origin", value=origin, limit=1)
    made = ledger.find(kind=_CREATED, field=f"{carried.FIELD}.origin", value=origin, limit=EVERY)
    return bool(adopted) or any(leaf.body.get("key_version") != 1 and not is_tried(leaf.body) for leaf in made)


def _numbered(
    secret: bytes, here: Mapping[int, bytes], origin: str, ledger: Ledger, *, again: bool
) -> dict[int, bytes]:
    """Return a secret without a number under the number that it has: a release of before sends its newest so.

    Args:
        secret: What came.
        here: This box's own versions.
        origin: Of the other box's ledger.
        ledger: This box's own, which says whether that secret was renewed.
        again: It came before, and was not taken to its end.

    Raises:
        ConflictError: It was renewed there, and this one is none of those that are here.
    """
    for version, own in here.items():
        if _is_same(secret, own):
            return {version: secret}
    if not again and _is_renewed(ledger, origin):
        raise ConflictError(
            what="the other box's secret of API keys cannot be taken",
            why="it was renewed, and a release of before does not say which version this one is",
            fix="install this release there, too, then make the bundle anew",
        )
    return {1: secret}


def _packed(versions: Mapping[int, bytes]) -> bytes:
    if set(versions) == {1}:
        return versions[1]
    return b"".join(number.to_bytes(_NUMBER_BYTES) + secret for number, secret in sorted(versions.items()))


def _unpacked(untrusted: bytes) -> dict[int, bytes]:
    if len(untrusted) == SECRET_BYTES:
        return {UNNUMBERED: untrusted}
    parts = [untrusted[at : at + _EACH] for at in range(0, len(untrusted), _EACH)]
    found = {int.from_bytes(part[:_NUMBER_BYTES]): part[_NUMBER_BYTES:] for part in parts}
    is_whole = 0 < len(parts) <= _MOST and len(untrusted) % _EACH == 0
    if not is_whole or len(found) != len(parts) or list(found) != sorted(found) or min(found) < 1:
        raise CiphertextError(
            what="the other box's secret of API keys does not read",
            why="it is not versions of 32 bytes with their numbers",
            fix="make the bundle anew on the other box",
        )
    return found


def _place(file: Path, secret: bytes, owner: os.stat_result) -> None:
    durable.replace(file, secret, mode=0o400)
    made = file.stat()
    if (made.st_uid, made.st_gid) != (owner.st_uid, owner.st_gid):
        os.chown(file, owner.st_uid, owner.st_gid)


def _keep(waiting: Path, untrusted: bytes) -> None:
    try:
        durable.replace(waiting, untrusted, mode=0o600)
    except OSError as error:
        raise StoreWriteError(
            what="the other box's secret of API keys could not be kept for later",
            why=error.strerror or "",
            fix="make room, then import a new bundle of that box",
        ) from error


def _waiting(config: Config, pair: Paired) -> Path:
    return mirror.folder_of(config.at, pair.peer) / WAITING
