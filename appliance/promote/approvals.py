"""One yes of one person: a signature over a statement's exact bytes, of one of `appliance.promote.classes`.

Promises: a signature counts only when it holds under a credential that this site enrolled for an approver; nothing an
approval says of itself (person, name, fingerprint, why it is of a lower class) is believed, it must match what the
signature and the enrolment show. Approvals are counted by person, by fingerprint and by key material, so no way of
dressing up one person as two gets past. When it was given is the promoter's word (21 CFR 11.50(a)(2)).
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Self

from appliance.errors import ApprovalRefusedError, NotEnoughApprovalsError
from appliance.promote import base64text, classes
from appliance.promote.assertion import Assertion
from appliance.promote.classes import CLASSES, LOWER_REASONS, OPENPGP, WEBAUTHN
from appliance.promote.credentials import Credential
from appliance.promote.people import ADMIN, APPROVER, SitePeople, SitePerson
from media import canonical, clock, limits, openpgp
from media.errors import BadSignatureError, LimitExceededError, MalformedError

FORMAT: Final = 2
LEAST_PEOPLE: Final = 2
"""Going forward takes two people, whatever a site file says."""
NOW: Final = limits.INTEGER_MAX
"""After every record of the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What is kept of one person's yes, in requests, promotions and ledger.

    Attributes:
        approves_by: The class.
        at: When the promoter took it; None in approvals of format 1, which did not keep it.
        lower: Why it is of a lower class, of `LOWER_REASONS`; empty when it is not.
    """

    person: str
    name: str
    fingerprint: str
    signature: bytes = field(repr=False)
    approves_by: str = OPENPGP
    at: datetime | None = None
    lower: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The name as it is shown to people: with why the approval is of a lower class."""
        return classes.shown(self.name, self.lower)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as they are written; what format 1 could say is written as that."""
        known = {
            "person": self.person,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "class": self.approves_by,
            "signature": base64text.encode(self.signature),
        }
        if self.at is None:
            return known
        return {"format": FORMAT, **known, "at": clock.to_text(self.at), "lower": list(self.lower)}

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Parse one approval, of format 2 or 1; it is not verified by that.

        Raises:
            MalformedError: A field is missing or of another shape.
        """
        required = ("person", "name", "fingerprint", "class", "signature")
        fields = canonical.mapping(untrusted, "approval")
        is_first = "format" not in fields
        canonical.exact_keys(fields, required if is_first else ("format", *required, "at", "lower"), what="approval")
        if not is_first:
            canonical.integer(fields["format"], "approval.format", minimum=FORMAT, maximum=FORMAT)
        reasons = [] if is_first else canonical.array(fields["lower"], "approval.lower", most=len(LOWER_REASONS))
        return cls(
            person=canonical.text(fields["person"], "approval.person"),
            name=canonical.text(fields["name"], "approval.name"),
            fingerprint=canonical.text(fields["fingerprint"], "approval.fingerprint"),
            approves_by=canonical.one_of(fields["class"], (OPENPGP,) if is_first else CLASSES, "approval.class"),
            signature=base64text.decode(fields["signature"], "approval.signature"),
            at=None if is_first else canonical.moment(fields["at"], "approval.at"),
            lower=tuple(canonical.one_of(one, LOWER_REASONS, "approval.lower") for one in reasons),
        )


def signature_of(
    statement: bytes,
    untrusted_signature: bytes,
    people: Iterable[SitePerson],
    *,
    approves_by: str = OPENPGP,
    at: datetime | None = None,
    sequence: int = NOW,
) -> tuple[SitePerson, Approval]:
    """Return who made a signature, and what it is, whatever the person may do here.

    Args:
        statement: The exact bytes.
        untrusted_signature: As the class has it; see `appliance.promote.credentials`.
        people: Who may have made it.
        approves_by: The class.
        at: When it was taken.
        sequence: The place in the ledger by which roles and credentials are judged; by default the present.

    Raises:
        ApprovalRefusedError: It is malformed, over other bytes, or by nobody among `people`.
    """
    candidates = [
        (person, credential)
        for person in people
        for credential in person.credentials_at(sequence)
        if credential.approves_by == approves_by
    ]
    try:
        person, credential = _signer(statement, untrusted_signature, candidates, approves_by)
    except (BadSignatureError, LimitExceededError, MalformedError) as error:
        raise _refused(f"{error.what}{f': {error.why}' if error.why else ''}") from error
    return person, Approval(
        person=person.id,
        name=person.name,
        fingerprint=credential.fingerprint,
        signature=untrusted_signature,
        approves_by=approves_by,
        at=at,
        lower=() if at is None else lower_of(person, approves_by, sequence),
    )


def verify_signature(
    statement: bytes,
    untrusted_signature: bytes,
    people: Iterable[SitePerson],
    *,
    approves_by: str = OPENPGP,
    at: datetime | None = None,
    sequence: int = NOW,
) -> Approval:
    """Return whose approval a signature is: as `signature_of`, of an approver alone.

    Raises:
        ApprovalRefusedError: It is malformed, over other bytes, or by no approver among `people`.
    """
    person, approval = signature_of(
        statement, untrusted_signature, people, approves_by=approves_by, at=at, sequence=sequence
    )
    if not person.has_role_at(APPROVER, sequence):
        raise _refused(f"{person.name} is no approver here")
    return approval


