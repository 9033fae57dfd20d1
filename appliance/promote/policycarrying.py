"""Thresholds that two people gave the other box of a pair: taken over here when they prove it, or else held back.

Promises: nothing holds here because the other box says so. A file holds when the people that this box knows signed
exactly it, every signature verified again, no statement counts twice, and no later one is put back: neither by a record
that comes again, nor by another ledger of the same box, nor over what people of this box decided since. What cannot be
taken over is held back, by a record of its own: then the stricter of both boxes' thresholds holds here
(`appliance.promote.policybook`) until it is taken over, or until two people here sign a file of their own.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from appliance.audit.leaf import Leaf
from appliance.config import Config
from appliance.errors import ApprovalRefusedError, ConflictError
from appliance.promote.approvals import LEAST_PEOPLE, Approval, require_approved
from appliance.promote.books import Books
from appliance.promote.people import SitePeople
from appliance.promote.policy import GatePolicy, packaged
from appliance.promote.policybook import ADOPTED, HELD, PolicyBook
from appliance.promote.policychange import PolicyStatement
from appliance.promote.sitepolicy import MAX_BYTES, SitePolicy
from appliance.promote.strictness import INSTALLED, Table
from appliance.standby import carried
from appliance.standby.card import BoxCard
from media import canonical
from media.clock import from_text
from media.errors import MediaError

_MOST_APPROVALS = 16
_MOST_STATEMENT = 16 * 1024


class PolicyCarrying:
    """Takes over thresholds from the other box of a pair; one call at a time is the caller's to make sure.

    Args:
        books: People and ledger.
        config: The site file.
        release: Gives the installed release's policy.
        table: The installed release's thresholds.
    """

    def __init__(
        self,
        books: Books,
        *,
        config: Config,
        release: Callable[[], GatePolicy] = packaged,
        table: Table = INSTALLED,
    ) -> None:
        self._books = books
        self._config = config
        self._release = release
        self._table = table
        self._threshold = max(config.policy.approvals, LEAST_PEOPLE)

    def take(self, people: SitePeople, leaf: Leaf, box: BoxCard) -> bool:
        """Let a file hold here that two people gave the other box; return whether anything changed.

        Args:
            people: Everyone ever enrolled, as this box knows them.
            leaf: The proven record.
            box: Whose it is.

        Raises:
            ApprovalRefusedError: It is of another site, an approval does not verify, or it says another thing than was
                signed.
            ConflictError: People of this box decided later.
            LimitExceededError, MalformedError: This release does not read the file or the statement.
            NotEnoughApprovalsError: Fewer people approved than this site demands.
            UnknownPersonError: Somebody whose word a looser threshold rests on does not count here.
        """
        book = PolicyBook.of(self._books.ledger)
        statement = PolicyStatement.from_bytes(
            canonical.text(leaf.body.get("statement"), "statement", most=_MOST_STATEMENT).encode()
        )
        if statement.sha256 in book.statements or leaf.sequence <= book.settled.get(box.origin, -1):
            return False
        self._require_signed(people, leaf, statement)
        self._require_readable(people, statement)
        _require_later(book, statement, leaf, box)
        self._books.ledger.append(ADOPTED, carried.marked(leaf, box))
        return True

    def hold_back(self, leaf: Leaf, box: BoxCard) -> bool:
        """Let the stricter of both hold while a file of the other box cannot be taken over; return whether it is news.

        Args:
            leaf: The proven record.
            box: Whose it is.
        """
        book = PolicyBook.of(self._books.ledger)
        before = book.held.get(box.origin)
        known = max(
            book.settled.get(box.origin, -1),
            -1 if before is None else int(before.body[carried.FIELD]["sequence"]),
            carried.last_taken(self._books.ledger, (ADOPTED,), box.origin),
        )
        if leaf.sequence <= known or leaf.body.get("statement_sha256") in book.statements:
            return False
        text, name = self._text_of(leaf)
        body: dict[str, Any] = {"policy": text, "policy_sha256": sha256(text.encode()).hexdigest(), "name": name}
        self._books.ledger.append(HELD, {**body, carried.FIELD: carried.marked(leaf, box)[carried.FIELD]})
        return True

    def _text_of(self, leaf: Leaf) -> tuple[str, str]:
        # What this release cannot read is kept all the same, and closes the gates; what is no text is kept as none.
        text = ""
        try:
            text = canonical.text(leaf.body.get("policy"), "policy", most=MAX_BYTES, lines=True)
            return text, SitePolicy.of_earlier(text.encode(), table=self._table).name
        except MediaError:
            return text, "a file that this release cannot read"

    def _require_signed(self, people: SitePeople, leaf: Leaf, statement: PolicyStatement) -> None:
        if statement.site != self._config.site:
            raise _refused(f"it is of {statement.site}")
        said = (leaf.body.get("policy"), leaf.body.get("release_sha256"), leaf.body.get("statement_sha256"))
        if said != (statement.policy, statement.release_sha256, statement.sha256):
            raise _refused("it says another file than was signed")
        # When a box took it over from a third one, its record bears that moment; it judged the first one's then.
        if not carried.origin_of(leaf.body) and from_text(leaf.time) > statement.expires:
            raise _refused("it was said to hold after the statement had expired")
        untrusted = canonical.array(leaf.body.get("approvals"), "approvals", most=_MOST_APPROVALS)
        approvals = [Approval.from_json(one) for one in untrusted]
        require_approved(
            statement.to_bytes(),
            approvals,
            people,
            sequence=self._books.ledger.head().size,
            threshold=self._threshold,
            counting=self._config.policy.classes,
        )
        if not self._config.release_is_request and statement.requested_by in {one.person for one in approvals}:
            raise _refused("who asked for it approved it, and at this site who asks does not approve")

    def _require_readable(self, people: SitePeople, statement: PolicyStatement) -> None:
        file = SitePolicy.of_earlier(statement.policy.encode(), table=self._table)
        for word in file.overrides.values():
            people.require_active(word.person)
        if file.thresholds and not file.dropped:  # a dropped one holds, as there, and closes the gates here, too
            file.over(self._release(), signed_over=statement.release_sha256)


def _require_later(book: PolicyBook, statement: PolicyStatement, leaf: Leaf, box: BoxCard) -> None:
    """The other box's own order is proven; against what came from elsewhere the time that people signed decides."""
    last = book.adopted
    if last is None or carried.origin_of(last.body) == box.origin:
        return
    newest = PolicyStatement.from_bytes(str(last.body.get("statement", "")).encode())
    if statement.requested_at <= newest.requested_at:
        raise ConflictError(
            what=f"the policy at record {leaf.sequence} of {box.name} is older than what holds here",
            why=f"people asked for it at {statement.requested_at:%Y-%m-%d %H:%M}, and for this box's own later",
            fix="two people bring in, on this box, what is to hold: `sealift policy import`",
        )


def _refused(why: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(
        what="thresholds of the other box are not taken over", why=why, fix="see docs/operator/standby.md"
    )
