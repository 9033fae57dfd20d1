"""What the promoter does about the watch after a cut-over: judge, tell, then ask people or go back, as the site says.

Promises: what is found worse is a record once (`promotion.watch-judged`), which is what alerts and the page read. With
`policy.watch = "go-back"`, and the version before still loaded, the judge then goes back by itself; else people are
asked: they go back (`sealift rollback`), or keep the version by name and reason (`promotion.watch-kept`), which ends
the alert and stays an open review until a second person has looked at it.
"""

from datetime import timedelta
from typing import Any, Final

from appliance.errors import NotPromotedError
from appliance.promote.books import Books
from appliance.promote.canary import Watch
from appliance.promote.enrolment import require_reason
from appliance.promote.history import Production
from appliance.promote.record import BY_JUDGE, JUDGE_NAME, Kind, Promotion
from appliance.promote.watching import GOING, WORSE, WatchJudge, WatchVerdict
from appliance.registry.deletion import deleted
from media.clock import Clock, from_text, to_text

WATCHED: Final = "promotion.watch-judged"
KEPT: Final = "promotion.watch-kept"
_TOLD_EVERY: Final = timedelta(minutes=10)


class Afterwards:
    """The watch of one site.

    Args:
        books: The promoter's files and ledger.
        clock: By which the watch ends.
        goes_back: Whether the judge goes back by itself while the version before is loaded.
    """

    def __init__(self, books: Books, *, clock: Clock, goes_back: bool) -> None:
        self._books = books
        self._clock = clock
        self._goes_back = goes_back
        self._judge: WatchJudge | None = None
        self._told, self._told_at = "", clock.now()

    def judge(self, production: Production) -> Promotion | None:
        """Look at what is new; return the step back, if one was taken.

        Raises:
            LedgerUnavailableError: The ledger does not answer; nothing was decided.
        """
        watch = self._watch(production)
        if watch is None:
            return None
        verdict = self._verdict(watch)
        if verdict.state != self._told_state(watch) or self._clock.now() - self._told_at >= _TOLD_EVERY:
            self._tell(watch, verdict)
        may_return = production.beside is not None and production.beside.version == watch.before
        if verdict.state != WORSE or not self._goes_back or not may_return or self._kept(watch) is not None:
            return None
        if watch.before not in production.returnable or watch.before in deleted(self._books.ledger):
            return None
        body = {
            "model_digest": watch.before,
            "previous": production.current,
            "person": JUDGE_NAME,
            "class": BY_JUDGE,
            "reason": f"the watch after the cut-over: {verdict.why}"[:500],
        }
        return self._books.record_promotion(production, Kind.ROLLED_BACK, body)

    def keep(self, *, person: str, person_class: str, reason: str) -> int:
        """Record that a person keeps the version in spite of what the watch found; return the record's sequence.

        Raises:
            UnknownPersonError: The person is not enrolled.
            NotPromotedError: No watch has found anything, or somebody has kept it already.
        """
        people, production = self._books.catch_up()
        who, watch = people.require_active(person), self._watch(production)
        if watch is None or self._verdict(watch).state != WORSE or self._kept(watch) is not None:
            raise NotPromotedError(
                what="there is nothing to keep a version in spite of",
                why="no watch goes on" if watch is None else "it found nothing worse, or the version was kept already",
                fix="see `sealift canary status`",
            )
        if self._told_state(watch) != WORSE:
            self._tell(watch, self._verdict(watch))
        body = {
            "model_digest": watch.version,
            "watch": watch.sequence,
            "person": who.id,
            "class": person_class,
            "reason": require_reason(reason),
        }
        return self._books.ledger.append(KEPT, body).sequence

    def standing(self, production: Production) -> dict[str, Any] | None:
        """Return the watch that goes on with its figures; None where none does."""
        watch = self._watch(production)
        if watch is None:
            return None
        verdict, kept = self._verdict(watch), self._kept(watch)
        return {
            "version": watch.version,
            "before": watch.before,
            "loaded": production.beside is not None,
            "sequence": watch.sequence,
            "until": to_text(watch.until),
            "left_seconds": round((watch.until - self._clock.now()).total_seconds()),
            "goes_back": self._goes_back and production.beside is not None,
            "verdict": verdict.to_json(),
            "kept_by": kept,
            "asks": verdict.state == WORSE and kept is None,
        }

    def _watch(self, production: Production) -> Watch | None:
        watch = production.watch
        return watch if watch is not None and self._clock.now() < watch.until else None

    def _verdict(self, watch: Watch) -> WatchVerdict:
        if self._judge is None or self._judge.watch.sequence != watch.sequence:
            self._judge, self._told = WatchJudge(self._books.ledger, watch), ""
        return self._judge.read()

    def _told_state(self, watch: Watch) -> str:
        """Return the state that the ledger has, so that a promoter that restarts tells nothing twice."""
        if not self._told:
            newest = self._books.ledger.find(kind=WATCHED, limit=1)
            is_own = bool(newest) and newest[0].body.get("watch") == watch.sequence
            self._told, self._told_at = GOING, watch.began
            if is_own:
                self._told, self._told_at = str(newest[0].body.get("state")), from_text(newest[0].time)
        return self._told

    def _tell(self, watch: Watch, verdict: WatchVerdict) -> None:
        body = {"model_digest": watch.version, "before": watch.before, "watch": watch.sequence, **verdict.to_json()}
        self._books.ledger.append(WATCHED, body)
        self._told, self._told_at = verdict.state, self._clock.now()

    def _kept(self, watch: Watch) -> str | None:
        for leaf in self._books.ledger.find(kind=KEPT, limit=1):
            if leaf.body.get("watch") == watch.sequence:
                return str(leaf.body.get("person"))
        return None
