"""One promotion as it lies in `promotions/NNNNNN.json`: made, rolled back or stopped (format 1).

Promises: a file has one byte form; it carries all that is needed to verify it again without the ledger (the whole
statement and every approval), names its ledger leaf, and holds the digest of the file before it. The same function
makes it from a fresh event and from the ledger after a crash, so both give the same bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, Self

from appliance.promote.approvals import Approval
from media import canonical, clock
from media.errors import MalformedError

FORMAT: Final = 1
MAX_BYTES: Final = 256 * 1024
_FIELDS: Final = (
    "format",
    "number",
    "before",
    "kind",
    "sequence",
    "leaf_hash",
    "at",
    "model_digest",
    "previous",
    "statement",
    "approvals",
    "requested_by",
    "person",
    "class",
    "reason",
)


class Kind(StrEnum):
    """What happened to production; each value is the ledger's kind after ``promotion.``."""

    MADE = "made"
    ROLLED_BACK = "rolled-back"
    STOPPED = "stopped"

    @property
    def event(self) -> str:
        """The kind of the ledger's leaf."""
        return f"promotion.{self}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """One step of production.

    Attributes:
        number: 1, 2, 3 … without gaps.
        before: SHA-256 of the file before, empty for the first.
        model_digest: What serves from now on; None after a stop.
        previous: What served until now.
        statement: The signed text when `kind` is made, else empty.
        person: Who went back or stopped, alone.
        person_class: How the promoter knew that person: password, or operator (a local command).
    """

    number: int
    before: str
    kind: Kind
    sequence: int
    leaf_hash: str
    at: datetime
    model_digest: str | None
    previous: str | None
    statement: str = ""
    approvals: tuple[Approval, ...] = ()
    requested_by: str = ""
    person: str = ""
    person_class: str = ""
    reason: str = ""

    @property
    def sha256(self) -> str:
        """The file's digest, which the next file holds."""
        return sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        return canonical.dumps({"format": FORMAT, **self.to_json()})

    def to_json(self) -> dict[str, Any]:
        """Return the fields, for answers and files."""
        return {
            "number": self.number,
            "before": self.before,
            "kind": str(self.kind),
            "sequence": self.sequence,
            "leaf_hash": self.leaf_hash,
            "at": clock.to_text(self.at),
            "model_digest": self.model_digest,
            "previous": self.previous,
            "statement": self.statement,
            "approvals": [approval.to_json() for approval in self.approvals],
            "requested_by": self.requested_by,
            "person": self.person,
            "class": self.person_class,
            "reason": self.reason,
        }

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse a file; its approvals are not verified by that.

        Raises:
            MalformedError: It is not in its one form.
        """
        fields = canonical.exact_keys(
            canonical.loads_canonical(untrusted, max_bytes=MAX_BYTES), _FIELDS, what="promotion"
        )
        canonical.integer(fields["format"], "promotion.format", minimum=FORMAT, maximum=FORMAT)
        return cls.from_json({name: value for name, value in fields.items() if name != "format"})

    @classmethod
    def from_json(cls, untrusted: Mapping[str, Any]) -> Self:
        """Parse the fields as `to_json` gives them.

        Raises:
            MalformedError: A field is missing, unknown or of another shape.
        """
        fields = canonical.exact_keys(dict(untrusted), [name for name in _FIELDS if name != "format"], what="promotion")
        before = _optional_text(fields["before"], "before")
        promotion = cls(
            number=canonical.integer(fields["number"], "promotion.number", minimum=1),
            before=canonical.sha256_hex(before, "promotion.before") if before else "",
            kind=canonical.one_of(fields["kind"], Kind, "promotion.kind"),
            sequence=canonical.integer(fields["sequence"], "promotion.sequence"),
            leaf_hash=canonical.sha256_hex(fields["leaf_hash"], "promotion.leaf_hash"),
            at=canonical.moment(fields["at"], "promotion.at"),
            **_what_happened(fields),
        )
        promotion.require_whole()
        return promotion

    @classmethod
    def from_event(
        cls,
        kind: Kind,
        body: Mapping[str, Any],
        *,
        number: int,
        before: str,
        sequence: int,
        leaf_hash: str,
        at: datetime,
    ) -> Self:
        """Return the promotion that a ledger event records.

        Raises:
            MalformedError: The event's body is not in its form.
        """
        blank: dict[str, Any] = {
            "model_digest": None,
            "previous": None,
            "statement": "",
            "approvals": [],
            "requested_by": "",
            "person": "",
            "class": "",
            "reason": "",
        }
        known = {name: body.get(name, value) for name, value in blank.items()}
        promotion = cls(
            number=number,
            before=before,
            kind=kind,
            sequence=sequence,
            leaf_hash=leaf_hash,
            at=at,
            **_what_happened(known),
        )
        promotion.require_whole()
        return promotion

    def require_whole(self) -> None:
        """Check that each kind brings what it needs and nothing else.

        Raises:
            MalformedError: It does not.
        """
        is_made = self.kind is Kind.MADE
        alone = (self.person, self.person_class, self.reason)
        serves = self.model_digest is not None
        if is_made != bool(self.statement) or is_made != bool(self.approvals) or is_made != bool(self.requested_by):
            raise _malformed(self.number, "only a promotion that goes forward has a statement and approvals")
        if is_made == any(alone) or (not is_made and not all(alone)):
            raise _malformed(self.number, "only going back or stopping is done by one person with a reason")
        if serves == (self.kind is Kind.STOPPED):
            raise _malformed(self.number, "a stop serves nothing, all else serves one version")


def _what_happened(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model_digest": _optional_digest(fields["model_digest"], "model_digest"),
        "previous": _optional_digest(fields["previous"], "previous"),
        "statement": _optional_text(fields["statement"], "statement", most=16 * 1024),
        "approvals": tuple(
            Approval.from_json(one) for one in canonical.array(fields["approvals"], "promotion.approvals", most=16)
        ),
        "requested_by": _optional_text(fields["requested_by"], "requested_by"),
        "person": _optional_text(fields["person"], "person"),
        "person_class": _optional_text(fields["class"], "class"),
        "reason": _optional_text(fields["reason"], "reason"),
    }


def _optional_digest(untrusted: Any, what: str) -> str | None:
    return None if untrusted is None else canonical.sha256_hex(untrusted, f"promotion.{what}")


def _optional_text(untrusted: Any, what: str, *, most: int = 1024) -> str:
    return canonical.text(untrusted, f"promotion.{what}", most=most, may_be_empty=True)


def _malformed(number: int, why: str) -> MalformedError:
    return MalformedError(
        what=f"promotion {number} is malformed", why=why, fix="restore the promoter's folder from the ledger"
    )
