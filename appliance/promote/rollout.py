"""Rollouts of one site: a canary from its start to its cut-over or end, and the version that is kept beside afterwards.

Promises: a canary starts only with the approvals that bring a version into production; it ends by itself when the
judge finds it worse; after its time, with enough requests and nothing against it, one person cuts over; before that, or
where too few requests came, two people approve anew. Holding, resuming and aborting take one person with a reason.
Nothing whose hours are counted begins while the clock is in doubt, since records bear the machine's time; what ends a
canary is always taken.
One canary runs at a time, in whichever line of production. After a cut-over, by a canary or in a maintenance window,
the watch goes on (`appliance.promote.afterwards`).
"""

from datetime import timedelta
from typing import Any, Final

from appliance.errors import ConflictError, NotEnoughApprovalsError, NotPromotedError
from appliance.promote import doubted
from appliance.promote.afterwards import Afterwards
from appliance.promote.automation_key import AutomationKey
from appliance.promote.belonging import Belonging
from appliance.promote.books import Books
from appliance.promote.canary import Canary
from appliance.promote.enrolment import require_reason
from appliance.promote.history import Production
from appliance.promote.judging import Judge, Verdict
from appliance.promote.line import Line
from appliance.promote.promoter import Promoter, most_approved
from appliance.promote.record import BY_AUTOMATION, BY_JUDGE, JUDGE_NAME, Kind, Promotion
from appliance.promote.terms import Terms
from appliance.timekeeping.believed import require_shown
from media.clock import Clock, to_text

JUDGED: Final = "promotion.canary-judged"
TOLD_EVERY: Final = timedelta(minutes=10)
"""How old the figures in the ledger become at most while a canary or a watch goes on."""
_GOING: Final = "going"
_WORSE: Final = "worse"
_ENOUGH: Final = "enough"


