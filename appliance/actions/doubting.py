"""Which versions only keys in doubt brought here: judged from the store by all notes, and recorded for the promoter.

The promoter reads no store and no trust record, so root says it in the ledger. A version stays in doubt until a release
that other people signed brings it, also where the release that brought it was taken away meanwhile.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from appliance.actions import affected
from appliance.actions.recorded import NOTED, bodies, ledger_may_exist, waiting
from appliance.audit.facts import EVERY, Ledger
from appliance.audit.memory import MemoryLedger
from appliance.config import Config
from appliance.promote.doubted import DOUBTED, MOST, digests_of, in_doubt
from appliance.registry import carriers, catalog
from appliance.store.content import ContentStore, StoredRelease
from media import canonical
from media.clock import from_text
from media.errors import SealiftError


def settle(config: Config, ledger: Ledger) -> frozenset[str]:
    """Judge every stored release by every note that was taken here, record what changed, and return what is in doubt.

    Raises:
        LedgerUnavailableError: The ledger is there and does not answer; nothing was recorded.
        NoTrustError: The trust record does not read.
    """
    notes = [_doubt(body) for body in bodies(config.at, ledger, NOTED)]
    if not notes:
        return frozenset()
    known = ledger if ledger_may_exist(config.at) else MemoryLedger()
    doubted, good, registered = set[str](), set[str](), set[str]()
    for stored in ContentStore(config.at.store).releases():
        ours = _registered(known, stored)
        registered |= ours
        brought = ours | _named(stored)
        (doubted if _is_doubted(config, known, stored, notes) else good).update(brought)
    before = standing(config, ledger)
    # Where thieves brought more than a record holds: first those that can come forward, which are registered by then.
    kept = sorted((before | doubted) - good, key=lambda digest: (digest not in registered, digest))[:MOST]
    now = frozenset(kept)
    if now != before:
        ledger.append(DOUBTED, {"site": config.site, "model_digests": sorted(now), "notes": len(notes)})
    return now


def standing(config: Config, ledger: Ledger) -> frozenset[str]:
    """Return what is in doubt by the newest record, one that still waits for the ledger included.

    Raises:
        LedgerUnavailableError: The ledger, or the spool, is there and does not answer.
        MalformedError: The record is of another shape.
    """
    if spooled := waiting(config.at, DOUBTED):
        return digests_of(spooled[-1])
    return in_doubt(ledger) if ledger_may_exist(config.at) else frozenset()


def _doubt(body: Any) -> affected.Doubt:
    keys = canonical.array(body.get("keys"), "trust.note-accepted.keys")
    return affected.Doubt(
        keys=frozenset(canonical.text(key, "trust.note-accepted.keys").lower() for key in keys),
        since=from_text(canonical.text(body.get("since"), "trust.note-accepted.since")),
    )


def _is_doubted(config: Config, ledger: Ledger, stored: StoredRelease, notes: Iterable[affected.Doubt]) -> bool:
    """Tell whether a release lacks people without the keys that were in doubt when it came; unreadable ones do."""
    received_at = affected.received_at_of(ledger, stored)
    came = from_text(received_at) if received_at else None
    keys = {key for note in notes if came is None or note.since is None or came >= note.since for key in note.keys}
    if not keys:
        return False
    try:
        return affected.lacks_people(config, stored, frozenset(keys))
    except SealiftError:  # a release that cannot be judged is doubted, and keeps no other from being judged
        return True


def _named(stored: StoredRelease) -> set[str]:
    found = set[str]()
    with suppress(SealiftError):  # what it brought is known by the registry alone
        for digest, _ in carriers.by_digest(stored):
            found.add(digest)
    return found


def _registered(ledger: Ledger, stored: StoredRelease) -> set[str]:
    found = ledger.find(kind=catalog.REGISTERED, field="serial", value=stored.serial, limit=EVERY)
    return {str(leaf.body.get("model_digest")) for leaf in found}
