"""A new key of checkpoints takes over when the ledger starts: asked for by a record, signed by the key before.

Order: the new key is durable -> a record ``key.rotated`` asks for it -> the ledger starts with both keys -> the record
``ledger.key-rotated``, which both sign, is durable -> the checkpoint of the tree that holds it is signed by both. The
record alone decides which key is in force: before it is durable the old one signs, after it the new one, whatever else
a crash left undone.
"""

import logging
import os
from typing import Final

from appliance.audit import note, succession, tree
from appliance.audit.facts import Appended, Ledger
from appliance.audit.leaf import Via
from appliance.audit.log import Entry, Log, Signer
from appliance.audit.rights import ACTIONS
from appliance.audit.succession import Signing
from appliance.errors import KeyMissingError
from appliance.keys.provider import KeyProvider

KEY_NAME: Final = "ledger-checkpoint"
ASKED: Final = "key.rotated"
_log = logging.getLogger("sealift.ledger")


def signer_of(keys: KeyProvider, version: int) -> Signer:
    """Return one version of the checkpoint key.

    Raises:
        KeyMissingError: It is not here.
    """
    public = keys.public(KEY_NAME, version=version)
    return Signer(public=public, sign=lambda data: keys.sign(KEY_NAME, data, version=version))


def version_of(keys: KeyProvider, key: note.VerifierKey) -> int | None:
    """Return the version of the box's key that this public key is of; None when it is not here.

    Raises:
        KeyMissingError: The keys cannot be asked.
    """
    for version in reversed(keys.versions(KEY_NAME)):
        if keys.public(KEY_NAME, version=version) == key.public:
            return version
    return None


def in_force(ledger: Ledger, keys: KeyProvider) -> Signer:
    """Return the key that signs for a ledger now, as its records say: a newer version may wait to take over.

    Raises:
        KeyMissingError: It is not here, or this process may not use it.
        LedgerDamagedError, ProofError: A record breaks the rules of `appliance.audit.succession`.
        LedgerUnavailableError: The ledger does not answer.
    """
    named = succession.of_ledger(ledger).in_force(ledger.head().origin)
    version = version_of(keys, named)
    if version is None:
        raise KeyMissingError(
            what="the key that signs for the ledger is not here",
            why=f"its records name {named.key_id.hex()}, and no version is that",
            fix="put its file back, or restore a backup, which begins a new epoch",
        )
    return signer_of(keys, version)


def choose(keys: KeyProvider, named: note.VerifierKey | None) -> Signer:
    """Return what signs for a ledger whose records name this key; the newest version for one that has no records yet.

    Raises:
        KeyMissingError: There is no key at all; another key than the named one is refused by `Log.open`.
    """
    found = None if named is None else version_of(keys, named)
    return signer_of(keys, keys.newest(KEY_NAME) if found is None else found)


def settle(log: Log, keys: KeyProvider, *, is_alone: bool = True) -> None:
    """Let the key take over that a record asks for, and sign what a crash left unsigned; nothing when nothing is due.

    Args:
        log: Whose key it is.
        keys: Hold the old one and the new one.
        is_alone: Whether nobody else adds records now: what both keys sign is the tree right before the next one.

    Raises:
        LedgerUnavailableError: The record could not be made durable; the old key goes on.
        KeyMissingError: A key went away meanwhile.
    """
    version = _wanted(log, keys)
    if not is_alone:
        if version is not None:
            _log.warning(
                "version %d of %s waits for a node that opens alone: the key before signs on", version, KEY_NAME
            )
        return
    if version is not None:
        _rotate(log, signer_of(keys, version), reason=_reason(log), version=version)
    _hand_over(log, keys)


def _wanted(log: Log, keys: KeyProvider) -> int | None:
    """Return the version that is to take over."""
    asked = log.find(kind=ASKED, field="name", value=KEY_NAME, limit=1)
    held = log.keys.of(log.origin)
    if not asked or asked[0].origin != log.origin or asked[0].via.door != ACTIONS:
        return None
    version = asked[0].body.get("version")
    if asked[0].sequence < held[-1].first - 1 or type(version) is not int:
        return None  # it was done
    here = keys.versions(KEY_NAME)
    if version not in here:
        _log.warning("version %d of %s is asked for and not here: the key before signs on", version, KEY_NAME)
        return None
    if keys.public(KEY_NAME, version=version) in {key.public for key in log.keys.all()}:
        return None
    return version


def _reason(log: Log) -> str:
    return str(log.find(kind=ASKED, field="name", value=KEY_NAME, limit=1)[0].body.get("reason", ""))


def _rotate(log: Log, new: Signer, *, reason: str, version: int) -> None:
    if log.signer is None:
        raise KeyMissingError(what="a ledger that is only read rotates no key", why="it cannot sign", fix="report it")
    head = log.head()
    body = succession.body_of(
        note.Checkpoint(origin=log.origin, size=head.size, root=bytes.fromhex(head.root)),
        old=Signing(key=log.key, sign=log.signer.sign),
        new=Signing(key=note.VerifierKey(name=log.origin, public=new.public), sign=new.sign),
        reason=reason,
        version=version,
    )
    (outcome,) = log.append([Entry.of(succession.ROTATED, body, via=Via(door="ledger", uid=os.getuid()))])
    if not isinstance(outcome, Appended):
        raise outcome
    log.signer = new
    _log.info("the key %s signs checkpoints from record %d on", log.key.key_id.hex(), outcome.sequence)


def _hand_over(log: Log, keys: KeyProvider) -> None:
    """Keep the checkpoint of the tree that ends with the newest rotation, by both keys where both are still here."""
    held = log.keys.of(log.origin)
    size = held[-1].first
    if len(held) < 2 or log.backend.checkpoint_of(size) is not None:
        return
    signing = []
    for one in held[-2:]:
        version = version_of(keys, one.key)
        if version is not None:
            signing.append(Signing(key=one.key, sign=signer_of(keys, version).sign))
    head = note.Checkpoint(origin=log.origin, size=size, root=tree.root(size, log.backend.node))
    log.backend.save_checkpoint(size, succession.cosigned(head.to_text(), signing))
