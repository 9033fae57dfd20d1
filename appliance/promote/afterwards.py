"""What the promoter does about the watch after a cut-over: judge, tell, then ask people or go back, as the site says.

Promises: what is found worse is a record once (`promotion.watch-judged`), which is what alerts and the page read. With
`policy.watch = "go-back"`, and the version before still loaded, the judge then goes back by itself; else people are
asked: they go back (`sealift rollback`), or keep the version by name and reason (`promotion.watch-kept`), which ends
the alert and stays an open review until a second person has looked at it. Each line of production has a watch of its
own.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from appliance.errors import ConflictError, NotPromotedError
from appliance.promote import linenames
from appliance.promote.belonging import Belonging
from appliance.promote.books import Books
from appliance.promote.canary import Watch
from appliance.promote.doubted import in_doubt
from appliance.promote.enrolment import require_reason
from appliance.promote.history import Production
from appliance.promote.line import Line
from appliance.promote.record import BY_JUDGE, JUDGE_NAME, Kind, Promotion
from appliance.promote.watching import GOING, WORSE, WatchJudge, WatchVerdict
from appliance.registry.deletion import deleted
from media.clock import Clock, from_text, to_text

WATCHED: Final = "promotion.watch-judged"
KEPT: Final = "promotion.watch-kept"
_TOLD_EVERY: Final = timedelta(minutes=10)


@dataclass(slots=True)
class _Watched:
    """The watch of one line as it was judged and told last."""

    judge: WatchJudge
    told: str
    told_at: datetime


class Afterwards:
    """The watches of one site.

    Args:
        books: The promoter's files and ledger.
        clock: By which the watch ends.
        goes_back: Whether the judge goes back by itself while the version before is loaded.
        belonging: Tells of which line a request is.
    """

    def __init__(self, books: Books, *, clock: Clock, goes_back: bool, belonging: Belonging) -> None:
        self._books = books
        self._clock = clock
        self._goes_back = goes_back
        self._belonging = belonging
        self._watched: dict[int, _Watched] = {}

    def judge(self, production: Production) -> Promotion | None:
        """Look at what is new in each line; return the step back, if one was taken.

        Raises:
            LedgerUnavailableError: The ledger does not answer; nothing was decided.
        """
        done = (self._judge(production, line) for line in tuple(production.lines.values()))
        return next((one for one in done if one is not None), None)

    def _judge(self, production: Production, line: Line) -> Promotion | None:
        watch = self._watch(line)
        if watch is None:
            return None
        watched = self._follow(production, line, watch)
        verdict = watched.judge.read()
        if verdict.state != watched.told or self._clock.now() - watched.told_at >= _TOLD_EVERY:
            self._tell(watched, verdict)
        if verdict.state != WORSE or not self._may_go_back(line, watch) or self._kept(watch) is not None:
            return None
        if watch.before not in production.returnable_in(line) or watch.before in deleted(self._books.ledger):
            return None
        body = {
            **line.mark,
            "model_digest": watch.before,
            "previous": line.current,
            "person": JUDGE_NAME,
            "class": BY_JUDGE,
            "reason": f"the watch after the cut-over: {verdict.why}"[:500],
        }
        return self._books.record_promotion(production, Kind.ROLLED_BACK, body)

    def keep(self, *, person: str, person_class: str, reason: str, name: str = "") -> int:
        """Record that a person keeps the version in spite of what the watch found; return the record's sequence.

        Args:
            person: Who decides, by id.
            person_class: How the promoter knows that.
            reason: Why, for the record.
            name: The model whose line's watch is meant; may be empty where the watch of one line alone asks.

        Raises:
            UnknownPersonError: The person is not enrolled.
            NotPromotedError: No watch has found anything, or somebody has kept it already; or no line has that name.
            ConflictError: Watches of several lines ask, and no model is named.
        """
        people, production = self._books.catch_up()
        who = people.require_active(person)
        lines = list(production.lines.values())
        meant = [linenames.line_named(self._books.ledger, production, name)] if name else lines
        watches = [(line, watch) for line in meant if (watch := self._watch(line)) is not None]
        asking = [watch for line, watch in watches if self._asks(production, line, watch)]
        if not asking:
            raise NotPromotedError(
                what="there is nothing to keep a version in spite of",
                why="it found nothing worse, or the version was kept already" if watches else "no watch goes on",
                fix="see `sealift canary status`",
            )
        if len(asking) > 1:
            raise ConflictError(
                what="it is not said which version is kept",
                why=f"the watches of {' and '.join(one.version[:12] for one in asking)} ask",
                fix="name the model: `sealift canary keep --line NAME`",
            )
        (watch,) = asking
        watched = next(one for one in self._watched.values() if one.judge.watch == watch)
        if watched.told != WORSE:
            self._tell(watched, watched.judge.read())
        body = {
            "model_digest": watch.version,
            "watch": watch.sequence,
            "person": who.id,
            "class": person_class,
            "reason": require_reason(reason),
        }
        return self._books.ledger.append(KEPT, body).sequence

    def standing(self, production: Production, line: Line) -> dict[str, Any] | None:
        """Return the watch that goes on in a line with its figures; None where none does."""
        watch = self._watch(line)
        if watch is None:
            return None
        verdict, kept = self._follow(production, line, watch).judge.read(), self._kept(watch)
        return {
            "version": watch.version,
            "before": watch.before,
            "loaded": line.beside is not None,
            "sequence": watch.sequence,
            "until": to_text(watch.until),
            "left_seconds": round((watch.until - self._clock.now()).total_seconds()),
            "goes_back": self._may_go_back(line, watch),
            "verdict": verdict.to_json(),
            "kept_by": kept,
            "asks": verdict.state == WORSE and kept is None,
        }

    def _watch(self, line: Line) -> Watch | None:
        watch = line.watch
        return watch if watch is not None and self._clock.now() < watch.until else None

    def _may_go_back(self, line: Line, watch: Watch) -> bool:
        """Tell whether the judge may go back without people: to what is loaded, and brought by no keys in doubt."""
        is_loaded = line.beside is not None and line.beside.version == watch.before
        return self._goes_back and is_loaded and watch.before not in in_doubt(self._books.ledger)

    def _asks(self, production: Production, line: Line, watch: Watch) -> bool:
        return self._follow(production, line, watch).judge.read().state == WORSE and self._kept(watch) is None

    def _follow(self, production: Production, line: Line, watch: Watch) -> _Watched:
        """Return the watch's judge; of what was told the ledger knows, so a promoter restarted tells nothing twice."""
        self._belonging.follow(production)
        watched = self._watched.get(line.number)
        if watched is None or watched.judge.watch.sequence != watch.sequence:
            judge = WatchJudge(self._books.ledger, watch, is_own=self._belonging.only(line.number))
            watched = self._watched[line.number] = _Watched(judge, GOING, watch.began)
            for leaf in self._books.ledger.find(kind=WATCHED, field="watch", value=watch.sequence, limit=1):
                watched.told, watched.told_at = str(leaf.body.get("state")), from_text(leaf.time)
        return watched

    def _tell(self, watched: _Watched, verdict: WatchVerdict) -> None:
        watch = watched.judge.watch
        body = {"model_digest": watch.version, "before": watch.before, "watch": watch.sequence, **verdict.to_json()}
        self._books.ledger.append(WATCHED, body)
        watched.told, watched.told_at = verdict.state, self._clock.now()

    def _kept(self, watch: Watch) -> str | None:
        found = self._books.ledger.find(kind=KEPT, field="watch", value=watch.sequence, limit=1)
        return str(found[0].body.get("person")) if found else None
