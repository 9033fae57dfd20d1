"""What changes of the host, of the clock and of the gates' policy share: a statement that waits, and approvals for it.

Promises: a statement is read as exactly one type and format, with a nonce of its own; the ledger knows of each request
and of each approval before a file says it; the caller makes sure that one call runs at a time.
"""

import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, TypeVar

from appliance.config import Config
from appliance.errors import ApprovalRefusedError
from appliance.promote.accepting import Acceptance
from appliance.promote.approvable import Approvable
from appliance.promote.approvals import LEAST_PEOPLE, Approval, still_counting
from appliance.promote.books import Books
from appliance.promote.people import SitePeople
from media import canonical
from media.clock import Clock

FORMAT: Final = 1
HEX32: Final = re.compile(r"[0-9a-f]{32}")
_NONCE_BYTES: Final = 16

RequestT = TypeVar("RequestT", bound=Approvable[Any])


def new_nonce() -> str:
    """Return 32 hex digits that nobody can know before."""
    return secrets.token_hex(_NONCE_BYTES)


def fields_of(
    untrusted: bytes,
    names: Sequence[str],
    *,
    of_type: str,
    max_bytes: int,
    refused: Callable[[str], ApprovalRefusedError],
) -> Mapping[str, Any]:
    """Return the fields of a statement of one type.

    Args:
        untrusted: The signed bytes.
        names: The fields that it has, all of them; `format`, `type` and `nonce` are among them.
        of_type: What `type` must say.
        max_bytes: How long it may be.
        refused: Makes the error from why.

    Raises:
        MalformedError: It is not canonical JSON of exactly these fields.
        ApprovalRefusedError: It is of another type or format, or its nonce is none.
    """
    fields = canonical.exact_keys(canonical.loads_canonical(untrusted, max_bytes=max_bytes), names, what="statement")
    if fields["format"] != FORMAT or fields["type"] != of_type:
        raise refused(f"it is no statement of type {of_type} of this format")
    if not HEX32.fullmatch(canonical.text(fields["nonce"], "statement.nonce")):
        raise refused("its nonce is not 32 hex digits")
    return fields


class Changes(ABC, Generic[RequestT]):
    """The promoter's part of one kind of change.

    Args:
        books: People and ledger.
        config: The site file.
        clock: By which a request expires.
        acceptance: What an approval has to be.
    """

    FOLDER: ClassVar[str]
    """Where the requests' files are, below the promoter's folder (HOST-2)."""

    def __init__(self, books: Books, *, config: Config, clock: Clock, acceptance: Acceptance) -> None:
        self._books = books
        self._acceptance = acceptance
        self._config = config
        self._folder: Path = books.folder.path / self.FOLDER
        self._clock = clock
        self._threshold = max(config.policy.approvals, LEAST_PEOPLE)

    @abstractmethod
    def pending(self) -> tuple[RequestT, ...]:
        """Return the requests that can still be approved, the oldest first, each with the approvals that count now."""

    def _counting(self, request: RequestT) -> RequestT:
        """Return a request as it stands now: without the approvals of who left, was reset or approves no more."""
        people, classes = self._books.folder.people(), self._config.policy.classes
        return replace(request, approvals=still_counting(request.approvals, people, counting=classes))

    def _waiting_for(self, statement_sha256: str, refused: ApprovalRefusedError) -> tuple[SitePeople, RequestT]:
        """Return people and the request that waits under a digest, or raise `refused`."""
        people, _ = self._books.catch_up()
        request = next((one for one in self.pending() if one.statement.sha256 == statement_sha256), None)
        if request is None:
            raise refused
        return people, request

    def _asked(self, request: RequestT, kind: str, requested_by: str, **body: Any) -> RequestT:
        """Record a request, keep its file, and return it."""
        statement = request.statement
        said = {"statement": statement.to_bytes().decode(), "statement_sha256": statement.sha256}
        self._books.ledger.append(kind, {**body, **said, "requested_by": requested_by})
        request.save(self._folder)
        return request

    def _given(self, updated: RequestT, kind: str, approval: Approval, **body: Any) -> RequestT:
        """Record an approval, keep the request's file, and return the request."""
        self._books.ledger.append(kind, {**body, "statement_sha256": updated.statement.sha256, **approval.to_json()})
        updated.save(self._folder)
        return updated
