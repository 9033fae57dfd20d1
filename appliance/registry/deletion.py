"""Which versions were deleted, and which are on legal hold: read from the ledger, where the promoter alone says so.

Promises: a version counts as deleted from the record of its deletion until it is registered again, which takes a new
receive of a release that brings it; gates that it passed before count no longer. A hold counts until it is lifted.
"""

from typing import Final

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.errors import UnknownVersionError

REGISTERED: Final = "model.registered"
DELETED: Final = "model.deleted"
HELD: Final = "model.held"
LIFTED: Final = "model.hold-lifted"
_PAGE: Final = 200


def deletion_of(ledger: Ledger, model_digest: str) -> Leaf | None:
    """Return the record of a version's deletion; None while it is not deleted."""
    gone = _newest(ledger, DELETED, model_digest)
    known = _newest(ledger, REGISTERED, model_digest)
    return gone if gone is not None and (known is None or known.sequence < gone.sequence) else None


def deleted(ledger: Ledger) -> dict[str, Leaf]:
    """Return the versions that are deleted now, by digest, with the record of each deletion."""
    found: dict[str, Leaf] = {}
    start = 0
    while page := ledger.leaves(start, _PAGE, kinds={REGISTERED, DELETED}):
        for leaf in page:
            digest = str(leaf.body.get("model_digest"))
            if leaf.kind == DELETED:
                found[digest] = leaf
            else:
                found.pop(digest, None)
        start = page[-1].sequence + 1
    return found


def registration(ledger: Ledger, model_digest: str) -> Leaf:
    """Return the newest record of a version's registration.

    Raises:
        UnknownVersionError: The ledger knows no such version, or it was deleted.
    """
    known = _newest(ledger, REGISTERED, model_digest)
    if known is None:
        raise UnknownVersionError(
            what=f"no version {model_digest[:12]} is registered",
            why="the ledger has no model.registered for it",
            fix="see `sealift models list`",
        )
    gone = deletion_of(ledger, model_digest)
    if gone is not None:
        raise UnknownVersionError(
            what=f"version {model_digest[:12]} was deleted",
            why=f"by {gone.body.get('person')}, record {gone.sequence}: {gone.body.get('reason')}",
            fix="receive a release that brings it again, then validate it",
        )
    return known


def gone_at(ledger: Ledger, model_digest: str) -> int:
    """Return the sequence of the last deletion of a version, whatever came after; -1 when it was never deleted."""
    gone = _newest(ledger, DELETED, model_digest)
    return -1 if gone is None else gone.sequence


def hold_on(ledger: Ledger, model_digest: str) -> Leaf | None:
    """Return the record of the legal hold that a version is on; None when it is on none."""
    held, lifted = _newest(ledger, HELD, model_digest), _newest(ledger, LIFTED, model_digest)
    return held if held is not None and (lifted is None or lifted.sequence < held.sequence) else None


def _newest(ledger: Ledger, kind: str, model_digest: str) -> Leaf | None:
    found = ledger.find(kind=kind, field="model_digest", value=model_digest, limit=1)
    return found[0] if found else None
