"""Deleting versions and holding them: what the promoter decides, because it alone knows what serves or may serve next.

Promises: a version is deleted by one person with a reason, and only while nothing can need it: in no line is it in
production, the one to go back to, a canary, or kept beside; and it is not waiting for approvals, not on legal hold.
The record is the decision; from it on the version can be neither requested, promoted nor gone back to, whatever still
lies on a disk. A hold is lifted by another person than placed it.
"""

from collections.abc import Callable, Iterator
from typing import Any

from appliance.audit.facts import Appended
from appliance.errors import ConflictError
from appliance.promote.books import Books
from appliance.promote.enrolment import require_reason
from appliance.promote.history import Production
from appliance.promote.people import SitePeople
from appliance.promote.promoter import Request
from appliance.registry import deletion

Pending = Callable[[], tuple[Request, ...]]


class Deletions:
    """What the promoter's process does about deletion; the caller makes sure that one call runs at a time.

    Args:
        books: People, promotions and the ledger.
        pending: Returns the requests that can still be promoted.
    """

    def __init__(self, books: Books, pending: Pending) -> None:
        self._books = books
        self._pending = pending

    def needs(self, model_digest: str) -> tuple[str, ...]:
        """Return why a version may not be deleted now; nothing when it may.

        Raises:
            UnknownVersionError: No such version is registered, or it was deleted.
        """
        _, production = self._books.catch_up()
        return self._needs(model_digest, production)

    def delete(self, model_digest: str, *, person: str, person_class: str, reason: str) -> Appended:
        """Record that a version is deleted.

        Raises:
            UnknownVersionError: No such version is registered, or it was deleted.
            UnknownPersonError: The person is not enrolled.
            ConflictError: Something needs it.
        """
        people, production = self._books.catch_up()
        needs = self._needs(model_digest, production)
        body = self._body(people, model_digest, person=person, person_class=person_class, reason=reason)
        if needs:
            raise ConflictError(
                what=f"version {model_digest[:12]} is not deleted",
                why="; ".join(needs),
                fix="see `sealift models list` and `sealift history`; delete it when nothing needs it any more",
            )
        return self._books.ledger.append(deletion.DELETED, body)

    def hold(self, model_digest: str, *, person: str, person_class: str, reason: str) -> Appended:
        """Put a version on legal hold: it is not deleted until the hold is lifted.

        Raises:
            UnknownVersionError: No such version is registered, or it was deleted.
            UnknownPersonError: The person is not enrolled.
            ConflictError: It is on hold already.
        """
        people, _ = self._books.catch_up()
        body = self._body(people, model_digest, person=person, person_class=person_class, reason=reason)
        if (held := deletion.hold_on(self._books.ledger, model_digest)) is not None:
            raise ConflictError(
                what=f"version {model_digest[:12]} is on hold already",
                why=f"by {held.body.get('person')}: {held.body.get('reason')}",
                fix="see `sealift models show`",
            )
        return self._books.ledger.append(deletion.HELD, body)

    def lift(self, model_digest: str, *, person: str, person_class: str, reason: str) -> Appended:
        """Lift a hold.

        Raises:
            UnknownVersionError: No such version is registered.
            UnknownPersonError: The person is not enrolled.
            ConflictError: It is on no hold, or this person placed it.
        """
        people, _ = self._books.catch_up()
        body = self._body(people, model_digest, person=person, person_class=person_class, reason=reason)
        held = deletion.hold_on(self._books.ledger, model_digest)
        if held is None or held.body.get("person") == body["person"]:
            raise ConflictError(
                what=f"the hold on version {model_digest[:12]} is not lifted",
                why="it is on no hold" if held is None else f"{body['person']} placed it",
                fix="see `sealift models show`" if held is None else "let another person lift it",
            )
        return self._books.ledger.append(deletion.LIFTED, body)

    def _body(
        self, people: SitePeople, model_digest: str, *, person: str, person_class: str, reason: str
    ) -> dict[str, Any]:
        who = people.require_active(person)
        known = deletion.registration(self._books.ledger, model_digest).body
        return {
            "model_digest": model_digest,
            "name": str(known.get("name", "")),
            "version": str(known.get("version", "")),
            "weights_digest": str(known.get("weights_digest", "")),
            "person": who.id,
            "class": person_class,
            "reason": require_reason(reason),
        }

    def _needs(self, model_digest: str, production: Production) -> tuple[str, ...]:
        deletion.registration(self._books.ledger, model_digest)
        return tuple(self._reasons(model_digest, production))

    def _reasons(self, model_digest: str, production: Production) -> Iterator[str]:
        gone = deletion.deleted(self._books.ledger)
        for line in production.lines.values():
            if line.current == model_digest:
                yield "it is in production"
            if next((one for one in production.returnable_in(line) if one not in gone), "") == model_digest:
                yield "it is the version to go back to (previous)"
            if line.canary is not None and line.canary.version == model_digest:
                yield "it runs as a canary (candidate)"
            if line.beside is not None and line.beside.version == model_digest:
                yield "it is kept beside production for the watch"
        if any(one.statement.model_digest == model_digest for one in self._pending()):
            yield "it waits for approvals (candidate)"
        if (held := deletion.hold_on(self._books.ledger, model_digest)) is not None:
            yield f"{held.body.get('person')} put it on legal hold: {held.body.get('reason')}"
