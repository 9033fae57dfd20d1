"""What people decided at a paired box, taken over here: each proven, judged by this promoter's rules, recorded anew.

Promises: nothing is believed because the other box did it. A record counts only when it lies in a tree that the
paired key signed, or one that it leads to; a promotion needs its approvals, verified again by this site's people as
this box knows them, the evidence of its gates out of the same tree, and a version that this box has received and
registered itself, at a level that may serve production. Thresholds need both signatures again
(`appliance.promote.policycarrying`). Records are taken in their order there, each once, also what that box took over
from a third one, and nothing that came from here is taken back. What the other box decided apart, and left again when
it took over a later decision of this one, is passed over. A line has the number that it got here
(`appliance.promote.carried_line`).
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from appliance.audit.leaf import Leaf
from appliance.config import Config
from appliance.errors import ApprovalRefusedError, ConflictError, GateFailedError, UnknownVersionError
from appliance.promote import actors, doubted, linenames, peoplebook, readers
from appliance.promote.approvals import LEAST_PEOPLE, Approval, require_approved
from appliance.promote.books import Books
from appliance.promote.carried_line import FIELD as LINE
from appliance.promote.carried_line import line_here, numbered
from appliance.promote.history import Production
from appliance.promote.levels import acceptance, require_content_addressed, require_level_for_production
from appliance.promote.line import Line
from appliance.promote.people import SitePeople
from appliance.promote.peoplebook import ENROLLED, person_from
from appliance.promote.policy import IN_EVERY_POLICY, GatePolicy
from appliance.promote.policybook import ADOPTED
from appliance.promote.policycarrying import PolicyCarrying
from appliance.promote.record import BY_JUDGE, EVENTS, Kind
from appliance.promote.statement import Statement
from appliance.promote.stopcarrying import KINDS as STOPS
from appliance.promote.stopcarrying import StopCarrying
from appliance.registry.deletion import deletion_of
from appliance.stages import FIRST_LINE
from appliance.standby import carried, peerkeys
from appliance.standby.card import BoxCard
from appliance.standby.carried import Carried
from appliance.standby.pairing import Relation, require_paired
from media import canonical

KINDS: Final = (*peoplebook.KINDS, *EVENTS, ADOPTED)
MOST_GATES: Final = 32
"""Newest results that come with a decision, one of each gate."""
MOST_EVIDENCE: Final = MOST_GATES + 1
"""With them comes the decision of this box that the other one followed."""
_GATE: Final = "gate.result"
# What a promoter does alone: never forward.
_BY_ITSELF: Final = frozenset({Kind.CANARY_ABORTED, Kind.RETIRED})
_ENTERS: Final = frozenset({Kind.MADE, Kind.CANARY_STARTED, Kind.ROLLED_BACK})


class Carrying:
    """Takes over what the other box of a pair has decided."""

    def __init__(self, books: Books, *, config: Config, policy: Callable[[], GatePolicy]) -> None:
        self._books = books
        self._config = config
        self._policy = policy
        self._policies = PolicyCarrying(books, config=config)
        self._stops = StopCarrying(books)
        self._threshold = max(config.policy.approvals, LEAST_PEOPLE)

    def take(self, peer: str, record: Carried, evidence: Sequence[Carried]) -> bool:
        """Take one record over; return whether anything changed here.

        Args:
            peer: Name of the paired box.
            record: Of one of `KINDS`, in their order there; or a stop of a caller or its end, which wait for nothing.
            evidence: For a promotion that goes forward, the results of its gates; for any, a later one of its line that
                the other box took over from here; for the end of a stop, that stop.

        Raises:
            ApprovalRefusedError: It is of another site, or an approval does not verify.
            ConflictError: It is not the next one, or contradicts what was decided here.
            GateFailedError: Its gates did not all pass, or not with this evidence; or its level may not serve.
            NotEnoughApprovalsError: Fewer people approved than this site demands.
            NotPromotedError: It does not follow from the promotions here.
            PairingRefusedError: That box is not paired as a standby of this one, or the other way round.
            ProofError: The record or its evidence is not proven.
            UnknownVersionError: This box has not registered the version: receive and install its release first.
        """
        box = require_paired(self._config.at, peer, Relation.STANDBY).peer
        leaf = record.require(box, peerkeys.known(self._books.ledger, box))
        if leaf.kind not in {*KINDS, *STOPS}:
            raise _refused(f"records of kind {leaf.kind} are not taken over")
        people, production = self._books.catch_up()
        if leaf.kind in STOPS:
            keys = peerkeys.known(self._books.ledger, box)
            return self._stops.take(people, leaf, box, [one.require(box, keys) for one in evidence])
        last = carried.last_taken(self._books.ledger, KINDS, box.origin)
        if leaf.sequence <= last:
            raise ConflictError(
                what=f"record {leaf.sequence} of {peer} was taken over before",
                why=f"the last one taken is {last}",
                fix="nothing is to be done",
            )
        if carried.is_here(self._books.ledger, leaf.body, KINDS):
            return False
        if leaf.kind == ENROLLED:
            return self._enrolled(people, leaf, box)
        if leaf.kind in peoplebook.KINDS:
            return self._changed(people, leaf, box)
        if leaf.kind == ADOPTED:
            return self._policies.take(people, leaf, box)
        return self._promoted(people, production, leaf, box, evidence)

    def hold_back(self, peer: str, record: Carried) -> bool:
        """Let the stricter of both boxes' thresholds hold while this policy cannot be taken; return whether it is news.

        Raises:
            ApprovalRefusedError: The record is about no policy.
            PairingRefusedError: That box is not paired as a standby of this one, or the other way round.
            ProofError: The record is not proven.
        """
        box = require_paired(self._config.at, peer, Relation.STANDBY).peer
        leaf = record.require(box, peerkeys.known(self._books.ledger, box))
        if leaf.kind != ADOPTED:
            raise _refused(f"records of kind {leaf.kind} are not held back")
        is_here = carried.is_here(self._books.ledger, leaf.body, KINDS)
        return not is_here and self._policies.hold_back(leaf, box)

    def _enrolled(self, people: SitePeople, leaf: Leaf, box: BoxCard) -> bool:
        person = person_from(leaf.body, enrolled=people.sequence + 1)
        keys = {one.fingerprint for one in person.credentials}
        if any(one.id == person.id and keys <= {key.fingerprint for key in one.credentials} for one in people.people):
            return False  # enrolled on both boxes with one key
        people.with_person(person)
        # A code is of the box that issued it.
        done = self._books.ledger.append(ENROLLED, {**carried.marked(leaf, box), "code": ""})
        enrolled = person_from(leaf.body, enrolled=done.sequence)
        self._books.folder.save_people(people.with_person(enrolled))
        return True

    def _changed(self, people: SitePeople, leaf: Leaf, box: BoxCard) -> bool:
        """Take over a revocation, a reset, new credentials or other roles of somebody who counts here too."""
        if str(leaf.body.get("person")) not in {one.id for one in people.active}:
            return False
        peoplebook.after(people, leaf.kind, leaf.body, people.sequence + 1)
        body = carried.marked(leaf, box)
        done = self._books.ledger.append(leaf.kind, {**body, "code": ""} if "code" in body else body)
        if leaf.kind == peoplebook.RESET and self._books.on_reset is not None:
            self._books.on_reset(str(leaf.body.get("person")))  # a password set here by a signature ends, too
        self._books.folder.save_people(peoplebook.after(people, leaf.kind, leaf.body, done.sequence))
        return True

    def _promoted(
        self, people: SitePeople, production: Production, leaf: Leaf, box: BoxCard, evidence: Sequence[Carried]
    ) -> bool:
        kind = Kind(leaf.kind.removeprefix("promotion."))
        body = carried.marked(leaf, box)
        if self._is_left(production, leaf, box, evidence):
            return False  # also where it would follow: what it was of is over, there and here
        line = _followed_from(production, leaf, body, box)
        if line.number not in production.lines:
            readers.require_readable_here(self._config, self._books.ledger)
        terms = body.get("terms")
        about = str(terms.get("version")) if isinstance(terms, dict) else body.get("model_digest")
        if kind in {Kind.MADE, Kind.CANARY_STARTED} or body.get("statement"):
            self._require_made(people, {**body, "model_digest": about}, evidence, box)
        elif body.get("class") != BY_JUDGE or kind not in _BY_ITSELF:
            who = str(body.get("person"))
            # A canary may be held by an automation key; who answers for it counts here, and a key does nothing else.
            people.require_active(actors.answerable(who) if kind is Kind.CANARY_HELD else who)
        target = str(about or "") if kind is not Kind.RETIRED else ""
        if target and deletion_of(self._books.ledger, target) is not None:
            raise ConflictError(
                what=f"promotion at record {leaf.sequence} of {box.name} leads to a version that was deleted here",
                why=_short(target),
                fix="receive and validate its release here, then take over again",
            )
        if kind in {Kind.MADE, Kind.CANARY_STARTED, Kind.CUT_OVER}:
            doubted.require_none(self._books.ledger, target)
        if target and kind in _ENTERS:
            linenames.require_own_name(self._books.ledger, production, target, line)
        self._books.record_promotion(production, kind, numbered(body, line))
        return True

    def _is_left(self, production: Production, leaf: Leaf, box: BoxCard, evidence: Sequence[Carried]) -> bool:
        """Tell whether the other box left this promotion again: later it took over one of this box in the same line."""
        own, keys = self._books.ledger.head(), peerkeys.known(self._books.ledger, box)
        of_all_lines = leaf.kind == Kind.STOPPED.event and LINE not in leaf.body
        if of_all_lines and production.has_further:
            return False
        for one in evidence:
            later = one.require(box, keys)
            mark, is_promotion = later.body.get(carried.FIELD), later.kind in EVENTS
            if not is_promotion or later.sequence < leaf.sequence or carried.origin_of(later.body) != own.origin:
                continue
            at = canonical.integer(canonical.mapping(mark, "carried").get("sequence"), "carried.sequence")
            is_ours = at < own.size and self._books.ledger.leaf(at).hash == later.body[carried.FIELD].get("leaf_hash")
            if is_ours and later.body.get(LINE, FIRST_LINE) == leaf.body.get(LINE, FIRST_LINE):
                return True
        return False

    def _require_made(
        self, people: SitePeople, body: dict[str, Any], evidence: Sequence[Carried], box: BoxCard
    ) -> None:
        raw = canonical.text(body.get("statement"), "statement", most=16 * 1024).encode()
        statement = Statement.from_bytes(raw)
        if statement.site != self._config.site:
            raise _refused(f"it is of {statement.site}")
        if statement.model_digest != body.get("model_digest"):
            raise _refused("it names another version than its statement")
        approvals = [Approval.from_json(one) for one in canonical.array(body.get("approvals"), "approvals", most=16)]
        head = self._books.ledger.head().size
        require_approved(
            raw,
            approvals,
            people,
            sequence=head,
            threshold=self._threshold,
            counting=self._config.policy.classes,
        )
        statement.require_apart(*(one.person for one in approvals))
        self._require_registered(statement)
        keys = peerkeys.known(self._books.ledger, box)
        self._require_gates(statement, [one.require(box, keys) for one in evidence])

    def _require_registered(self, statement: Statement) -> None:
        found = self._books.ledger.find(
            kind="model.registered", field="model_digest", value=statement.model_digest, limit=1
        )
        gone = deletion_of(self._books.ledger, statement.model_digest)
        if not found or gone is not None or found[0].body.get("weights_digest") != statement.weights_digest:
            raise UnknownVersionError(
                what=f"version {statement.model_digest[:12]} is not registered on this box, or was deleted from it",
                why="each box takes a release by its own verifier",
                fix="receive and install its release here, then take over again",
            )
        descriptor = canonical.mapping(found[0].body.get("descriptor"), "descriptor")
        accepted = acceptance(self._books.ledger, statement.model_digest)
        require_level_for_production(descriptor, statement.model_digest, accepted)
        require_content_addressed(descriptor, statement.model_digest)

    def _require_gates(self, statement: Statement, evidence: Sequence[Leaf]) -> None:
        passed: set[str] = set()
        for leaf in evidence:
            figures = leaf.body.get("figures")
            policy = figures.get("policy_digest") if isinstance(figures, dict) else None
            found = (leaf.kind, leaf.body.get("model_digest"), leaf.body.get("evidence_digest"), policy)
            wanted = (_GATE, statement.model_digest, statement.evidence_digest, statement.policy_digest)
            if found == wanted and leaf.body.get("passed") is True:
                passed.add(str(leaf.body.get("gate")))
        # Under another policy than this box's, which further gates there were is for that one to say.
        policy = self._policy()
        wanted_gates = policy.gates if statement.policy_digest == policy.digest else IN_EVERY_POLICY
        missing = [gate for gate in wanted_gates if gate not in passed]
        if missing:
            raise GateFailedError(
                what=f"the gates of version {statement.model_digest[:12]} are not proven",
                why=f"missing: {', '.join(missing)}",
                fix="make the bundle anew on the other box",
            )


def _followed_from(production: Production, leaf: Leaf, body: dict[str, Any], box: BoxCard) -> Line:
    """Return the line of this box that a promotion follows from.

    Raises:
        ConflictError: It follows from none.
    """
    line = line_here(production, body)
    if body.get("previous") != line.current:
        raise ConflictError(
            what=f"promotion at record {leaf.sequence} of {box.name} does not follow from production here",
            why=f"there {_short(body.get('previous'))} served before, here {_short(line.current)} does",
            fix="people decided on both boxes: see docs/operator/standby.md, diverged",
        )
    return line


def _short(digest: object) -> str:
    return "nothing" if digest is None else str(digest)[:12]


def _refused(why: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(
        what="what the other box decided is not taken over", why=why, fix="see docs/operator/standby.md"
    )
