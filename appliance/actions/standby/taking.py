"""Taking over what a mirror holds: people, promotions, thresholds and API keys, in the order they were decided there.

Stops of callers wait for nothing of that: what is stopped there is stopped here, and what was freed there is freed.

Promises: the promoter judges people, promotions and thresholds itself (`appliance.promote.carrying`) from records with
proofs; API keys are recorded by this box's ledger like its own. It stops at the first record that this box cannot take
yet, says why, and goes on from there next time; so a standby never skips a decision. Thresholds that wait count at once
where they are stricter, so that a standby which has to serve never asks for less than the other box did.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from appliance.actions import production
from appliance.actions.production import Surroundings
from appliance.actions.standby import evidenced, stopping
from appliance.audit.facts import EVERY, Ledger
from appliance.audit.leaf import Leaf
from appliance.config import Config
from appliance.promote.carrying import KINDS as DECIDED
from appliance.promote.carrying import MOST_GATES
from appliance.promote.client import PromoterClient
from appliance.promote.policybook import ADOPTED, PolicyBook
from appliance.promote.record import EVENTS
from appliance.standby import carried, mirror, peerkeys
from appliance.standby.card import BoxCard
from appliance.standby.carried import Carried
from appliance.standby.pairing import Relation, require_paired
from appliance.state import projection
from media.clock import Clock
from media.errors import SealiftError

TAKEN: Final = "standby.taken-over"
KEYS: Final = ("key.created", "key.revoked")
KINDS: Final = (*DECIDED, *KEYS)
_PAGE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """What was taken, and what waits.

    Attributes:
        stops: Stops of callers that hold here now, and those that ended.
        passed: Promotions that the other box made apart and has left since, to follow this one.
        next: The first record there that is not taken.
        waits: Why it cannot be taken yet.
        held_back: The file of thresholds that waits; until then the stricter of both boxes' hold here.
        stopped: Callers that were freed there and stay stopped here, each with why.
    """

    people: int
    promotions: int
    policies: int
    keys: int
    stops: int
    passed: int
    next: int
    waits: str
    held_back: str
    stopped: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "people": self.people,
            "promotions": self.promotions,
            "policies": self.policies,
            "keys": self.keys,
            "stops": self.stops,
            "passed": self.passed,
            "next": self.next,
            "waits": self.waits,
            "held_back": self.held_back,
            "stopped": list(self.stopped),
        }


def take_over(config: Config, peer: str, *, ledger: Ledger, promoter: PromoterClient, clock: Clock) -> TakenOver:
    """Take over all that the mirror of a paired box holds and this box has not taken yet.

    Raises:
        LedgerUnavailableError: This box's ledger or the mirror cannot be read.
        PairingRefusedError: The box is not paired as a standby.
        ProofError: A record of the mirror is not proven.
    """
    box = require_paired(config.at, peer, Relation.STANDBY).peer
    copy = mirror.reader(config.at, box, clock=clock)
    counts = {"person": 0, "promotion": 0, "approval": 0, "key": 0}
    counts["stop"] = stopping.follow(copy, box, ledger=ledger, promoter=promoter).count
    waits, start, passed, idle = "", begin(ledger, box.origin), 0, 0
    for leaf in _leaves(copy, start):
        start = leaf.sequence
        try:
            taken = _take(leaf, box, copy, ledger=ledger, promoter=promoter)
        except SealiftError as error:
            if error.code in {"ledger-unavailable", "wire"}:
                raise
            waits = f"{error.what}: {error.why}"
            break
        start += 1
        counts[leaf.kind.partition(".")[0]] += int(taken)
        if not taken and not carried.is_here(ledger, leaf.body, KINDS):
            idle += 1  # it holds here already; else it would be counted as one that waits
            passed += int(leaf.kind in EVENTS)
    # Again: whoever ended one may have come with the people.
    stops = stopping.follow(copy, box, ledger=ledger, promoter=promoter)
    counts["stop"] += stops.count
    if waits:
        _hold_back(copy, start, box, ledger=ledger, promoter=promoter)
    if idle or any(counts.values()):
        ledger.append(TAKEN, {"peer": peer, "origin": box.origin, "counts": counts, "passed": passed, "next": start})
    held = PolicyBook.of(ledger).held.get(box.origin)
    return TakenOver(
        people=counts["person"],
        promotions=counts["promotion"],
        policies=counts["approval"],
        keys=counts["key"],
        stops=counts["stop"],
        passed=passed,
        next=start,
        waits=waits,
        held_back="" if held is None else str(held.body.get("name")),
        stopped=stops.stay,
    )


def is_waiting(config: Config, peer: str, *, ledger: Ledger, clock: Clock) -> bool:
    """Tell whether a mirror holds decisions that are not taken over, e.g. because that was cut off; none is judged.

    Raises:
        LedgerDamagedError, LedgerUnavailableError: This box's ledger or the mirror cannot be read.
        PairingRefusedError: The box is not paired.
    """
    pair = require_paired(config.at, peer)
    if pair.relation is not Relation.STANDBY or not mirror.is_begun(config.at, pair.peer):
        return False
    copy = mirror.reader(config.at, pair.peer, clock=clock)
    leaves = _leaves(copy, begin(ledger, pair.peer.origin))
    return any(not carried.is_here(ledger, leaf.body, KINDS) for leaf in leaves)


def begin(ledger: Ledger, origin: str) -> int:
    """Return the first record of another box's ledger that is not taken here, nor passed over."""
    last = ledger.find(kind=TAKEN, field="origin", value=origin, limit=1)
    return max(carried.last_taken(ledger, KINDS, origin) + 1, int(last[0].body["next"]) if last else 0)


