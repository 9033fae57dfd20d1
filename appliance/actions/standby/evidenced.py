"""What gates found for a promotion, brought to the box that stands by: documents beside a bundle, results as records.

    of       the documents that records from `since` on name, and the newest few, one in each line
    keep     those that a proven record of the other box names by their digest; nothing else is believed of them
    record   each result, before the promotion that rests on it, marked with where it was proven

So an answer of the standby leads to its tests there as it does on the first box. A bundle of a release of before comes
without documents, and one of before leaves them aside.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from appliance.audit.facts import EVERY, Ledger
from appliance.audit.succession import Keys
from appliance.config import Config, Places
from appliance.errors import ProofError
from appliance.registry import evidence
from appliance.standby import carried
from appliance.standby.card import BoxCard
from appliance.standby.carried import Carried
from appliance.standby.report import GATE
from media.digest import sha256_hex
from media.errors import LimitExceededError, MalformedError

MOST_BYTES: Final = 64 * 1024 * 1024
_NAMED: Final = "evidence_digest"
# Sent each time: what a bundle of a release of before, or one that was lost, did not bring.
_NEWEST: Final = 2
_REGISTERED: Final = "model.registered"


def of(config: Config, ledger: Ledger, *, since: int, size: int = EVERY) -> bytes:
    """Return the documents that go with the records from `since` to the one before `size`, one in each line."""
    lines: list[bytes] = []
    total = 0
    for digest in _digests(ledger, since, size):
        try:
            line = evidence.content(config.at, digest) + b"\n"
        except ProofError:
            continue  # what this box has lost, or may not read, it cannot give; `sealift prove` says so here
        total += len(line)
        if total > MOST_BYTES:
            break
        lines.append(line)
    return b"".join(lines)


def keep(places: Places, untrusted_lines: bytes, mirror: Ledger) -> int:
    """Keep each document whose digest a record of the mirror names; return how many there were.

    Args:
        places: Of this box.
        untrusted_lines: What came beside a bundle.
        mirror: The proven records of the box that sent it.
    """
    kept = 0
    for line in untrusted_lines[:MOST_BYTES].split(b"\n"):
        digest = sha256_hex(line)
        if not line or not mirror.find(kind=GATE, field=_NAMED, value=digest, limit=1):
            continue
        with suppress(LimitExceededError, MalformedError):  # a result may name anything; what is no document is none
            kept += int(evidence.keep(places, line, digest))
    return kept


def record(results: Iterable[Carried], box: BoxCard, keys: Keys, *, ledger: Ledger) -> None:
    """Record results of the other box's gates as they are proven there; none twice, none of a version unknown here.

    None that the other box has from this one: recorded again, it would cover what was found here since.

    Raises:
        LedgerUnavailableError: This box's ledger does not answer.
        ProofError: One is not proven.
    """
    here = {
        int(leaf.body[carried.FIELD]["sequence"])
        for leaf in ledger.find(kind=GATE, field=f"{carried.FIELD}.origin", value=box.origin, limit=EVERY)
    }
    for result in results:
        leaf = result.require(box, keys)
        if leaf.kind != GATE or leaf.sequence in here or carried.is_own(ledger, leaf.body):
            continue
        if ledger.find(kind=_REGISTERED, field="model_digest", value=str(leaf.body.get("model_digest")), limit=1):
            ledger.append(GATE, carried.marked(leaf, box))


def _digests(ledger: Ledger, since: int, size: int) -> list[str]:
    """Return what results name, the newest first, each once; what lies beyond the bundle proves nothing there yet."""
    results = [leaf for leaf in ledger.find(kind=GATE, limit=EVERY) if leaf.sequence < size]
    named = [(leaf.sequence, str(digest)) for leaf in results if (digest := leaf.body.get(_NAMED))]
    newest = list(dict.fromkeys(digest for _, digest in named))[:_NEWEST]
    return list(dict.fromkeys([*newest, *(digest for sequence, digest in named if sequence >= since)]))
