"""What one person alone decides about production, with a reason and at any hour: going back, and stopping.

Promises: both concern one line, or a stop all of them. Which line is never guessed: where production has several, it
is said by the name of its model, or follows from the version that is named. Nothing comes forward by one person.
"""

from typing import Any

from appliance.errors import ConflictError, NotPromotedError
from appliance.promote import doubted, linenames
from appliance.promote.books import Books
from appliance.promote.enrolment import require_reason
from appliance.promote.history import Production
from appliance.promote.line import Line
from appliance.promote.record import Kind, Promotion
from appliance.registry.deletion import deleted


class Alone:
    """Takes versions out of production; the caller makes sure that one call runs at a time."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def rollback(
        self, *, person: str, person_class: str, reason: str, model_digest: str = "", name: str = ""
    ) -> Promotion:
        """Go back to the version before, or to a named one that was in production before.

        Args:
            person: Who decides, by id.
            person_class: How the promoter knows that.
            reason: Why, for the record.
            model_digest: The version to go back to; the one before in its line when empty.
            name: The model of the line that goes back; may be empty where one line alone can be meant.

        Raises:
            UnknownPersonError: The person is not enrolled.
            NotPromotedError: There is no such line, no such version to go back to in it, or the one before is in doubt.
            ConflictError: There are several lines, and none is named.
        """
        people, production = self._books.catch_up()
        who = people.require_active(person)
        line = self._line(production, model_digest=model_digest, name=name)
        gone = deleted(self._books.ledger)
        returnable = [one for one in production.returnable_in(line) if one not in gone]
        target = model_digest or next(iter(returnable), "")
        if target not in returnable:
            raise NotPromotedError(
                what="there is no version to go back to"
                if not target
                else f"version {target[:12]} cannot be gone back to",
                why="only versions that two people approved, that were in production before and were not deleted can",
                fix="see `sealift history`; bring a version forward with `sealift promote`",
            )
        if not model_digest:
            doubted.require_named(self._books.ledger, target, returnable)
        linenames.require_own_name(self._books.ledger, production, target, line)
        body = {
            **line.mark,
            "model_digest": target,
            "previous": line.current,
            "person": who.id,
            "class": person_class,
            "reason": require_reason(reason),
        }
        return self._books.record_promotion(production, Kind.ROLLED_BACK, body)

    def stop(self, *, person: str, person_class: str, reason: str, name: str = "") -> Promotion:
        """Take production out of service, or the line of one model.

        Raises:
            UnknownPersonError: The person is not enrolled.
            NotPromotedError: No line serves a model of that name.
            ConflictError: Nothing is in production, or not in that line.
        """
        people, production = self._books.catch_up()
        who = people.require_active(person)
        line = linenames.line_named(self._books.ledger, production, name) if name else None
        if line is None and not production.serving:
            raise ConflictError(what="nothing is in production", why="it was stopped", fix="see `sealift history`")
        if line is not None and line.current is None:
            raise ConflictError(
                what=f"{name[:40]} is not in production", why="its line was stopped", fix="see `sealift history`"
            )
        body: dict[str, Any] = {
            "previous": production.current if line is None else line.current,
            "person": who.id,
            "class": person_class,
            "reason": require_reason(reason),
        }
        # A site with one line writes what it always wrote, whether the line was named or not.
        if line is not None and production.has_further:
            body["line"] = line.number
        return self._books.record_promotion(production, Kind.STOPPED, body)

    def _line(self, production: Production, *, model_digest: str, name: str) -> Line:
        """Return the line that goes back."""
        ledger = self._books.ledger
        if name:
            return linenames.line_named(ledger, production, name)
        lines = production.lines.values()
        found = [line for line in lines if not model_digest or model_digest in production.returnable_in(line)]
        if not production.has_further or (model_digest and not found):
            return production.first
        if len(found) == 1:
            return found[0]
        raise ConflictError(
            what="it is not said which line goes back",
            why=f"there is {linenames.shown_all(ledger, production)}",
            fix="name the model: `sealift rollback --line NAME`",
        )