def lower_of(person: SitePerson, approves_by: str, sequence: int = NOW) -> tuple[str, ...]:
    """Return why an approval of this class by a person is of a lower class."""
    return classes.lower_reasons(approves_by, is_admin=person.has_role_at(ADMIN, sequence))


def require_different(approvals: Sequence[Approval], people: SitePeople) -> tuple[SitePerson, ...]:
    """Return the people behind approvals when no two are one.

    Raises:
        ApprovalRefusedError: A person, a fingerprint or a key occurs twice, or someone is not enrolled.
    """
    by_id = {person.id: person for person in people.people}
    counted: list[SitePerson] = []
    for approval in approvals:
        person = by_id.get(approval.person)
        if person is None:
            raise _refused(f"{approval.person} is not enrolled here")
        for other in counted:
            if person.id == other.id:
                raise _refused(f"{person.name} has approved this statement already; another person must")
            if _materials(person) & _materials(other):
                raise _refused(f"{person.name} and {other.name} use the same key")
        counted.append(person)
    return tuple(counted)


def require_approved(
    statement: bytes,
    approvals: Sequence[Approval],
    people: SitePeople,
    *,
    sequence: int,
    threshold: int,
    counting: Collection[str] = CLASSES,
) -> tuple[SitePerson, ...]:
    """Return the different people who approved, each signature verified again.

    Args:
        statement: The exact bytes.
        approvals: What was kept.
        people: Everyone ever enrolled at this site.
        sequence: The ledger sequence of the promotion; who was revoked before it does not count.
        threshold: How many people the site demands; never below two.
        counting: The classes that count at the site; approvals of others are verified and left out.

    Raises:
        ApprovalRefusedError: One approval is not what it says.
        NotEnoughApprovalsError: Fewer people than demanded.
    """
    active = [person for person in people.people if person.is_active_at(sequence)]
    for approval in approvals:
        shown = verify_signature(
            statement,
            approval.signature,
            active,
            approves_by=approval.approves_by,
            at=approval.at,
            sequence=sequence,
        )
        if shown != approval:
            raise _refused(f"it names {approval.person}, and someone else signed, or in another way")
    found = require_different([one for one in approvals if one.approves_by in counting], people)
    demanded = max(threshold, LEAST_PEOPLE)
    if len(found) < demanded:
        raise NotEnoughApprovalsError(
            what="too few people have approved",
            why=f"{len(found)} of {demanded}",
            fix="let another person run `sealift approve DIGEST --as PERSON`",
        )
    return found


def still_counting(
    approvals: Iterable[Approval], people: SitePeople, *, counting: Collection[str] = CLASSES
) -> tuple[Approval, ...]:
    """Return those approvals whose person, role and credential count now, of the class that they would be of now.

    Args:
        approvals: What was kept.
        people: Everyone ever enrolled.
        counting: The classes that count at the site; whose approval is of another approves again by one of these.

    A reset, a revocation or another role voids what waits of that person, and nothing that others signed; so does a
    reset after which the person enrolled with the same key again: somebody else may have had it. Who became an
    admin too, or is none any more, approves again: what was kept says of itself what does not hold, and no record may.
    """
    approvers = {person.id: person for person in people.active if APPROVER in person.roles}
    of_here = (one for one in approvals if one.approves_by in counting and one.person in approvers)
    return tuple(one for one in of_here if _is_as_now(one, approvers[one.person]))


def _signer(
    statement: bytes, untrusted_signature: bytes, candidates: list[tuple[SitePerson, Credential]], approves_by: str
) -> tuple[SitePerson, Credential]:
    if approves_by == OPENPGP:
        good = openpgp.verify_detached(untrusted_signature, statement, [one.key for _, one in candidates])
        candidates = [(person, one) for person, one in candidates if one.fingerprint == good.fingerprint]
        if candidates:
            return candidates[0]
    if approves_by == WEBAUTHN:
        named = Assertion.from_bytes(untrusted_signature).credential_id
        candidates = [(person, one) for person, one in candidates if one.credential_id == named]
    refused: BadSignatureError | None = None
    for person, credential in candidates:
        try:
            credential.require(statement, untrusted_signature)
        except BadSignatureError as error:
            refused = error
            continue
        return person, credential
    raise refused or BadSignatureError(what="it was made by nobody who is enrolled here", why="", fix="")


def _is_as_now(approval: Approval, person: SitePerson) -> bool:
    is_as_kept = approval.at is None or approval.lower == lower_of(person, approval.approves_by)
    # None was taken between a reset and then; see `appliance.promote.accepting`.
    since = person.counts_from
    is_of_before = since is not None and (approval.at is None or approval.at < since)
    return is_as_kept and not is_of_before and any(one.fingerprint == approval.fingerprint for one in person.present)


def _materials(person: SitePerson) -> frozenset[str]:
    return frozenset().union(*(one.material for one in person.credentials))


def _refused(why: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(
        what="an approval is refused",
        why=why,
        fix="an enrolled person signs the statement as `sealift approve` shows it",
    )
