"""Emergency access: one person, at any hour, with a reason, for hours; then it ends by itself and another looks at it.

What is given is a key for one department that answers as any other key does. Nothing of the rest is lifted: identifiers
are protected, every request is recorded, stops hold, and no version runs that two people did not approve.

Rules:
    BRK-1 It is in the ledger before there is a key. No record, no access.
    BRK-2 It ends at an hour that was said when it began, at most `MOST_HOURS` later; nobody makes it longer.
    BRK-3 While it runs it is loud: on every page, in `sealift status`, as an alert.
    BRK-4 It stays an open review until another enrolled person has looked at it; see `appliance.promote.reviews`.
    BRK-5 Whoever may begin one may end any, at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from appliance.audit.facts import EVERY, Ledger
from appliance.errors import ConflictError
from appliance.promote.books import Books
from appliance.promote.enrolment import require_reason
from appliance.promote.reviews import EMERGENCY, KEY, Reviews
from appliance.wire import Peer
from media import canonical
from media.clock import Clock, to_text
from media.errors import UsageError

ENDED: Final = "emergency.ended"
MOST_HOURS: Final = 12
USUAL_HOURS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Emergency:
    """One emergency access: the sequence of its record is its number."""

    number: int
    person: str
    department: str
    reason: str
    began: str
    ends: str

    @property
    def owner(self) -> str:
        """What the key is made for; by this it is found again."""
        return owner(self.number)

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {name: getattr(self, name) for name in ("number", "person", "department", "reason", "began", "ends")}


def owner(number: int) -> str:
    """Return the owner of the key of an emergency."""
    return f"emergency {number}"


def running(ledger: Ledger, now: datetime) -> tuple[Emergency, ...]:
    """Return every emergency access that has not ended, the oldest first.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    ended = {leaf.body.get("emergency") for leaf in ledger.find(kind=ENDED, limit=EVERY)}
    text = to_text(now)  # both are UTC in one form, so that what does not read compares, too, and breaks no page
    return tuple(
        Emergency(
            number=leaf.sequence,
            person=str(leaf.body.get("person")),
            department=str(leaf.body.get("department")),
            reason=str(leaf.body.get("reason")),
            began=leaf.time,
            ends=str(leaf.body.get("ends")),
        )
        for leaf in reversed(ledger.find(kind=EMERGENCY, limit=EVERY))
        if leaf.sequence not in ended and str(leaf.body.get("ends")) > text
    )


class Emergencies:
    """What the promoter's process does about emergency access; one call at a time."""

    def __init__(self, books: Books, reviews: Reviews, clock: Clock) -> None:
        self._books = books
        self._reviews = reviews
        self._clock = clock

    def begin(self, *, department: str, hours: int, person: str, person_class: str, reason: str) -> Emergency:
        """Record that emergency access begins.

        Raises:
            UnknownPersonError: The person is not enrolled.
            UsageError: It would last too long or no time at all.
            MalformedError: The department or the reason is not a printable text.
            LedgerUnavailableError: It is not recorded, so there is none.
        """
        people, _ = self._books.catch_up()
        who = people.require_active(person)
        if not 1 <= hours <= MOST_HOURS:
            raise UsageError(
                what=f"emergency access lasts 1 to {MOST_HOURS} hours", why=f"{hours} were asked for", fix="ask again"
            )
        body = {
            "person": who.id,
            "class": person_class,
            "department": canonical.text(department.strip(), "department", most=100),
            "reason": require_reason(reason),
            "ends": to_text(self._clock.now() + timedelta(hours=hours)),
        }
        done = self._books.ledger.append(EMERGENCY, body)
        return Emergency(
            number=done.sequence,
            person=who.id,
            department=str(body["department"]),
            reason=str(body["reason"]),
            began=done.time,
            ends=str(body["ends"]),
        )

    def end(self, *, number: int, person: str, person_class: str, reason: str) -> int:
        """End one before its time: its key is stopped, then that it ended is recorded; return that record's sequence.

        Raises:
            UnknownPersonError: The person is not enrolled.
            UsageError: None of this number runs.
        """
        people, _ = self._books.catch_up()
        who = people.require_active(person)
        if number not in {one.number for one in self.running()}:
            raise UsageError(
                what=f"no emergency access {number} runs",
                why="it ended, or is none",
                fix="see `sealift emergency list`",
            )
        for leaf in self._books.ledger.find(kind="key.created", field="owner", value=owner(number), limit=EVERY):
            try:
                self._reviews.stop(
                    what=KEY,
                    name=str(leaf.body.get("key_id")),
                    person=who.id,
                    person_class=person_class,
                    reason=reason,
                )
            except ConflictError:
                continue  # stopped already
        body = {"emergency": number, "person": who.id, "class": person_class, "reason": require_reason(reason)}
        return self._books.ledger.append(ENDED, body).sequence

    def running(self) -> tuple[Emergency, ...]:
        """Return what runs now, the oldest first."""
        return running(self._books.ledger, self._clock.now())


Fields = Mapping[str, Any]
Answer = Callable[[Peer, Fields], dict[str, Any]]


def answers(emergencies: Emergencies, class_of: Callable[[Peer, Fields], str]) -> dict[str, Answer]:
    """Return what answers each message at the promoter's counter.

    emergency-begin{person,department,hours,reason,password?} -> {emergency}
    emergency-end{number,person,reason,password?} -> {sequence}
    emergency-running -> {running:[...]}

    Args:
        emergencies: What is asked.
        class_of: Proves who decides, by the door or by a password; raises where it cannot.
    """

    def decided(peer: Peer, untrusted: Fields) -> dict[str, str]:
        person, known = canonical.text(untrusted.get("person"), "person"), class_of(peer, untrusted)
        return {"person": person, "person_class": known, "reason": canonical.text(untrusted.get("reason"), "reason")}

    def begin(peer: Peer, untrusted: Fields) -> dict[str, Any]:
        department = canonical.text(untrusted.get("department"), "department")
        hours = canonical.integer(untrusted.get("hours"), "hours")
        found = emergencies.begin(department=department, hours=hours, **decided(peer, untrusted))
        return {"emergency": found.to_json()}

    def end(peer: Peer, untrusted: Fields) -> dict[str, Any]:
        number = canonical.integer(untrusted.get("number"), "number")
        return {"sequence": emergencies.end(number=number, **decided(peer, untrusted))}

    return {
        "emergency-begin": begin,
        "emergency-end": end,
        "emergency-running": lambda *_: {"running": [one.to_json() for one in emergencies.running()]},
    }
