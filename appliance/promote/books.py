"""The promoter's files and the ledger, kept as one: the ledger is the truth, the files follow it.

Promises: an event is acknowledged by the ledger before a file says it; what a crash left between the two is finished
from the ledger before anything else is done; files that say what the ledger does not are refused as damage.
"""

from collections.abc import Callable
from typing import Any

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.errors import LedgerDamagedError
from appliance.promote import peoplebook
from appliance.promote.folder import PromoterFolder
from appliance.promote.history import Production
from appliance.promote.people import SitePeople
from appliance.promote.peoplebook import ENROLLED, RENEWED, RESET
from appliance.promote.record import EVENTS, Kind, Promotion
from media.clock import from_text
from media.errors import UsageError

_PAGE = 200


class Books:
    """Where people and promotions are read, and the only way to add to them.

    Args:
        folder: The promoter's folder.
        ledger: Its door to the ledger.
        on_enrolled: Told of each enrolment that was finished from the ledger, with the event's body.
        on_reset: Told of each person whose reset is finished from the ledger, before the list of people says so: the
            files about that person are from before it.
    """

    def __init__(
        self,
        folder: PromoterFolder,
        ledger: Ledger,
        *,
        on_enrolled: Callable[[dict[str, Any]], None] | None = None,
        on_reset: Callable[[str], None] | None = None,
    ) -> None:
        self.folder = folder
        self.ledger = ledger
        self.on_enrolled = on_enrolled
        self.on_reset = on_reset
        self._agreed = -1

    def catch_up(self) -> tuple[SitePeople, Production]:
        """Finish what a crash left half done, and return people and production as the ledger has them.

        Raises:
            LedgerUnavailableError: The ledger does not answer; then nothing may change.
            LedgerDamagedError: A file says what the ledger does not.
        """
        people, production = self.folder.people(), self.folder.production()
        if self._agreed < 0:
            self._require_agreement(production)
            self._require_people_of_here(people)
        last = -1 if production.last is None else production.last.sequence
        size = self.ledger.head().size
        start = max(self._agreed, min(people.sequence, last) + 1)
        kinds = {*peoplebook.KINDS, *EVENTS}
        while page := self.ledger.leaves(start, _PAGE, kinds=kinds):
            for leaf in page:
                if leaf.kind in peoplebook.KINDS:
                    people = self._follow_person(people, leaf)
                else:
                    self._follow_promotion(production, leaf)
            start = page[-1].sequence + 1
        self._agreed = size
        return people, production

    def record_promotion(self, production: Production, kind: Kind, body: dict[str, Any]) -> Promotion:
        """Append one promotion to the ledger, then write its file, and return it.

        Raises:
            NotPromotedError: It would not follow from the ones before; nothing was recorded.
            LedgerUnavailableError: It may or may not be recorded; the next call finds out.
        """
        last = -1 if production.last is None else production.last.sequence
        trial = self._promotion(
            production, kind, body, sequence=last + 1, leaf_hash="0" * 64, at="1970-01-01T00:00:00Z"
        )
        self.folder.production().take(trial)
        done = self.ledger.append(kind.event, body)
        promotion = self._promotion(
            production, kind, body, sequence=done.sequence, leaf_hash=done.leaf_hash, at=done.time
        )
        production.take(promotion)
        self.folder.save_promotion(promotion)
        return promotion

    def _follow_person(self, people: SitePeople, leaf: Leaf) -> SitePeople:
        if leaf.sequence <= people.sequence:
            return people
        people = peoplebook.after(people, leaf.kind, leaf.body, leaf.sequence)
        if leaf.kind in {ENROLLED, RENEWED} and self.on_enrolled is not None:
            self.on_enrolled(dict(leaf.body))
        if leaf.kind == RESET and self.on_reset is not None:
            self.on_reset(str(leaf.body.get("person")))
        self.folder.save_people(people)
        return people

    def _follow_promotion(self, production: Production, leaf: Leaf) -> None:
        if production.last is not None and leaf.sequence <= production.last.sequence:
            return
        kind = Kind(leaf.kind.removeprefix("promotion."))
        promotion = self._promotion(
            production, kind, dict(leaf.body), sequence=leaf.sequence, leaf_hash=leaf.hash, at=leaf.time
        )
        production.take(promotion)
        self.folder.save_promotion(promotion)

    def _promotion(
        self, production: Production, kind: Kind, body: dict[str, Any], *, sequence: int, leaf_hash: str, at: str
    ) -> Promotion:
        return Promotion.from_event(
            kind,
            body,
            number=production.number + 1,
            before=production.before,
            sequence=sequence,
            leaf_hash=leaf_hash,
            at=from_text(at),
        )

    def _require_agreement(self, production: Production) -> None:
        for promotion in production.promotions:
            try:
                leaf = self.ledger.leaf(promotion.sequence)
            except UsageError as error:
                raise _damaged(f"promotion {promotion.number}", "the ledger ends before it") from error
            if leaf.hash != promotion.leaf_hash or leaf.kind != promotion.kind.event:
                raise _damaged(f"promotion {promotion.number}", "the ledger has another record at its place")

    def _require_people_of_here(self, people: SitePeople) -> None:
        """Pass where what the list took last is a record about people here, too: else it is of another ledger."""
        if people.sequence < 0:
            return
        try:
            leaf = self.ledger.leaf(people.sequence)
        except UsageError as error:
            raise _damaged("the list of people", "the ledger ends before it") from error
        if leaf.kind not in peoplebook.KINDS:
            raise _damaged("the list of people", "the ledger has another record at its place")


def _damaged(what: str, why: str) -> LedgerDamagedError:
    return LedgerDamagedError(
        what=f"{what} is not the ledger's",
        why=why,
        fix="see docs/operator/ledger.md: recovery; on a node that joins a restored ledger docs/operator/postgresql.md:"
        " a lost server",
    )
