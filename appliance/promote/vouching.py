"""Two others: who may say that somebody is enrolled, reset, or given another role.

Promises: never the person concerned, never one person alone, each by their own password. Where the site separates roles
they are admins, and admins never approve; as long as fewer than two admins are enrolled, any two people vouch, so that
a site can begin and can recover. At the smallest sites (profile `single-cpu`) two people are admins and approvers both;
there a reset takes the other person and the code that was printed at the enrolment, and approvals say that they are of
a lower class. A reset ends the person's keys at once, and new ones count after a day (by the promoter's clock). For
that day the person's word for others counts as little: whoever took the reset would bring in somebody who approves at
once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from appliance.errors import ApprovalRefusedError, ConflictError
from appliance.promote import peoplebook
from appliance.promote.approvals import LEAST_PEOPLE
from appliance.promote.passwords import CodeBook, Passwords, Purpose
from appliance.promote.people import ADMIN, APPROVER, ROLES, SitePeople, SitePerson
from appliance.promote.peoplebook import CHANGED, RESET
from media.clock import Clock, to_text

if TYPE_CHECKING:
    from appliance.promote.books import Books
    from appliance.promote.secondfactor import SecondFactors

VOID_FOR: Final = timedelta(hours=24)
"""How long after a reset nothing that the person approves counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Voucher:
    """One enrolled person who says yes to a change of people."""

    person: str
    password: str = field(repr=False)


class Vouching:
    """Who may vouch at a site.

    Args:
        passwords: Of enrolled people.
        separates: Whether admins and approvers are different people here.
        clock: By which the day after a reset is over.
    """

    def __init__(self, passwords: Passwords, *, separates: bool, clock: Clock) -> None:
        self._passwords = passwords
        self.separates = separates
        self._clock = clock

    def require_two(self, people: SitePeople, vouchers: Sequence[Voucher], *, about: str = "") -> list[str]:
        """Return the ids of at least two others who vouch, their passwords checked.

        Raises:
            ApprovalRefusedError: They are not two others, are no admins where those vouch, or were reset within a day.
            UnknownPersonError: One is not enrolled, or a password is wrong.
        """
        return self._require(people, vouchers, about=about, least=LEAST_PEOPLE)

    def require_one(self, people: SitePeople, vouchers: Sequence[Voucher], *, about: str) -> list[str]:
        """Return the id of one other who vouches; see `require_two`."""
        return self._require(people, vouchers, about=about, least=1)

    def require_roles(self, roles: Sequence[str]) -> tuple[str, ...]:
        """Return roles that one person may have here.

        Raises:
            ApprovalRefusedError: Admin and approver exclude each other at this site, or a role is none.
        """
        known = tuple(role for role in ROLES if role in roles)
        if len(known) != len(set(roles)) or not known:
            raise _refused(f"roles are {', '.join(ROLES)}")
        if self.separates and {ADMIN, APPROVER} <= set(known):
            raise _refused("an admin cannot be an approver at this site, nor the other way round")
        return known

    def admins(self, people: SitePeople) -> tuple[SitePerson, ...]:
        """Return those who vouch: the admins, or everyone where there are not two of them."""
        found = tuple(person for person in people.active if ADMIN in person.roles)
        return found if len(found) >= LEAST_PEOPLE else people.active

    def _require(self, people: SitePeople, vouchers: Sequence[Voucher], *, about: str, least: int) -> list[str]:
        names = sorted({people.require_active(voucher.person).id for voucher in vouchers} - {about})
        may = {person.id for person in self.admins(people)}
        if len(names) < least:
            raise _refused(f"it takes {'two others' if least > 1 else 'another person'}; {len(names)} gave a password")
        if strangers := [name for name in names if name not in may]:
            raise _refused(f"{strangers[0]} is no admin, and at this site admins vouch")
        for voucher in vouchers:
            if voucher.person != about:
                self._passwords.require(voucher.person, voucher.password)
        now = self._clock.now()
        for person in (people.require_active(name) for name in names):
            if person.counts_from is not None and now < person.counts_from:
                raise _refused(f"{person.name} was reset and vouches again from {to_text(person.counts_from)}")
        return names


class Changes:
    """Resets and changes of roles."""

    def __init__(
        self,
        books: "Books",
        *,
        vouching: Vouching,
        codes: CodeBook,
        passwords: Passwords,
        factors: "SecondFactors",
        clock: Clock,
    ) -> None:
        self._books = books
        self._vouching = vouching
        self._codes = codes
        self._passwords = passwords
        self._factors = factors
        self._clock = clock
        books.on_reset = self._forget

    def reset(self, *, person: str, vouchers: Sequence[Voucher], printed_code: str = "") -> str:
        """End a person's keys and password, and return the code by which the person enrols with new ones.

        Raises:
            ApprovalRefusedError: It takes two others; at the smallest sites one other and the printed code.
            CodeRefusedError: The printed code is wrong, or another person's.
            UnknownPersonError: Somebody is not enrolled, or a password is wrong.
        """
        people, _ = self._books.catch_up()
        whose = people.require_active(person)
        used = ""
        if printed_code and not self._vouching.separates:
            names = self._vouching.require_one(people, vouchers, about=whose.id)
            used, purpose = self._codes.require(printed_code, is_printed=True)
            if purpose.person != whose.id:
                raise _refused("the printed code is another person's")
        else:
            names = self._vouching.require_two(people, vouchers, about=whose.id)
        counts_from = self._clock.now().replace(microsecond=0) + VOID_FOR
        body = {
            "person": whose.id,
            "by": names,
            "with_printed_code": bool(used),
            "counts_from": to_text(counts_from),
        }
        done = self._books.ledger.append(RESET, body)
        # Before the list says that it is done: what a power cut leaves here is finished from the ledger.
        self._forget(whose.id)
        self._books.folder.save_people(people.with_reset(whose.id, done.sequence, counts_from))
        self._codes.use(used)
        purpose = Purpose(person=whose.id)
        self._codes.end(purpose)
        return self._codes.issue(1, keep_others=True, purpose=purpose)[0]

    def _forget(self, person: str) -> None:
        self._passwords.forget(person)
        self._factors.forget(person)

    def give_roles(self, *, person: str, roles: Sequence[str], vouchers: Sequence[Voucher]) -> SitePerson:
        """Give a person these roles, in place of those the person has.

        Raises:
            ApprovalRefusedError: It does not take two others, or the roles exclude each other.
            ConflictError: The person has exactly these.
            UnknownPersonError: Somebody is not enrolled, or a password is wrong.
        """
        people, _ = self._books.catch_up()
        whose = people.require_active(person)
        wanted = self._vouching.require_roles(roles)
        if wanted == whose.roles:
            raise ConflictError(what=f"{whose.name} has these roles", why="", fix="nothing is to be done")
        names = self._vouching.require_two(people, vouchers, about=whose.id)
        body = {"person": whose.id, "roles": list(wanted), "by": names}
        done = self._books.ledger.append(CHANGED, body)
        after = peoplebook.after(people, CHANGED, body, done.sequence)
        self._books.folder.save_people(after)
        return after.require_active(whose.id)


def _refused(why: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(
        what="a change of the site's people is refused", why=why, fix="see docs/operator/approving.md"
    )
