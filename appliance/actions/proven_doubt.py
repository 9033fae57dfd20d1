"""What the sender's emergency notes that were taken here say today of what a proof is about.

What was accepted stays accepted (ADR 15), so a step that held goes on to hold. Whoever reads the proof is to know all
the same that a key which signed is in doubt since, or that only such keys carry the version.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from appliance.actions.proven_ledger import ProvenLedger
from appliance.actions.recorded import NOTED
from appliance.promote.doubted import DOUBTED, digests_of
from media import canonical
from media.people import Person

_WHAT: Final = "trust.note-accepted"


def of_version(ledger: ProvenLedger, model_digest: str) -> tuple[str, dict[str, Any]]:
    """Return words and facts about a version that only keys in doubt carry by the newest record; nothing for others.

    Each record names all that is in doubt by then, so the doubt began with the first of those that name it unbroken.

    Raises:
        MalformedError, ProofError: The record is of another shape, or is not proven.
    """
    leaf = ledger.since_when(DOUBTED, lambda doubted: model_digest in digests_of(doubted.body))
    if leaf is None:
        return "", {}
    return f"; in doubt since record {leaf.sequence}, {leaf.time}", {"in_doubt": leaf.sequence}


def keys_by_person(signers: Iterable[Person]) -> dict[str, set[str]]:
    """Return each signer's keys, as notes name them."""
    return {one.id: {one.fingerprint.lower(), *one.keys.get("release", ())} for one in signers}


def of_signers(ledger: ProvenLedger, keys_of: Mapping[str, set[str]]) -> tuple[str, dict[str, Any]]:
    """Return words and facts about those people of whose keys an emergency note speaks; nothing where none does.

    Args:
        ledger: Where the notes are recorded that were taken here.
        keys_of: Each person's keys, by their id or fingerprint in lower case.

    Raises:
        MalformedError, ProofError: A record is of another shape, or is not proven.
    """
    doubted = []
    for leaf in ledger.every(NOTED, lambda note: any(_keys(note.body) & keys for keys in keys_of.values())):
        since = canonical.text(leaf.body.get("since"), _WHAT)
        doubted += [
            {"person": person, "note": leaf.body.get("note"), "since": since, "sequence": leaf.sequence}
            for person, keys in sorted(keys_of.items())
            if keys & _keys(leaf.body)
        ]
    if not doubted:
        return "", {}
    said = [f"of {one['person']} since {one['since']} (note {one['note']})" for one in doubted]
    return f"; keys in doubt: {', '.join(said)}", {"keys_in_doubt": doubted}


def _keys(body: Any) -> set[str]:
    return {canonical.text(one, _WHAT).lower() for one in canonical.array(body.get("keys"), _WHAT)}
