"""A request that waits is withdrawn: nobody approves or promotes it any more, and its place is free.

withdraw{statement_sha256,person,reason,password?} -> {sequence}

Promises: one enrolled person is enough, as for a stop, since nothing comes forward by it; the record decides, so a file
that a crash left behind counts no more.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from appliance.audit.facts import Ledger
from appliance.errors import ApprovalRefusedError
from appliance.promote.books import Books
from appliance.promote.enrolment import require_reason
from appliance.promote.statement import Statement
from appliance.wire import Peer
from media import canonical

WITHDRAWN: Final = "approval.request-withdrawn"

Fields = Mapping[str, Any]
Answer = Callable[[Peer, Fields], dict[str, Any]]
ClassOf = Callable[[Peer, Fields], str]


class Waiting(Protocol):
    """A request that waits."""

    @property
    def statement(self) -> Statement:
        """What people are asked to sign."""
        ...


def is_withdrawn(ledger: Ledger, statement_sha256: str) -> bool:
    """Tell whether somebody withdrew a request."""
    return bool(ledger.find(kind=WITHDRAWN, field="statement_sha256", value=statement_sha256, limit=1))


def answers(books: Books, pending: Callable[[], Iterable[Waiting]], class_of: ClassOf) -> dict[str, Answer]:
    """Return what answers the message.

    Args:
        books: People, the ledger, and the requests' files.
        pending: The requests that wait.
        class_of: Proves who decides, by the door or by a password; raises where it cannot.
    """

    def withdraw(peer: Peer, untrusted: Fields) -> dict[str, Any]:
        person = canonical.text(untrusted.get("person"), "person")
        known = class_of(peer, untrusted)
        people, _ = books.catch_up()
        who = people.require_active(person)
        digest = canonical.sha256_hex(untrusted.get("statement_sha256"), "statement_sha256")
        reason = require_reason(canonical.text(untrusted.get("reason"), "reason"))
        request = next((one for one in pending() if one.statement.sha256 == digest), None)
        if request is None:
            raise ApprovalRefusedError(
                what="no request of this digest waits here",
                why="it was promoted or withdrawn, it has expired, or production, gates or policy changed since",
                fix="see `sealift history`",
            )
        body = {"model_digest": request.statement.model_digest, "statement_sha256": digest}
        done = books.ledger.append(WITHDRAWN, {**body, "person": who.id, "class": known, "reason": reason})
        books.folder.drop_request(digest)
        return {"sequence": done.sequence}

    return {"withdraw": withdraw}
