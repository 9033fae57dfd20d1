"""The statement that people sign to bring one version into production.

Promises: a statement has one byte form (RFC 8785), and people sign exactly those bytes; parsing refuses any other
form, any missing or further field, and any field of another shape. So nothing can be approved and then changed. Which
version goes away for it is signed where that is not what line 1 serves: `replaces`, in format 3.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final, Self

from appliance.errors import ApprovalRefusedError
from appliance.promote import actors
from media import canonical, clock

FORMAT: Final = 2
"""Of a statement for line 1, where it takes the place of what serves there."""
LINE_FORMAT: Final = 3
"""Of a statement for a further line, and of no other, so that a site with one model signs what it always did."""
TYPE: Final = "sealift/promotion"
MAX_BYTES: Final = 16 * 1024
_NONCE = re.compile(r"[0-9a-f]{32}")
_LONGEST_MEANING = 500
BY_RELEASE: Final = "release"
"""The signed release counts as the request: who typed it in may approve."""
BY_PERSON: Final = "person"
"""The person who requested it is not among those who approve (I3)."""
_SECOND: Final = ("request",)
_THIRD: Final = ("replaces",)
_FIELDS: Final = (
    "format",
    "type",
    "site",
    "model_digest",
    "weights_digest",
    "evidence_digest",
    "policy_digest",
    "meaning",
    "nonce",
    "requested_by",
    "requested_at",
    "expires",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What an approver says yes to. Digests are 64 hex digits, `nonce` 32; both times are whole seconds in UTC.

    Format 1 did not say what counts as the request; such a statement keeps its bytes.

    Attributes:
        replaces: Of format 3 alone: what the version's line served last, or None where it opens a line beside all
            others. Formats 1 and 2 take the place of what line 1 serves.
    """

    site: str
    model_digest: str
    weights_digest: str
    evidence_digest: str
    policy_digest: str
    meaning: str
    nonce: str
    requested_by: str
    requested_at: datetime
    expires: datetime
    request: str = BY_RELEASE
    replaces: str | None = None
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        """Return the bytes that are signed."""
        return canonical.dumps(
            {
                "format": self.format,
                **({} if self.format == 1 else {"request": self.request}),
                **({"replaces": self.replaces} if self.is_of_a_further_line else {}),
                "type": TYPE,
                "site": self.site,
                "model_digest": self.model_digest,
                "weights_digest": self.weights_digest,
                "evidence_digest": self.evidence_digest,
                "policy_digest": self.policy_digest,
                "meaning": self.meaning,
                "nonce": self.nonce,
                "requested_by": self.requested_by,
                "requested_at": clock.to_text(self.requested_at),
                "expires": clock.to_text(self.expires),
            }
        )

    @property
    def is_of_a_further_line(self) -> bool:
        """Whether people signed it for another line than the first."""
        return self.format >= LINE_FORMAT

    @property
    def sha256(self) -> str:
        """The statement's own digest, by which approvals and requests name it."""
        return sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse the signed bytes.

        Raises:
            MalformedError: It is not canonical JSON of exactly these fields, or its requester is no name.
            ApprovalRefusedError: It is of another type or format, or its nonce or meaning is not one.
        """
        value = canonical.loads_canonical(untrusted, max_bytes=MAX_BYTES)
        fields = canonical.exact_keys(value, _FIELDS, (*_SECOND, *_THIRD), what="statement")
        version = fields["format"]
        if type(version) is not int or not 1 <= version <= LINE_FORMAT or fields["type"] != TYPE:
            raise _refused("it is not a promotion statement of this format")
        if (version == 1) != (_SECOND[0] not in fields) or (version == LINE_FORMAT) != (_THIRD[0] in fields):
            raise _refused("it is not a promotion statement of this format")
        replaces = fields.get("replaces")
        nonce = canonical.text(fields["nonce"], "statement.nonce")
        if not _NONCE.fullmatch(nonce):
            raise _refused("its nonce is not 32 hex digits")
        return cls(
            site=canonical.text(fields["site"], "statement.site"),
            model_digest=canonical.sha256_hex(fields["model_digest"], "statement.model_digest"),
            weights_digest=canonical.sha256_hex(fields["weights_digest"], "statement.weights_digest"),
            evidence_digest=canonical.sha256_hex(fields["evidence_digest"], "statement.evidence_digest"),
            policy_digest=canonical.sha256_hex(fields["policy_digest"], "statement.policy_digest"),
            meaning=require_meaning(canonical.text(fields["meaning"], "statement.meaning")),
            nonce=nonce,
            requested_by=actors.require_actor(canonical.text(fields["requested_by"], "statement.requested_by")),
            requested_at=canonical.moment(fields["requested_at"], "statement.requested_at"),
            expires=canonical.moment(fields["expires"], "statement.expires"),
            request=canonical.one_of(fields.get("request", BY_RELEASE), (BY_RELEASE, BY_PERSON), "statement.request"),
            replaces=None if replaces is None else canonical.sha256_hex(replaces, "statement.replaces"),
            format=version,
        )

    def require_apart(self, *people: str) -> None:
        """Return when nobody of these requested it, or the signed release counts as the request.

        Raises:
            ApprovalRefusedError: Who requested it would approve it.
        """
        asker = actors.answerable(self.requested_by)
        if self.request == BY_PERSON and asker in people:
            how = "requested it" if asker == self.requested_by else "answers for the automation key that requested it"
            raise ApprovalRefusedError(
                what="an approval is refused",
                why=f"{asker} {how}, and at this site who requests does not approve",
                fix="let another approver approve, or another person request it",
            )


def require_meaning(untrusted: str) -> str:
    """Return the meaning (why this version goes to production), if a person could have written and can read it.

    Raises:
        ApprovalRefusedError: It is empty, too long, or holds control characters.
    """
    if not untrusted.strip() or len(untrusted) > _LONGEST_MEANING or not untrusted.isprintable():
        raise _refused(f"its meaning must be 1 to {_LONGEST_MEANING} printable characters")
    return untrusted


def _refused(why: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(what="the statement is refused", why=why, fix="request the promotion again")
