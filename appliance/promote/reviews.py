"""The bad night: what one person did alone, callers that were stopped, and the second person who looks at it later.

Promises: going back, stopping and ending a canary take effect before anybody else is asked; each stays an open review
until another enrolled person has looked at it; freeing a caller again takes another person than the one who stopped it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.errors import ConflictError, UnknownPersonError
from appliance.promote.books import Books
from appliance.promote.enrolment import require_reason
from media import canonical
from media.errors import UsageError

STOPPED: Final = "stop.made"
EMERGENCY: Final = "emergency.begun"
FREED: Final = "stop.lifted"
REVIEWED: Final = "stop.reviewed"
KEY: Final = "key"
DEPARTMENT: Final = "department"
CALLERS: Final = (KEY, DEPARTMENT)
ALONE: Final[Mapping[str, str]] = {
    "promotion.rolled-back": "went back",
    "promotion.stopped": "stopped production",
    "promotion.canary-aborted": "ended a canary",
    "promotion.watch-kept": "kept a version that the watch found worse",
    STOPPED: "stopped a caller",
    EMERGENCY: "used emergency access",
}
"""What one person does alone, and what it is called."""
_BY_JUDGE: Final = "judge"
_KINDS: Final = (*ALONE, FREED, REVIEWED)
_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenReview:
    """One deed of one person that nobody else has looked at."""

    sequence: int
    at: str
    what: str
    person: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {name: getattr(self, name) for name in ("sequence", "at", "what", "person", "reason")}


class DeedBook:
    """What all records of deeds, reviews and stops make: read once by the index of their kinds, then on from there.

    What is kept is what is open, so its size is that of what waits, not of what ever was.

    Args:
        ledger: Where they are.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._next = 0
        self._open: dict[int, OpenReview] = {}
        self._stopped: dict[tuple[str, str], Leaf] = {}

    def open(self) -> tuple[OpenReview, ...]:
        """Return what is to be reviewed, the oldest first.

        Raises:
            LedgerUnavailableError: The ledger does not answer; what was read before stays.
        """
        self._read_on()
        return tuple(self._open.values())

    def stopped(self) -> dict[tuple[str, str], Leaf]:
        """Return the record of each stop of a key or department that still holds, by what and name.

        Raises:
            LedgerUnavailableError: The ledger does not answer; what was read before stays.
        """
        self._read_on()
        return dict(self._stopped)

    def _read_on(self) -> None:
        while page := self._ledger.leaves(self._next, _PAGE, kinds=_KINDS):
            for leaf in page:
                self._take(leaf)
                self._next = leaf.sequence + 1

    def _take(self, leaf: Leaf) -> None:
        if leaf.kind == REVIEWED:
            reviewed = leaf.body.get("reviewed")
            if isinstance(reviewed, int):
                self._open.pop(reviewed, None)
            return
        caller = (str(leaf.body.get("what")), str(leaf.body.get("name")))
        if leaf.kind == FREED:
            self._stopped.pop(caller, None)
            return
        if leaf.kind == STOPPED:
            self._stopped[caller] = leaf
        if leaf.body.get("class") != _BY_JUDGE:
            self._open[leaf.sequence] = _open(leaf)


def open_reviews(ledger: Ledger) -> tuple[OpenReview, ...]:
    """Return what is to be reviewed, the oldest first; see `DeedBook`, which whoever asks often keeps."""
    return DeedBook(ledger).open()


def stopped_callers(ledger: Ledger) -> dict[tuple[str, str], Leaf]:
    """Return the record of each stop of a key or department that still holds, by what and name; see `DeedBook`."""
    return DeedBook(ledger).stopped()


class Reviews:
    """What the promoter's process does about deeds of one person; one call at a time."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._deeds = DeedBook(books.ledger)

    def open(self) -> tuple[OpenReview, ...]:
        """Return what is to be reviewed."""
        return self._deeds.open()

    def review(self, *, sequence: int, person: str, person_class: str, note: str) -> int:
        """Record that a second person looked at a deed; return the record's sequence.

        Raises:
            UsageError: There is no such deed that waits for a review.
            UnknownPersonError: The person is not enrolled, or did it.
        """
        people, _ = self._books.catch_up()
        who = people.require_active(person)
        found = [one for one in self.open() if one.sequence == sequence]
        if not found:
            raise UsageError(
                what=f"record {sequence} waits for no review",
                why="it is none, or was reviewed",
                fix="see `sealift review list`",
            )
        if found[0].person == who.id:
            raise _same_person(who.id, "looks at what was done alone")
        body = {"reviewed": sequence, "person": who.id, "class": person_class, "note": require_reason(note)}
        return self._books.ledger.append(REVIEWED, body).sequence

    def stop(self, *, what: str, name: str, person: str, person_class: str, reason: str) -> int:
        """Stop a key or a department; return the record's sequence.

        Raises:
            UnknownPersonError: The person is not enrolled.
            ConflictError: It is stopped already.
            MalformedError: It is neither a key nor a department.
        """
        people, _ = self._books.catch_up()
        who = people.require_active(person)
        caller = (str(canonical.one_of(what, CALLERS, "what")), name)
        if caller in self._deeds.stopped():
            raise ConflictError(
                what=f"the {what} {name[:40]} is stopped already", why="", fix="see `sealift review list`"
            )
        body = {
            "what": what,
            "name": name,
            "person": who.id,
            "class": person_class,
            "reason": require_reason(reason),
        }
        return self._books.ledger.append(STOPPED, body).sequence

    def free(self, *, what: str, name: str, person: str, person_class: str, reason: str) -> int:
        """Let a stopped key or department be answered again; return the record's sequence.

        Raises:
            UnknownPersonError: The person is not enrolled, or is the one who stopped it.
            ConflictError: It is not stopped.
        """
        people, _ = self._books.catch_up()
        who = people.require_active(person)
        stopped = self._deeds.stopped().get((what, name))
        if stopped is None:
            raise ConflictError(what=f"the {what[:16]} {name[:40]} is not stopped", why="", fix="see `sealift status`")
        if stopped.body.get("person") == who.id:
            raise _same_person(who.id, "frees what was stopped")
        body = {
            "what": what,
            "name": name,
            "stopped": stopped.sequence,
            "person": who.id,
            "class": person_class,
            "reason": require_reason(reason),
        }
        return self._books.ledger.append(FREED, body).sequence


def _open(leaf: Leaf) -> OpenReview:
    return OpenReview(
        sequence=leaf.sequence,
        at=leaf.time,
        what=ALONE[leaf.kind],
        person=str(leaf.body.get("person")),
        reason=str(leaf.body.get("reason")),
    )


def _same_person(person: str, what: str) -> UnknownPersonError:
    return UnknownPersonError(what=f"{person} did it", why=f"another person {what}", fix="let a second person do it")
