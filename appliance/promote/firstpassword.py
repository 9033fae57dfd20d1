"""A password for somebody who is one of the site's people and has none on this box: by a signature with their own key.

People come to a box from another one, or by a move of records, without what they know: a password leaves no box. Where
the other box is gone, nobody could vouch for anybody. So whoever holds the key that the site counts as a person's says
with it that a password may be set, once, and only while there is none.

Promises: the statement is made by this process for one person, held in memory, and good for `VALID_SECONDS`; the
signature is by a key of that very person that is in force; the record comes before the password. Who has a password
changes it by a reset, which two others vouch for.
"""

import secrets
from dataclasses import dataclass
from typing import Final

from appliance.errors import ApprovalRefusedError, ConflictError
from appliance.promote.approvals import signature_of
from appliance.promote.books import Books
from appliance.promote.classes import NAMES, OPENPGP, PKCS11
from appliance.promote.passwords import Passwords
from appliance.promote.people import SitePerson
from appliance.promote.presented import Presented
from media import canonical
from media.clock import Clock, to_text

TYPE: Final = "sealift/first-password"
FORMAT: Final = 1
SET: Final = "person.password-set"
VALID_SECONDS: Final = 24 * 3600.0
_BY: Final = (OPENPGP, PKCS11)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    statement: bytes
    until: float


class FirstPasswords:
    """Gives people of this site their first password on this box.

    Args:
        books: People, and the ledger.
        passwords: Where they are kept.
        site: The site's name, which stands in the statement.
        clock: By which a statement is over.
    """

    def __init__(self, books: Books, passwords: Passwords, *, site: str, clock: Clock) -> None:
        self._books = books
        self._passwords = passwords
        self._site = site
        self._clock = clock
        self._asked: dict[str, _Asked] = {}

    def statement(self, person: str) -> bytes:
        """Return what a person signs; the same again while it is good, since it may be signed elsewhere.

        Raises:
            ConflictError: The person has a password here.
            UnknownPersonError: Nobody of that id is enrolled.
        """
        who = self._require_without(person)
        asked = self._asked.get(who.id)
        if asked is None or self._clock.monotonic() > asked.until:
            made = {
                "format": FORMAT,
                "type": TYPE,
                "site": self._site,
                "person": who.id,
                "nonce": secrets.token_hex(16),
                "made": to_text(self._clock.now().replace(microsecond=0)),
            }
            asked = _Asked(statement=canonical.dumps(made), until=self._clock.monotonic() + VALID_SECONDS)
            self._asked[who.id] = asked
        return asked.statement

    def set(self, person: str, presented: Presented, password: str) -> None:
        """Set the password of a person who signed the statement.

        Raises:
            ApprovalRefusedError: Nothing waits for a signature, or this is none of the person's own.
            CodeRefusedError: The password is too short or too long.
            ConflictError: The person has a password here.
            LedgerUnavailableError: It could not be recorded; nothing was set.
            UnknownPersonError: Nobody of that id is enrolled.
        """
        who = self._require_without(person)
        self._passwords.require_fit(password)
        asked = self._asked.get(who.id)
        if asked is None or self._clock.monotonic() > asked.until:
            raise _refused("nothing waits for a signature of this person, or it waited too long")
        if presented.approves_by not in _BY:
            raise _refused(f"it is by {NAMES[presented.approves_by]}, which says who is at a browser")
        now = self._clock.now()
        _, signed = signature_of(
            asked.statement,
            presented.signature,
            [who],
            approves_by=presented.approves_by,
            at=now.replace(microsecond=0),
        )
        if who.counts_from is not None and now < who.counts_from:
            raise _refused(f"the keys of {who.name} were reset; they count from {to_text(who.counts_from)}")
        self._books.ledger.append(SET, {**signed.to_json(), "statement": asked.statement.decode()})
        self._passwords.set(who.id, password)
        del self._asked[who.id]

    def _require_without(self, person: str) -> SitePerson:
        people, _ = self._books.catch_up()
        who = people.require_active(person)
        if self._passwords.has(who.id):
            raise ConflictError(
                what=f"{who.name} has a password on this box",
                why="a signature gives the first one only",
                fix=f"two others reset it: `sealift people reset {who.id} --by PERSON --by PERSON`",
            )
        return who


def _refused(why: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(
        what="no password was set",
        why=why,
        fix="run `sealift people password PERSON` again, with the key that `sealift people list` names",
    )
