"""How a person becomes one of the site's people, and stops being one.

Promises: the first people enrol with codes that are issued once, while nobody is enrolled; after that a code takes the
passwords of two different people. An enrolment counts when the ledger has acknowledged it. Nobody is ever deleted: a
revoked person's old approvals keep their force, new ones have none.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from argon2 import PasswordHasher

from appliance.errors import ApprovalRefusedError, CodeRefusedError, ConflictError, LedgerUnavailableError
from appliance.promote.approvals import LEAST_PEOPLE
from appliance.promote.books import ENROLLED, REVOKED, Books
from appliance.promote.passwords import CodeBook, Passwords
from appliance.promote.people import OPENPGP, ROLES, SitePerson, id_from, person_from
from media import canonical
from media.clock import Clock

MOST_CODES: Final = 8
LONGEST_REASON: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Voucher:
    """One enrolled person who says yes to a further code."""

    person: str
    password: str = field(repr=False)


class Enrolment:
    """Codes, enrolments, revocations and passwords of one site."""

    def __init__(self, books: Books, clock: Clock, hasher: PasswordHasher) -> None:
        self._books = books
        self._codes = CodeBook(books.folder, clock, hasher)
        self._passwords = Passwords(books.folder, clock, hasher)
        books.on_enrolled = self._finish

    def issue_codes(self, count: int) -> tuple[str, ...]:
        """Return the first codes; earlier ones end.

        Raises:
            ConflictError: Someone is enrolled already.
            CodeRefusedError: The count is not 2 to 8.
        """
        if not LEAST_PEOPLE <= count <= MOST_CODES:
            raise CodeRefusedError(
                what=f"{count} codes cannot be issued",
                why=f"{LEAST_PEOPLE} to {MOST_CODES}",
                fix="give another --count",
            )
        people, _ = self._books.catch_up()
        if people.people:
            raise ConflictError(
                what="the first codes were issued",
                why=f"{len(people.people)} people are enrolled",
                fix="two of them run `sealift people invite`",
            )
        self._books.ledger.append("person.codes-issued", {"count": count})
        return self._codes.issue(count)

    def invite(self, vouchers: Sequence[Voucher]) -> str:
        """Return one more code, by the passwords of two different people.

        Raises:
            ApprovalRefusedError: They are not two.
            UnknownPersonError: One is not enrolled, or a password is wrong.
        """
        people, _ = self._books.catch_up()
        names = sorted({people.require_active(voucher.person).id for voucher in vouchers})
        if len(names) < LEAST_PEOPLE:
            raise ApprovalRefusedError(
                what="a further code takes two people",
                why=f"{len(names)} gave a password",
                fix="give two different --by",
            )
        for voucher in vouchers:
            self._passwords.require(voucher.person, voucher.password)
        self._books.ledger.append("person.invited", {"by": names})
        return self._codes.issue(1, keep_others=True)[0]

    def enrol(self, *, code: str, name: str, certificate: bytes, password: str, person: str = "") -> SitePerson:
        """Enrol one person by a code.

        Raises:
            CodeRefusedError: The code or the password is refused.
            ConflictError: The id, name, fingerprint or key belongs to someone else.
            MalformedError: The certificate, the name or the id is not in its form.
        """
        people, _ = self._books.catch_up()
        try:
            code_id = self._codes.require(code)
        except CodeRefusedError:
            self._note_wrong_code()
            raise
        body: dict[str, Any] = {
            "person": person or id_from(name),
            "name": name,
            "fingerprint": "",
            "certificate": base64.b64encode(certificate).decode(),
            "roles": list(ROLES),
            "class": OPENPGP,
            "code": code_id,
        }
        wanted = person_from(body, enrolled=people.sequence + 1)
        body["fingerprint"] = wanted.fingerprint
        people.with_person(wanted)
        self._passwords.set(wanted.id, password)
        done = self._books.ledger.append(ENROLLED, body)
        enrolled = person_from(body, enrolled=done.sequence)
        self._books.folder.save_people(people.with_person(enrolled))
        self._finish(body)
        return enrolled

    def revoke(self, *, person: str, by: str, password: str, reason: str) -> None:
        """Take a person's rights away from now on; any one enrolled person may, with a reason.

        Raises:
            UnknownPersonError: One of the two is not enrolled, or the password is wrong.
            MalformedError: The reason is not one.
        """
        people, _ = self._books.catch_up()
        gone = people.require_active(person)
        who = people.require_active(by)
        self._passwords.require(who.id, password)
        body = {"person": gone.id, "name": gone.name, "by": who.id, "reason": require_reason(reason)}
        done = self._books.ledger.append(REVOKED, body)
        self._books.folder.save_people(people.with_revocation(gone.id, done.sequence))

    def login(self, person: str, password: str) -> SitePerson:
        """Return the person whose password this is.

        Raises:
            UnknownPersonError: Not enrolled, revoked, or the password is wrong.
        """
        found = self._books.folder.people().require_active(person)
        self._passwords.require(found.id, password)
        return found

    def _finish(self, body: dict[str, Any]) -> None:
        self._codes.use(str(body.get("code", "")))

    def _note_wrong_code(self) -> None:
        try:
            self._books.ledger.append("person.code-refused", {"count": 1})
        except LedgerUnavailableError:
            return  # the refusal stands without its record


def require_reason(untrusted: str) -> str:
    """Return a reason that a person wrote and another can read.

    Raises:
        MalformedError: It is empty, too long or not printable.
    """
    return canonical.text(untrusted.strip(), "reason", most=LONGEST_REASON)
