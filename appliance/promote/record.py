"""One promotion as it lies in `promotions/NNNNNN.json`: made, rolled back, stopped (format 1), or a step of a rollout.

Steps of a rollout are of format 2, which adds `terms`. Whatever concerns a further line is of format 3, which adds
`line`; so is a stop that withdraws line 1 alone, because a stop without a line stops all of them.

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
from appliance.promote.terms import Terms
from appliance.stages import FIRST_LINE
from media import canonical, clock
from media.errors import MalformedError

FORMAT: Final = 1
ROLLOUT_FORMAT: Final = 2
LINE_FORMAT: Final = 3
"""Written where a further line is concerned, or line 1 alone is stopped, and nowhere else."""
MAX_BYTES: Final = 256 * 1024
BY_JUDGE: Final = "judge"
"""How a step is known that no person took."""
BY_AUTOMATION: Final = "automation"
"""How a step is known that an automation key took; there is one such step, the hold of a canary."""
JUDGE_NAME: Final = "canary-judge"
"""Who took it."""
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
_FURTHER: Final = ("terms", "line")


class Kind(StrEnum):
    """What happened to production; each value is the ledger's kind after ``promotion.``."""

    MADE = "made"
    ROLLED_BACK = "rolled-back"
    STOPPED = "stopped"
    CANARY_STARTED = "canary-started"
    CANARY_HELD = "canary-held"
    CANARY_RESUMED = "canary-resumed"
    CANARY_ABORTED = "canary-aborted"
    CUT_OVER = "cut-over"
    RETIRED = "retired"

    @property
    def event(self) -> str:
        """The kind of the ledger's leaf."""
        return f"promotion.{self}"

    @property
    def is_rollout(self) -> bool:
        """Whether it is a step of a rollout, which has terms."""
        return self not in {Kind.MADE, Kind.ROLLED_BACK, Kind.STOPPED}


EVENTS: Final = frozenset(kind.event for kind in Kind)
"""The kinds of the ledger's leaves that say what becomes of production."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """One step of production.

    Attributes:
        number: 1, 2, 3 … without gaps.
        before: SHA-256 of the file before, empty for the first.
        model_digest: What serves from now on; None after a stop.
        previous: What served until now, in the record's line; in line 1 when all are stopped.
        statement: The signed text when `kind` is made, else empty.
        person: Who went back or stopped, alone.
        person_class: How the promoter knew that person: password, or operator (a local command); judge where the
            promoter itself aborted a canary or retired a version.
        terms: Of a step of a rollout, else None.
        line: Of a record that concerns one line which is not the first; of a stop that concerns one line only. It is
            not signed, and says nothing that the chain and the signed statement do not say as well.
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
    terms: Terms | None = None
    line: int | None = None

    @property
    def format(self) -> int:
        """The format of its file."""
        if self.line is not None:
            return LINE_FORMAT
        return ROLLOUT_FORMAT if self.kind.is_rollout else FORMAT

    @property
    def stops_all(self) -> bool:
        """Whether it takes every line out of service."""
        return self.kind is Kind.STOPPED and self.line is None

    @property
    def line_number(self) -> int:
        """The number of its line; of a stop that names none, which is of every line, that of the first."""
        return FIRST_LINE if self.line is None else self.line

    @property
    def about(self) -> str:
        """The version that it is about: a rollout's, or what serves from then on; nothing for a stop."""
        return self.terms.version if self.terms else self.model_digest or ""

    @property
    def sha256(self) -> str:
        """The file's digest, which the next file holds."""
        return sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        return canonical.dumps({"format": self.format, **self.to_json()})

    def to_json(self) -> dict[str, Any]:
        """Return the fields, for answers and files."""
        own: dict[str, Any] = {
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
        if self.terms is not None:
            own["terms"] = self.terms.to_json()
        return own if self.line is None else {**own, "line": self.line}

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse a file; its approvals are not verified by that.

        Raises:
            MalformedError: It is not in its one form.
        """
        value = canonical.loads_canonical(untrusted, max_bytes=MAX_BYTES)
        fields = canonical.exact_keys(value, _FIELDS, _FURTHER, what="promotion")
        found = canonical.integer(fields["format"], "promotion.format", minimum=FORMAT, maximum=LINE_FORMAT)
        promotion = cls.from_json({name: value for name, value in fields.items() if name != "format"})
        if promotion.format != found:
            raise _malformed(promotion.number, f"{promotion.kind} is not of format {found}")
        return promotion

    @classmethod
    def from_json(cls, untrusted: Mapping[str, Any]) -> Self:
        """Parse the fields as `to_json` gives them.

        Raises:
            MalformedError: A field is missing, unknown or of another shape.
        """
        required = [name for name in _FIELDS if name != "format"]
        fields = canonical.exact_keys(dict(untrusted), required, _FURTHER, what="promotion")
        if fields.get("line", FIRST_LINE) is None:
            raise _malformed(0, "a line is a number, or it is not named")
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
            "terms": None,
            "line": None,
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
        signed = (bool(self.statement), bool(self.approvals), bool(self.requested_by))
        alone = (bool(self.person), bool(self.person_class), bool(self.reason))
        is_forward = self.kind in _FORWARD
        if len(set(signed)) > 1 or (self.kind is not Kind.CUT_OVER and signed[0] != is_forward):
            raise _malformed(self.number, "only a promotion that goes forward has a statement and approvals")
        if len(set(alone)) > 1 or alone[0] == is_forward:
            raise _malformed(self.number, "only going back or stopping is done by one person with a reason")
        if (self.model_digest is None) != (self.kind is Kind.STOPPED) and self.kind not in _BESIDE:
            raise _malformed(self.number, "a stop serves nothing, all else serves one version")
        if self.kind.is_rollout != (self.terms is not None):
            raise _malformed(self.number, "only a step of a rollout has terms")
        if self.line is not None and self.line <= FIRST_LINE and self.kind is not Kind.STOPPED:
            raise _malformed(self.number, "only a stop names the first line")


_FORWARD: Final = frozenset({Kind.MADE, Kind.CANARY_STARTED})
# A version may be retired while nothing serves.
_BESIDE: Final = frozenset({Kind.RETIRED})


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
        "terms": None if fields.get("terms") is None else Terms.from_json(fields["terms"]),
        "line": None
        if fields.get("line") is None
        else canonical.integer(fields["line"], "promotion.line", minimum=FIRST_LINE),
    }


def _optional_digest(untrusted: Any, what: str) -> str | None:
    return None if untrusted is None else canonical.sha256_hex(untrusted, f"promotion.{what}")


def _optional_text(untrusted: Any, what: str, *, most: int = 1024) -> str:
    return canonical.text(untrusted, f"promotion.{what}", most=most, may_be_empty=True)


def _malformed(number: int, why: str) -> MalformedError:
    return MalformedError(
        what=f"promotion {number} is malformed", why=why, fix="restore the promoter's folder from the ledger"
    )