class Rollout:
    """What the promoter's process does about rollouts; the caller makes sure that one call runs at a time."""

    def __init__(
        self, books: Books, promoter: Promoter, *, clock: Clock, machine: Clock | None = None, goes_back: bool = False
    ) -> None:
        self._books = books
        self._promoter = promoter
        self._clock, self._machine = clock, machine or clock
        self._judge: Judge | None = None
        self._told, self._told_at = _GOING, clock.now()
        self._belonging = Belonging()
        self.afterwards = Afterwards(books, clock=clock, goes_back=goes_back, belonging=self._belonging)

    def start(self, statement_sha256: str, *, percent: int, hours: int, watch_hours: int) -> Promotion:
        """Begin a canary of an approved version.

        Raises:
            NotEnoughApprovalsError: Fewer different people approved than the site demands.
            ApprovalRefusedError: The statement is unknown, expired or outdated, or an approval does not verify.
            GateFailedError: A newer gate result contradicts the evidence.
            ConflictError: A canary runs, nothing serves beside it, or the terms are not sensible.
            ClockUncertainError: Its hours could not be counted.
        """
        require_shown(self._clock, self._machine, what="starting a canary")
        people, production = self._books.catch_up()
        if production.canary is not None:
            raise ConflictError(
                what="a canary runs already",
                why=production.canary.version[:12],
                fix="end it: `sealift canary cutover` or `sealift canary abort`",
            )
        body = self._promoter.approved(statement_sha256, people, production) if production.serving else {}
        if body.get("previous") is None:
            raise ConflictError(
                what="nothing serves beside which a canary could run",
                why="a canary is compared with what its line serves",
                fix="bring it into production: `sealift promote DIGEST`",
            )
        candidate = str(body["model_digest"])
        terms = Terms(version=candidate, percent=percent, hours=hours, watch_hours=watch_hours)
        terms.require_sensible()
        body |= {"model_digest": body["previous"], "terms": terms.to_json()}
        return self._books.record_promotion(production, Kind.CANARY_STARTED, body)

    def hold(self, *, person: str, person_class: str, reason: str) -> Promotion:
        """Add no caller to the canary for now; its time stands still.

        Raises:
            NotPromotedError: No canary runs, or it is on hold.
            UnknownPersonError: The person is not enrolled.
        """
        return self._step(Kind.CANARY_HELD, person=person, person_class=person_class, reason=reason)

    def hold_for(self, key: AutomationKey, *, reason: str) -> Promotion:
        """Hold as `hold` does, asked by an automation key that may; a person resumes.

        Raises:
            NotPromotedError: No canary runs, or it is on hold.
            UnknownPersonError: Who answers for the key is not enrolled.
        """
        return self._step(Kind.CANARY_HELD, person=key.person, person_class=BY_AUTOMATION, reason=reason, key=key)

    def resume(self, *, person: str, person_class: str, reason: str) -> Promotion:
        """Let a canary that is on hold go on.

        Raises:
            NotPromotedError: No canary is on hold.
            UnknownPersonError: The person is not enrolled.
            ClockUncertainError: How long it was on hold could not be counted.
        """
        require_shown(self._clock, self._machine, what="resuming a canary")
        return self._step(Kind.CANARY_RESUMED, person=person, person_class=person_class, reason=reason)

    def abort(self, *, person: str, person_class: str, reason: str) -> Promotion:
        """End a canary; every caller is production's again.

        Raises:
            NotPromotedError: No canary runs.
            UnknownPersonError: The person is not enrolled.
        """
        return self._step(Kind.CANARY_ABORTED, person=person, person_class=person_class, reason=reason)

    def cut_over(self, *, person: str, person_class: str, reason: str, keeps_before: bool) -> Promotion:
        """Make the canary's version the one in production.

        Args:
            person: Who decides, by id.
            person_class: How the promoter knows that.
            reason: Why, for the record.
            keeps_before: Whether memory holds the version before beside it, for the watch.

        Raises:
            NotPromotedError: No canary runs.
            UnknownPersonError: The person is not enrolled.
            ConflictError: It is on hold, or the judge found it worse.
            NotEnoughApprovalsError: Its time is not over or too few requests came, and two people have not approved
                that anew.
            ClockUncertainError: The watch that begins could not be counted.
        """
        require_shown(self._clock, self._machine, what="cutting a canary over")
        people, production = self._books.catch_up()
        who, (line, canary) = people.require_active(person), _running(production)
        doubted.require_none(self._books.ledger, canary.version)
        verdict = self._verdict(production, line, canary)
        if canary.is_held or verdict.state == _WORSE:
            raise ConflictError(
                what="this canary cannot be cut over",
                why=verdict.why if verdict.state == _WORSE else "it is on hold",
                fix="resume or abort it: `sealift canary resume`, `sealift canary abort`",
            )
        watch = canary.terms.watch_hours if keeps_before else 0
        terms = Terms(version=canary.version, watch_hours=watch)
        body: dict[str, Any] = {
            **line.mark,
            "model_digest": canary.version,
            "previous": line.current,
            "person": who.id,
            "class": person_class,
            "reason": require_reason(reason),
            "terms": terms.to_json(),
        }
        missing = self._missing(canary, verdict)
        if missing:
            fresh = self._fresh(production, line, canary, missing)
            signed = self._promoter.approved(fresh, people, production)
            body |= {name: signed[name] for name in ("statement", "statement_sha256", "approvals", "requested_by")}
        self._tell(canary, verdict)
        return self._books.record_promotion(production, Kind.CUT_OVER, body)

    def judge(self) -> dict[str, Any]:
        """Look at what is new; end a canary that is worse, watch a version after its cut-over; return the standing.

        A version whose watch is over is retired.

        Raises:
            LedgerUnavailableError: The ledger does not answer; nothing was decided.
        """
        _, production = self._books.catch_up()
        done = self._canary_ended(production) or self._retired(production) or self.afterwards.judge(production)
        return {**self.standing(), "changed": None if done is None else done.to_json()}

    def standing(self) -> dict[str, Any]:
        """Return the canary that runs with its figures as last judged, what is kept beside, and the watch.

        The latter two are line 1's; where there are further lines, theirs are under ``lines``.
        """
        production = self._books.folder.production()
        further = [line for line in production.lines.values() if line is not production.first]
        lines = {"lines": [{**line.mark, **self._line(production, line)} for line in further]} if further else {}
        return {"canary": self._canary(production), **self._line(production, production.first), **lines}

    def _canary(self, production: Production) -> dict[str, Any] | None:
        line, now = production.canary_line, self._clock.now()
        if line is None or line.canary is None:
            return None
        canary, verdict = line.canary, self._verdict(production, line, line.canary)
        return {
            **line.mark,
            "version": canary.version,
            "production": canary.control,
            "percent": canary.terms.percent,
            "hours": canary.terms.hours,
            "watch_hours": canary.terms.watch_hours,
            "sequence": canary.sequence,
            "started": to_text(canary.started),
            "held": canary.is_held,
            "left_seconds": round(canary.left(now).total_seconds()),
            "verdict": verdict.to_json(),
            "missing": self._missing(canary, verdict),
        }

    def _line(self, production: Production, line: Line) -> dict[str, Any]:
        beside, watch = line.beside, self.afterwards.standing(production, line)
        kept = None if beside is None else {"version": beside.version, "until": to_text(beside.until)}
        return {"beside": kept, "watch": watch, "model_digest": line.current}

    def _step(
        self, kind: Kind, *, person: str, person_class: str, reason: str, key: AutomationKey | None = None
    ) -> Promotion:
        people, production = self._books.catch_up()
        who, (line, canary) = people.require_active(person), _running(production)
        if kind is Kind.CANARY_ABORTED:
            self._tell(canary, self._verdict(production, line, canary))
        body = {
            **line.mark,
            "model_digest": line.current,
            "previous": line.current,
            "person": who.id if key is None else key.actor,
            "class": person_class,
            "reason": require_reason(reason),
            "terms": Terms(version=canary.version).to_json(),
        }
        return self._books.record_promotion(production, kind, body)

    def _canary_ended(self, production: Production) -> Promotion | None:
        """Look at what is new about a canary; return its end, if the judge found it worse."""
        line = production.canary_line
        if line is None or line.canary is None:
            return None
        canary, verdict = line.canary, self._verdict(production, line, line.canary)
        if verdict.state != self._told or self._clock.now() - self._told_at >= TOLD_EVERY:
            self._tell(canary, verdict)
        if verdict.state != _WORSE:
            return None
        terms = Terms(version=canary.version)
        return self._by_judge(production, line, Kind.CANARY_ABORTED, terms, verdict.why[:500])

    def _retired(self, production: Production) -> Promotion | None:
        """Retire one version whose watch is over, if there is one."""
        now = self._clock.now()
        for line in production.lines.values():
            if line.beside is not None and now >= line.beside.until:
                terms = Terms(version=line.beside.version)
                return self._by_judge(production, line, Kind.RETIRED, terms, "the watch after the cut-over is over")
        return None

    def _by_judge(self, production: Production, line: Line, kind: Kind, terms: Terms, reason: str) -> Promotion:
        body = {
            **line.mark,
            "model_digest": line.current,
            "previous": line.current,
            "person": JUDGE_NAME,
            "class": BY_JUDGE,
            "reason": reason,
            "terms": terms.to_json(),
        }
        return self._books.record_promotion(production, kind, body)

    def _verdict(self, production: Production, line: Line, canary: Canary) -> Verdict:
        self._belonging.follow(production)
        if self._judge is None or self._judge.canary.number != canary.number:
            judge = Judge(self._books.ledger, canary, is_own=self._belonging.only(line.number))
            self._judge, self._told, self._told_at = judge, _GOING, canary.started
        return self._judge.read()

    def _tell(self, canary: Canary, verdict: Verdict) -> None:
        self._books.ledger.append(
            JUDGED, {"model_digest": canary.version, "canary": canary.sequence, **verdict.to_json()}
        )
        self._told, self._told_at = verdict.state, self._clock.now()

    def _missing(self, canary: Canary, verdict: Verdict) -> str:
        """Return why one person may not cut over now; nothing when one may."""
        left = canary.left(self._clock.now())
        if left:
            return f"{round(left.total_seconds() / 3600, 1)} hours are left"
        if verdict.is_behind:
            return "its requests are still being read"
        return "" if verdict.state == _ENOUGH else verdict.why

    def _fresh(self, production: Production, line: Line, canary: Canary, missing: str) -> str:
        """Return the statement by which people approve the cut-over in spite of what is missing.

        One that was asked for before the canary began, for another line than its own, is none of them.
        """
        waiting = [
            one
            for one in self._promoter.pending()
            if one.statement.model_digest == canary.version and production.signed_for(one.statement) is line
        ]
        if (request := most_approved(waiting)) is not None:
            return request.statement.sha256
        raise NotEnoughApprovalsError(
            what="one person cannot cut over yet",
            why=missing,
            fix=f"wait, or let two people approve it anew: `sealift promote {canary.version[:12]} --as PERSON`",
        )


def _running(production: Production) -> tuple[Line, Canary]:
    line = production.canary_line
    if line is None or line.canary is None:
        raise NotPromotedError(
            what="no canary runs", why="it ended, or was never started", fix="see `sealift canary status`"
        )
    return line, line.canary
