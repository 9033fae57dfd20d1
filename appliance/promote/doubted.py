"""Versions that only keys in doubt brought here, as the ledger's newest word of it names them.

Whoever stole as many release keys as a release needs can have brought a version that gates pass. Once the sender's note
says so, nothing of it comes forward: people are not asked for it, and what they approved before is not carried out.
What serves already goes on until a person decides (docs/runbooks/two-keys-stolen.md).
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from appliance.audit.facts import Ledger
from appliance.errors import ApprovalRefusedError, NotPromotedError
from media import canonical

DOUBTED: Final = "trust.doubted"
MOST: Final = 12_000
"""What one record of the ledger holds beside the rest (a leaf is 1 MiB at most)."""
_WHY: Final = "by the emergency notes that were taken here, only keys in doubt carry a release that brings it"


def in_doubt(ledger: Ledger) -> frozenset[str]:
    """Return the digests of the versions in doubt.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
        MalformedError: The record is of another shape.
    """
    newest = ledger.find(kind=DOUBTED, limit=1)
    return digests_of(newest[0].body) if newest else frozenset()


def digests_of(body: Mapping[str, Any]) -> frozenset[str]:
    """Return what one record names, which is all that is in doubt since then.

    Raises:
        MalformedError: It is of another shape.
    """
    named = canonical.array(body.get("model_digests"), "trust.doubted.model_digests", most=MOST)
    return frozenset(canonical.sha256_hex(one, "trust.doubted.model_digests") for one in named)


def require_none(ledger: Ledger, model_digest: str) -> None:
    """Return where a version may come forward.

    Raises:
        ApprovalRefusedError: It is in doubt.
        LedgerUnavailableError: The ledger does not answer.
    """
    if model_digest in in_doubt(ledger):
        raise ApprovalRefusedError(
            what=f"version {model_digest[:12]} came with a release in doubt",
            why=_WHY,
            fix="see `sealift trust affected`; a newer release that brings it under other keys ends the doubt",
        )


def require_named(ledger: Ledger, target: str, others: Collection[str]) -> None:
    """Return where going back may lead to a version that nobody named.

    Args:
        ledger: Where the doubt stands.
        target: Where it would lead.
        others: Where else it may lead, the newest first.

    Raises:
        NotPromotedError: It is in doubt; a person may still name it.
        LedgerUnavailableError: The ledger does not answer.
    """
    doubted = in_doubt(ledger)
    if target in doubted:
        good = next((one[:12] for one in others if one not in doubted), "")
        raise NotPromotedError(
            what=f"the version before, {target[:12]}, came with a release in doubt",
            why=_WHY,
            fix=(f"name a good one: `--to {good}`" if good else "none that can be gone back to is good")
            + ", or stop: `sealift stop`; --to takes one in doubt, too, if that must be",
        )