def settle(here: Surroundings, *, engines: bool) -> None:
    """Bring state, and where a promotion was taken the engines, to what this box's own promoter says now.

    Raises:
        UnitError, EngineUnavailableError: The engine did not start; the decision stands, run it again.
    """
    if engines:
        production.settle(here)
    else:
        projection.catch_up(here.state, here.ledger)


def _leaves(copy: Ledger, start: int) -> Iterator[Leaf]:
    while page := copy.leaves(start, _PAGE, kinds=KINDS):
        yield from page
        start = page[-1].sequence + 1


def _take(leaf: Leaf, box: BoxCard, copy: Ledger, *, ledger: Ledger, promoter: PromoterClient) -> bool:
    if carried.is_here(ledger, leaf.body, KINDS):
        return False
    record = Carried.of(copy, leaf.sequence)
    if leaf.kind in KEYS:
        ledger.append(leaf.kind, carried.marked(record.require(box, peerkeys.known(ledger, box)), box))
        return True
    evidence: list[Carried] = []
    if leaf.body.get("statement"):
        terms = leaf.body.get("terms")
        about = terms.get("version") if isinstance(terms, dict) else leaf.body.get("model_digest")
        evidence = list(_evidence(copy, str(about), leaf.sequence))
        evidenced.record(evidence, box, peerkeys.known(ledger, box), ledger=ledger)
    if leaf.kind in EVENTS:
        evidence += _followed_us(copy, leaf, ledger.head().origin)
    return promoter.carry(box.name, record, evidence)


def _hold_back(copy: Ledger, start: int, box: BoxCard, *, ledger: Ledger, promoter: PromoterClient) -> None:
    """Tell the promoter of the thresholds that hold there by now: of all that wait, the newest."""
    for leaf in copy.find(kind=ADOPTED, limit=1):
        if leaf.sequence >= start and not carried.is_here(ledger, leaf.body, KINDS):
            promoter.hold_back(box.name, Carried.of(copy, leaf.sequence))


def _followed_us(copy: Ledger, leaf: Leaf, own: str) -> list[Carried]:
    """Return the last promotion of this box that the other one took over in a record's line, where it came later."""
    for later in copy.find(kind="promotion.", field=f"{carried.FIELD}.origin", value=own, limit=EVERY):
        if later.sequence > leaf.sequence and later.body.get("line") == leaf.body.get("line"):
            return [Carried.of(copy, later.sequence)]
    return []


def _evidence(copy: Ledger, model_digest: str, before: int) -> Iterator[Carried]:
    """Yield the newest result of each gate that stood when the promotion was made."""
    seen: set[str] = set()
    for leaf in copy.find(kind="gate.result", field="model_digest", value=model_digest, limit=EVERY):
        gate = str(leaf.body.get("gate"))
        if leaf.sequence < before and gate not in seen and len(seen) < MOST_GATES:
            seen.add(gate)
            yield Carried.of(copy, leaf.sequence)
