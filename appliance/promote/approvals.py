"""One yes of one person: a detached OpenPGP signature over a statement's exact bytes.

Promises: a signature counts only when gpgv accepts it under the certificate that this site enrolled; nothing an
approval says of itself (person, name, fingerprint) is believed, it must match what the signature shows. Approvals are
counted by person, by fingerprint and by key material, so no way of dressing up one person as two gets past.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from appliance.errors import ApprovalRefusedError, NotEnoughApprovalsError
from appliance.promote.people import OPENPGP, SitePeople, SitePerson, from_base64, key_material
from media import canonical, openpgp
from media.errors import BadSignatureError, LimitExceededError, MalformedError

LEAST_PEOPLE: Final = 2
"""Going forward takes two people, whatever a site file says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What is kept of one person's yes, in requests, promotions and ledger."""

    person: str
    name: str
    fingerprint: str
    signature: bytes = field(repr=False)

    def to_json(self) -> dict[str, str]:
        """Return the fields as they are written."""
        return {
            "person": self.person,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "class": OPENPGP,
            "signature": base64.b64encode(self.signature).decode(),
        }

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Parse one approval; it is not verified by that.

        Raises:
            MalformedError: A field is missing or of another shape.
        """
        required = ("person", "name", "fingerprint", "class", "signature")
        fields = canonical.exact_keys(untrusted, required, what="approval")
        canonical.one_of(fields["class"], (OPENPGP,), "approval.class")
        return cls(
            person=canonical.text(fields["person"], "approval.person"),
            name=canonical.text(fields["name"], "approval.name"),
            fingerprint=canonical.text(fields["fingerprint"], "approval.fingerprint"),
            signature=from_base64(fields["signature"], "approval.signature"),
        )


def verify_signature(statement: bytes, untrusted_signature: bytes, people: Iterable[SitePerson]) -> Approval:
    """Return whose approval a signature is.

    Raises:
        ApprovalRefusedError: It is malformed, over other bytes, or by nobody among `people`.
    """
    candidates = tuple(people)
    try:
        good = openpgp.verify_detached(untrusted_signature, statement, [one.certificate for one in candidates])
    except (BadSignatureError, LimitExceededError, MalformedError) as error:
        raise _refused(f"{error.what}{f': {error.why}' if error.why else ''}") from error
    for person in candidates:
        if person.fingerprint == good.fingerprint:
            return Approval(
                person=person.id, name=person.name, fingerprint=person.fingerprint, signature=untrusted_signature
            )
    raise _refused("it was made by nobody who is enrolled here")


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
            if person.id == other.id or person.fingerprint == other.fingerprint:
                raise _refused(f"{person.name} has approved this statement already; another person must")
            if key_material(person.certificate) & key_material(other.certificate):
                raise _refused(f"{person.name} and {other.name} use the same key")
        counted.append(person)
    return tuple(counted)


def require_approved(
    statement: bytes, approvals: Sequence[Approval], people: SitePeople, *, sequence: int, threshold: int
) -> tuple[SitePerson, ...]:
    """Return the different people who approved, each signature verified again.

    Args:
        statement: The exact bytes.
        approvals: What was kept.
        people: Everyone ever enrolled at this site.
        sequence: The ledger sequence of the promotion; who was revoked before it does not count.
        threshold: How many people the site demands; never below two.

    Raises:
        ApprovalRefusedError: One approval is not what it says.
        NotEnoughApprovalsError: Fewer people than demanded.
    """
    counting = [person for person in people.people if person.is_active_at(sequence)]
    for approval in approvals:
        if verify_signature(statement, approval.signature, counting) != approval:
            raise _refused(f"it names {approval.person}, and someone else signed")
    found = require_different(approvals, people)
    demanded = max(threshold, LEAST_PEOPLE)
    if len(found) < demanded:
        raise NotEnoughApprovalsError(
            what="too few people have approved",
            why=f"{len(found)} of {demanded}",
            fix="let another person run `sealift approve DIGEST --as PERSON`",
        )
    return found


def _refused(why: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(
        what="an approval is refused",
        why=why,
        fix="an enrolled person signs the statement as `sealift approve` shows it",
    )
