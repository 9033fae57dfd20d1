"""What keys in doubt touched on this box: releases, the versions they brought, and how many answers those gave.

Every release is judged afresh with the keys left out: it *stands* where enough other people signed, it came *before*
where this box recorded it before the keys were in doubt, and otherwise it is *in-doubt*. Nothing is changed here.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from appliance.actions.recorded import RECEIVED, ledger_may_exist
from appliance.audit.facts import EVERY, Ledger
from appliance.audit.memory import MemoryLedger
from appliance.config import Config
from appliance.errors import StoreDamagedError
from appliance.registry import catalog, origin
from appliance.stages import FIRST_LINE
from appliance.store.content import ContentStore, StoredRelease
from appliance.verify import kept, trust
from appliance.verify.metadata import TrustChain, root_by_root
from appliance.verify.trust import TrustRecord
from media.clock import from_text
from media.emergency import EmergencyNote, keys_of
from media.errors import MediaError, SamePersonError, ThresholdError, TrustError, UsageError
from media.people import Person, Role

_IN_DOUBT: Final = "in-doubt"
_INTENT: Final = "request.intent"
_MADE: Final = ("promotion.made", "promotion.cut-over", "promotion.rolled-back")
_STOPPED: Final = "promotion.stopped"
_SLICE: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """What is doubted: keys, by id or fingerprint in lower case, and from when on; None means always."""

    keys: frozenset[str]
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AffectedRelease:
    """One release that a doubted key signed; `verdict` is stands, before, in-doubt or unreadable."""

    release: str
    serial: int
    received_at: str
    verdict: str
    why: str
    doubted: tuple[str, ...]
    versions: tuple[Mapping[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        fields = ("release", "serial", "received_at", "verdict", "why")
        return {
            **{name: getattr(self, name) for name in fields},
            "doubted": list(self.doubted),
            "versions": [dict(version) for version in self.versions],
        }


def by_note(config: Config, number: int | None) -> Doubt:
    """Return what an accepted note doubts; the newest when no number is given.

    Raises:
        UsageError: No such note was accepted.
        NoTrustError: The trust record does not read.
    """
    notes = _notes(config)
    found = [note for note in notes if number in {None, note.note}]
    if not found:
        raise UsageError(
            what="no such emergency note was accepted here" if number else "no emergency note was accepted here",
            why=f"accepted: {', '.join(str(note.note) for note in notes) or 'none'}",
            fix="name a person or a key: --person ID or --key FINGERPRINT, with --since",
        )
    return Doubt(keys=frozenset(found[-1].keys), since=found[-1].since)


def by_person(config: Config, person_id: str, since: datetime | None) -> Doubt:
    """Return doubt about every key that any root of this box gives a person.

    Raises:
        UsageError: No root names the person.
        NoTrustError: The trust record does not read.
    """
    record = _record(config)
    found: set[str] = set()
    for roots in (record.root_chain, *record.former):  # what came under a root that was replaced is here still
        for chain in root_by_root(roots, config.environment):
            if any(person.id == person_id for person in chain.people.people):
                found.update(keys_of(chain.people, person_id, (Role.ROOT, Role.RELEASE)))
    if not found:
        raise UsageError(what=f"no root names the person {person_id[:32]}", why="", fix="see `sealift trust show`")
    return Doubt(keys=frozenset(found), since=since)


def affected(config: Config, ledger: Ledger, doubt: Doubt) -> tuple[AffectedRelease, ...]:
    """Return every stored release that a doubted key signed, the newest first.

    Raises:
        NoTrustError: The trust record does not read.
        LedgerUnavailableError: The ledger neither answers nor reads.
    """
    store = ContentStore(config.at.store)
    if not ledger_may_exist(config.at):
        ledger = MemoryLedger()  # releases may be here before a ledger is: then nothing is recorded of them
    judged = [_judge(config, ledger, stored, doubt) for stored in reversed(store.releases())]
    found = [each for each in judged if each is not None]
    answers = _answers(ledger, {str(version["model_digest"]) for each in found for version in each.versions})
    return tuple(
        replace(each, versions=tuple({**version, **answers[version["model_digest"]]} for version in each.versions))
        for each in found
    )


def lacks_people(config: Config, stored: StoredRelease, keys: frozenset[str]) -> bool:
    """Tell whether some of these keys signed a release, and too few people did without them.

    Raises:
        MediaError, TrustError, StoreDamagedError: The release cannot be judged.
    """
    always = Doubt(keys=keys, since=None)
    return bool(_doubted(config, stored, keys)) and _verdict(config, stored, always, "")[0] == _IN_DOUBT


def received_at_of(ledger: Ledger, stored: StoredRelease) -> str:
    """Return when this box recorded that it received a release; empty where no record tells."""
    recorded = ledger.find(kind=RECEIVED, field="code", value=stored.code, limit=1)
    return recorded[0].time if recorded else ""


def _judge(config: Config, ledger: Ledger, stored: StoredRelease, doubt: Doubt) -> AffectedRelease | None:
    received_at = received_at_of(ledger, stored)
    doubted: tuple[str, ...] = ()
    try:
        doubted = _doubted(config, stored, doubt.keys)
        if not doubted:
            return None
        verdict, why = _verdict(config, stored, doubt, received_at)
    except (MediaError, TrustError, StoreDamagedError) as error:  # what cannot be judged is not left out of the list
        verdict, why = "unreadable", error.what
    return AffectedRelease(
        release=str(stored.facts.get("release")),
        serial=stored.serial,
        received_at=received_at,
        verdict=verdict,
        why=why,
        doubted=doubted,
        versions=_versions(ledger, stored),
    )


def _doubted(config: Config, stored: StoredRelease, keys: Collection[str]) -> tuple[str, ...]:
    """Return the people of whose doubted keys a signature lies on the release."""
    found = {
        person.id
        for person in _signers(origin.chain_for(config, stored), stored)
        if person.fingerprint.lower() in keys or not set(person.keys.get("release", ())).isdisjoint(keys)
    }
    return tuple(sorted(found))


def _verdict(config: Config, stored: StoredRelease, doubt: Doubt, received_at: str) -> tuple[str, str]:
    if doubt.since is not None and received_at and from_text(received_at) < doubt.since:
        return "before", f"recorded here at {received_at}, before the keys were in doubt"
    without = origin.chain_for(config, stored)
    without.leave_out(doubt.keys)
    try:
        others = _signers(without, stored)
    except (ThresholdError, SamePersonError) as error:
        return _IN_DOUBT, error.why
    return "stands", f"{', '.join(sorted({person.id for person in others}))} signed it with keys that are not in doubt"


def _signers(chain: TrustChain, stored: StoredRelease) -> tuple[Person, ...]:
    """Return who counted when the release is judged again by this chain, over metadata and over every volume."""
    signed = origin.signed_terms(stored, chain)
    volumes = origin.signed_volumes(stored, chain, signed.index)
    return (*signed.signers, *(person for volume in volumes for person in volume.signers))


def _versions(ledger: Ledger, stored: StoredRelease) -> tuple[dict[str, Any], ...]:
    """Return the versions that this release brought here, and what became of them."""
    registered = ledger.find(kind=catalog.REGISTERED, field="serial", value=stored.serial, limit=EVERY)
    serving, found = _in_production(ledger), []
    for leaf in registered:
        digest = str(leaf.body.get("model_digest"))
        first = [ledger.find(kind, "model_digest", digest, limit=1, newest_first=False) for kind in _MADE]
        found.append(
            {
                "model_digest": digest,
                "name": str(leaf.body.get("name")),
                "version": str(leaf.body.get("version")),
                "promoted_at": min((each.time for one in first for each in one), default=None),
                "in_production": digest in serving,
            }
        )
    return tuple(found)


def _in_production(ledger: Ledger) -> set[str]:
    """Return what each line of production serves, by its last record."""
    steps = [leaf for kind in (*_MADE, _STOPPED) for leaf in ledger.find(kind=kind, limit=EVERY)]
    served: dict[int, str] = {}
    for leaf in sorted(steps, key=lambda one: one.sequence):
        line = leaf.body.get("line")
        if leaf.kind != _STOPPED:
            served[line or FIRST_LINE] = str(leaf.body.get("model_digest"))
        elif line is None:
            served.clear()
        else:
            served.pop(line, None)
    return set(served.values())


def _answers(ledger: Ledger, digests: Collection[str]) -> dict[str, dict[str, Any]]:
    """Count the requests that each version began to answer; read in slices, since a ledger may hold millions."""
    found: dict[str, dict[str, Any]] = {each: {"answers": 0, "first": None, "last": None} for each in digests}
    start = 0
    while found and (slice_ := ledger.leaves(start, _SLICE, kinds={_INTENT})):
        for leaf in slice_:
            counted = found.get(str(leaf.body.get("model_digest")))
            if counted is not None:
                counted.update(answers=counted["answers"] + 1, first=counted["first"] or leaf.time, last=leaf.time)
        start = slice_[-1].sequence + 1
    return found


def _record(config: Config) -> TrustRecord:
    return trust.load(config.at.trust, config.at.pinned_trust, may_begin=not ContentStore(config.at.store).serials())


def _notes(config: Config) -> list[EmergencyNote]:
    """Return the notes that were accepted here, the newest last; those from before the root was replaced, too."""
    record, found = _record(config), list[EmergencyNote]()
    for roots in record.former:
        chain = TrustChain(roots, config.environment)
        for untrusted in kept.kept_notes(config.at.trust):
            with suppress(MediaError, TrustError):
                chain.heed_again(untrusted)
        found += sorted((each.note for each in chain.notes), key=lambda note: note.note)
    chain = TrustChain(record.root_chain, config.environment, untrusted_notes=record.notes)
    return [*found, *(each.note for each in chain.notes)]
