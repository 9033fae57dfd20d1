"""Taking an emergency note: keys of the sender stop counting on this box, at once, and what they touched is listed.

A note needs nobody's approval here: root people of the sender signed it, and it can only take away. It is believed
first and recorded then, since a denial that waits for a record protects nobody; given again, it is recorded if it was
not.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from appliance.actions import doubting
from appliance.actions.believing import finish_what_was_begun, has_accepted
from appliance.actions.recorded import NOTED, is_recorded
from appliance.audit.client import open_ledger
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.store.content import ContentStore
from appliance.store.writing import writing
from appliance.verify import trust
from appliance.verify.metadata import TrustChain
from media.clock import Clock, to_text
from media.digest import sha256_hex
from media.emergency import SignedNote, whose
from media.errors import SealiftError

DOOR: Final = "ledger-actions"
WOULD: Final = "would-accept"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteFacts:
    """What a note took away; `outcome` is accepted, known, or would-accept for a dry run.

    `people` maps a person of the trusted root to the uses of the keys taken away; keys of nobody are under "".
    `missing` are numbers of earlier notes of this sender that never came here. `doubted` are the versions that no one
    brings into production any more (`appliance.promote.doubted`); None where that was not judged: in a dry run, or
    because the ledger or the store does not answer, which the note given again mends.
    """

    outcome: str
    note: int
    reason: str
    since: str
    keys: tuple[str, ...]
    people: Mapping[str, tuple[str, ...]]
    signers: tuple[str, ...]
    missing: tuple[int, ...]
    sha256: str
    doubted: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "outcome": self.outcome,
            "note": self.note,
            "note_sha256": self.sha256,
            "reason": self.reason,
            "since": self.since,
            "keys": list(self.keys),
            "people": {person: list(uses) for person, uses in self.people.items()},
            "signers": list(self.signers),
            "missing": list(self.missing),
            "doubted": None if self.doubted is None else list(self.doubted),
        }


def accept(config: Config, untrusted: bytes, *, clock: Clock, dry_run: bool = False) -> NoteFacts:
    """Stop believing the keys that a note names.

    Args:
        config: The site file.
        untrusted: The note, as a file, a scanner or a keyboard gave it; blanks around it do not matter.
        clock: For the record.
        dry_run: Verify and tell; change nothing.

    Raises:
        MediaError, TrustError: It is no note for this box, or too few root people signed it.
        NoTrustError: No root is pinned, or the trust record is damaged.
        StoreBusyError: A receive is running.
        StoreWriteError: The record could not be written; the keys still count.
        LedgerUnavailableError: The keys do not count any more, and that could be neither recorded nor spooled.
    """
    places = config.at
    untrusted = untrusted.strip()
    if dry_run:
        return _take(config, None, untrusted)
    ledger = open_ledger(config, DOOR, spool=True, clock=clock)
    try:
        with ContentStore(places.store).locked():
            finish_what_was_begun(places, ledger)
            facts = _take(config, ledger, untrusted)
            with suppress(SealiftError):  # the note is taken; a denial that waits for a record protects nobody
                facts = replace(facts, doubted=tuple(sorted(doubting.settle(config, ledger))))
    finally:
        ledger.close()
    return facts


def _take(config: Config, ledger: Ledger | None, untrusted: bytes) -> NoteFacts:
    places = config.at
    accepted = has_accepted(places, ledger) if ledger else bool(ContentStore(places.store).serials())
    record = trust.load(places.trust, places.pinned_trust, may_begin=not accepted)
    chain = TrustChain(record.root_chain, config.environment, untrusted_notes=record.notes)
    known = next((each for each in chain.notes if each.raw == untrusted), None)
    if known is not None:
        facts = _facts("known", known, chain)
    else:
        before = chain.notes
        facts = _facts("accepted" if ledger else WOULD, chain.heed(untrusted), chain, before=before)
    if ledger is None:
        return facts
    if known is None:
        with writing("the trust record"):
            trust.save(places.trust, replace(record, notes=(*record.notes, untrusted.decode("utf-8"))))
    if not is_recorded(places, ledger, NOTED, field="note_sha256", value=facts.sha256):
        body = {name: value for name, value in facts.to_json().items() if name not in {"outcome", "people", "doubted"}}
        ledger.append(NOTED, {**body, "site": config.site, "envelope": untrusted.decode("utf-8")})
    return facts


def _facts(outcome: str, signed: SignedNote, chain: TrustChain, *, before: tuple[SignedNote, ...] = ()) -> NoteFacts:
    note = signed.note
    seen = {each.note.note for each in before}
    return NoteFacts(
        outcome=outcome,
        note=note.note,
        reason=str(note.reason),
        since=to_text(note.since),
        keys=note.keys,
        people=whose(chain.people, note),
        signers=tuple(person.id for person in signed.signers),
        missing=tuple(number for number in range(1, note.note) if number not in seen) if outcome != "known" else (),
        sha256=sha256_hex(signed.raw),
    )
