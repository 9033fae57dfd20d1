"""How a person becomes one of the site's people, and stops being one.

Promises: the first people enrol with codes that are issued once, while nobody is enrolled; after that a code takes the
passwords of two others (`appliance.promote.vouching`). Until a second person was ever enrolled, the one who is may have
the first codes replaced, since after a lost one there would be no two. An enrolment counts when the ledger has
acknowledged it. Nobody is ever deleted: a revoked person's old approvals keep their force, new ones have none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.errors import CodeRefusedError, ConflictError, LedgerUnavailableError
from appliance.promote import peoplebook
from appliance.promote.accepting import Acceptance
from appliance.promote.approvals import LEAST_PEOPLE
from appliance.promote.books import Books
from appliance.promote.classes import OPENPGP, PASSWORD_TOTP, PKCS11
from appliance.promote.credentials import Credential
from appliance.promote.passwords import CodeBook, Passwords, Purpose
from appliance.promote.people import ADMIN, APPROVER, FIRST_ROLES, ROLES, SitePeople, SitePerson, id_from
from appliance.promote.peoplebook import ENROLLED, RENEWED, REVOKED, person_from
from appliance.promote.relyingparty import Registrations
from appliance.promote.secondfactor import SecondFactors
from appliance.promote.vouching import Voucher, Vouching
from media import canonical
from media.errors import UsageError

MOST_CODES: Final = 8
LONGEST_REASON: Final = 500
ISSUED: Final = "person.codes-issued"
_FOR_ADMINS: Final = Purpose(roles=(ADMIN,))
_MORE_PEOPLE: Final = "two of them run `sealift people invite`"
_LOST_CODE: Final = "where a code was lost: `sealift people codes --by` the one who is enrolled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What somebody enrols with, of any number of classes: each is one more way to approve."""

    certificate: bytes = b""
    token_key: bytes = b""
    registration: Mapping[str, Any] | None = None
    with_totp: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """Who was enrolled, and what is shown once: the address for the person's app, the code to print and seal."""

    person: SitePerson
    totp_address: str = field(default="", repr=False)
    printed_code: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Where the promoter keeps what people know and have."""

    codes: CodeBook
    passwords: Passwords
    factors: SecondFactors


class Enrolment:
    """Codes, enrolments, revocations and passwords of one site."""

    def __init__(
        self,
        books: Books,
        secrets: Secrets,
        *,
        vouching: Vouching,
        registrations: Registrations,
        acceptance: Acceptance,
        counting: Sequence[str],
    ) -> None:
        self._books = books
        self._codes = secrets.codes
        self._passwords = secrets.passwords
        self._factors = secrets.factors
        self._vouching = vouching
        self.registrations = registrations
        self._acceptance = acceptance
        self._counting = tuple(counting)
        books.on_enrolled = self._finish

    def issue_codes(self, count: int, *, admins: int = 0) -> tuple[str, ...]:
        """Return the first codes, those for admins last; earlier ones end.

        Raises:
            ConflictError: Someone is enrolled already.
            CodeRefusedError: The count is not 2 to 8, or this site's people are admins and approvers both.
        """
        if not LEAST_PEOPLE <= count <= MOST_CODES or not 0 <= admins <= MOST_CODES:
            raise CodeRefusedError(
                what=f"{count} codes cannot be issued",
                why=f"{LEAST_PEOPLE} to {MOST_CODES}",
                fix="give another --count",
            )
        if admins and not self._vouching.separates:
            raise CodeRefusedError(
                what="there are no codes for admins at this site",
                why="its profile has two people who are admins and approvers both",
                fix="leave --admins out",
            )
        people, _ = self._books.catch_up()
        if people.people:
            raise ConflictError(
                what="the first codes were issued",
                why=f"{len(people.people)} people are enrolled",
                fix=_MORE_PEOPLE if len(people.people) > 1 else _LOST_CODE,
            )
        self._books.ledger.append(ISSUED, {"count": count, **({"admins": admins} if admins else {})})
        first = self._codes.issue(count)
        if not admins:
            return first
        return (*first, *self._codes.issue(admins, keep_others=True, purpose=_FOR_ADMINS))

    def replace_codes(self, voucher: Voucher) -> tuple[tuple[str, ...], int]:
        """Return new codes in place of the first ones that are left, and how many of them, the last, are for admins.

        Raises:
            ConflictError: Nobody is enrolled, or a second person was: then two vouch.
            UnknownPersonError: It is not the one who is enrolled, or the password is wrong.
        """
        people, _ = self._books.catch_up()
        if len(people.people) != 1:
            raise ConflictError(
                what="the first codes are not replaced",
                why=f"{len(people.people)} people were enrolled, and they are while it is one",
                fix=_MORE_PEOPLE if people.people else "sealift people codes",
            )
        who = people.require_active(voucher.person)
        self._passwords.require(who.id, voucher.password)
        # Nothing but first codes can be left, since every other takes two who vouch.
        left = self._codes.left(Purpose()) or 1
        admins = self._codes.left(_FOR_ADMINS)
        count = {"count": left, **({"admins": admins} if admins else {})}
        self._books.ledger.append(ISSUED, {**count, "by": [who.id]})
        self._codes.end(Purpose())
        self._codes.end(_FOR_ADMINS)
        first = self._codes.issue(left, keep_others=True)
        return (*first, *self._codes.issue(admins, keep_others=True, purpose=_FOR_ADMINS)), admins

    def invite(self, vouchers: Sequence[Voucher], *, role: str = "") -> str:
        """Return one more code, by the passwords of two different people, for a role or the profile's own.

        Raises:
            ApprovalRefusedError: They are not two, or may not.
            UnknownPersonError: One is not enrolled, or a password is wrong.
        """
        people, _ = self._books.catch_up()
        roles = () if not role else self._vouching.require_roles(_all_of(role))
        names = self._vouching.require_two(people, vouchers)
        self._books.ledger.append("person.invited", {"by": names, **({"roles": list(roles)} if roles else {})})
        return self._codes.issue(1, keep_others=True, purpose=Purpose(roles=roles))[0]

    def enrol(self, *, code: str, name: str, password: str, brought: Brought, person: str = "") -> Enrolled:
        """Enrol one person by a code, or give a person whose keys were reset new ones.

        Raises:
            ApprovalRefusedError: The security key is refused.
            CodeRefusedError: The code or the password is refused.
            ConflictError: The id, name, fingerprint or key belongs to someone else.
            MalformedError: A key, the name or the id is not in its form.
            UsageError: An approver brings nothing to approve with.
        """
        people, _ = self._books.catch_up()
        try:
            code_id, purpose = self._codes.require(code)
        except CodeRefusedError:
            self._note_wrong_code()
            raise
        who = person or id_from(name)
        if purpose.person:
            return self._renew(people, code_id, purpose, who=who, password=password, brought=brought)
        roles = purpose.roles or (FIRST_ROLES if self._vouching.separates else ROLES)
        credentials, counters = self._credentials(brought)
        _require_enough(roles, credentials, brought)
        body = peoplebook.enrolment(person=who, name=name, roles=roles, credentials=credentials)
        people.with_person(person_from(body, enrolled=people.sequence + 1))
        address = self._keep(who, password, brought, credentials, counters)
        body |= {"credentials": [peoplebook.plain(one) for one in credentials], "code": code_id}
        printed = self._print(who)
        done = self._books.ledger.append(ENROLLED, body)
        enrolled = person_from(body, enrolled=done.sequence)
        self._books.folder.save_people(people.with_person(enrolled))
        self._finish(body)
        return Enrolled(person=enrolled, totp_address=address, printed_code=printed)

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

    def login(self, person: str, password: str, *, at: str = "") -> SitePerson:
        """Return the person whose password this is; `at` as `Passwords.require` has it.

        Raises:
            UnknownPersonError: Not enrolled, revoked, or the password is wrong.
        """
        try:
            people, _ = self._books.catch_up()
        except LedgerUnavailableError:
            people = self._books.folder.people()  # whoever looks meanwhile changes nothing: that takes the ledger
        found = people.require_active(person)
        self._passwords.require(found.id, password, at=at)
        return found

    def _renew(
        self, people: SitePeople, code_id: str, purpose: Purpose, *, who: str, password: str, brought: Brought
    ) -> Enrolled:
        found = people.require_active(purpose.person)
        if who != found.id:
            raise CodeRefusedError(
                what="the enrolment code is refused", why=f"it is for {found.name}", fix=f"give the id {found.id}"
            )
        credentials, counters = self._credentials(brought)
        _require_enough(found.roles, credentials, brought)
        people.with_credentials(found.id, credentials, people.sequence + 1)
        address = self._keep(found.id, password, brought, credentials, counters)
        body = {
            "format": peoplebook.FORMAT,
            "person": found.id,
            "credentials": [peoplebook.plain(one) for one in credentials],
            "code": code_id,
        }
        printed = self._print(found.id)
        done = self._books.ledger.append(RENEWED, body)
        after = peoplebook.after(people, RENEWED, body, done.sequence)
        self._books.folder.save_people(after)
        self._finish(body)
        return Enrolled(person=after.require_active(found.id), totp_address=address, printed_code=printed)

    def _credentials(self, brought: Brought) -> tuple[list[Credential], dict[str, int]]:
        made, counters = [], {}
        if brought.certificate:
            made.append(Credential.of(OPENPGP, brought.certificate))
        if brought.token_key:
            made.append(Credential.of(PKCS11, brought.token_key))
        if brought.registration is not None:
            key, counter = self.registrations.require(dict(brought.registration))
            made.append(key)
            counters[key.fingerprint] = counter
        if brought.with_totp and PASSWORD_TOTP not in self._counting:
            raise UsageError(
                what="password and one-time code do not count at this site",
                why="policy.classes of the site file does not name password-totp",
                fix="enrol with a key, or change the site file",
            )
        return made, counters

    def _keep(
        self, who: str, password: str, brought: Brought, credentials: list[Credential], counters: dict[str, int]
    ) -> str:
        """Keep password, counters and the sealed key, whose public half joins `credentials`; return its address."""
        self._passwords.set(who, password)
        for fingerprint, counter in counters.items():
            self._acceptance.keep_counter(fingerprint, counter)
        if not brought.with_totp:
            return ""
        made = self._factors.make(who, password)
        credentials.append(made.credential)
        return made.address

    def _print(self, who: str) -> str:
        """Return a code to print and seal, by which the other person alone can allow a reset; at small sites only."""
        if self._vouching.separates:
            return ""
        purpose = Purpose(person=who, is_printed=True)
        self._codes.end(purpose)
        return self._codes.issue(1, keep_others=True, purpose=purpose)[0]

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


def _all_of(role: str) -> tuple[str, ...]:
    return FIRST_ROLES if role == APPROVER else (role,)


def _require_enough(roles: Sequence[str], credentials: Sequence[Credential], brought: Brought) -> None:
    if APPROVER in roles and not credentials and not brought.with_totp:
        raise UsageError(
            what="an approver needs something to approve with",
            why="no OpenPGP certificate, security key or key on a token was given",
            fix="give one of them",
        )
