"""Production's history, derived from the promotions and never stored: what serves, and where one may go back to.

Rules (docs/format.md, "Promotions"; those of rollouts are in `appliance.promote.canary`):
  PROM-1  Numbers count from 1 without gaps, each file holds the digest of the file before, ledger sequences rise.
  PROM-2  A promotion names what served before it; a statement is promoted once, a nonce is used once.
  PROM-3  Going back leads to a version that was in production before and so was approved; the ones above it are gone.
  PROM-4  After a stop nothing serves; going back then leads below the version that was stopped, and bringing that one
          back is going forward, which takes two people.
  PROM-5  Whether a statement had expired is asked by the promoter before the ledger records it, and not here: a clock
          that jumps between the two must not make a recorded promotion unreadable.
  PROM-11 A record without `line` is of line 1. A further line is opened by the promotion whose number it has, and by
          nothing else: one that goes forward with a statement of format 3 that replaces nothing. There is one chain,
          one counter, one set of nonces and one canary for all lines; the rest of these rules is each line's own.
  PROM-12 What people signed decides: a statement of format 3 brings a version into the line that serves, or served
          last, what it replaces, and never into line 1; one of format 1 or 2 into line 1 and no other.
  PROM-13 No version is in two lines: what one line serves, served last, runs as a canary or keeps beside comes into no
          other.
  PROM-14 A stop without `line` stops every line; one with it that line alone. Line 1 is named in such a stop only
          while there is another.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from appliance.promote.canary import Canary
from appliance.promote.line import Line, out_of_line
from appliance.promote.record import Kind, Promotion
from appliance.promote.statement import Statement
from appliance.stages import FIRST_LINE
from media.errors import SealiftError


def _line_1() -> dict[int, Line]:
    return {FIRST_LINE: Line(number=FIRST_LINE)}


@dataclass(slots=True, kw_only=True)
class Production:
    """Where production stands after some promotions, in all of its lines.

    `current` and `returnable` are those of line 1.
    """

    lines: dict[int, Line] = field(default_factory=_line_1)
    promotions: list[Promotion] = field(default_factory=list)
    nonces: set[str] = field(default_factory=set)

    @property
    def number(self) -> int:
        """How many promotions there were."""
        return len(self.promotions)

    @property
    def last(self) -> Promotion | None:
        """The last promotion, if any."""
        return self.promotions[-1] if self.promotions else None

    @property
    def first(self) -> Line:
        """Line 1."""
        return self.lines[FIRST_LINE]

    @property
    def current(self) -> str | None:
        """The version in production now, in line 1."""
        return self.first.current

    @property
    def canary(self) -> Canary | None:
        """The canary that runs, in whichever line."""
        line = self.canary_line
        return None if line is None else line.canary

    @property
    def canary_line(self) -> Line | None:
        """The line in which a canary runs."""
        return next((line for line in self.lines.values() if line.canary is not None), None)

    @property
    def returnable(self) -> tuple[str, ...]:
        """The versions one person may go back to in line 1, the nearest first."""
        return self.returnable_in(self.first)

    @property
    def loadable(self) -> tuple[str, ...]:
        """The versions whose engines may run in production: what serves, a canary, the one kept beside; line 1's first.

        Of a line that was stopped nothing may run.
        """
        return tuple(digest for line in self.lines.values() for digest in line.loadable)

    @property
    def serving(self) -> tuple[Line, ...]:
        """The lines that serve now, line 1 first."""
        return tuple(line for line in self.lines.values() if line.current is not None)

    @property
    def has_further(self) -> bool:
        """Whether a further line was ever opened, so that a line must be told from another."""
        return len(self.lines) > 1

    @property
    def next_line(self) -> Line:
        """The line that the next promotion opens, if it opens one: nothing was in it yet."""
        return Line(number=self.number + 1)

    @property
    def withdrawn(self) -> tuple[str, ...]:
        """The versions that the last promotion stopped, line 1's first; none where it is no stop."""
        if self.last is None or self.last.kind is not Kind.STOPPED:
            return ()
        return tuple(line.versions[-1] for line in self.lines.values() if line.last is self.last)

    @property
    def before(self) -> str:
        """The digest that the next promotion's file must hold."""
        return self.last.sha256 if self.last else ""

    def returnable_in(self, line: Line) -> tuple[str, ...]:
        """Return the versions one person may go back to in a line, the nearest first."""
        return tuple(one for one in line.returnable if not self._is_elsewhere(one, line))

    def serves(self, model_digest: str) -> bool:
        """Tell whether a line serves this version."""
        return any(line.current == model_digest for line in self.lines.values())

    def line_of(self, model_digest: str) -> Line | None:
        """Return the line in which a version may be loaded now."""
        return next((line for line in self.lines.values() if model_digest in line.loadable), None)

    def signed_for(self, statement: Statement) -> Line | None:
        """Return the line into which people signed that a version comes (PROM-12), `next_line` where it opens one.

        None where no further line serves, or served last, what the statement replaces.
        """
        if not statement.is_of_a_further_line:
            return self.first
        if statement.replaces is None:
            return self.next_line
        return next((one for one in self.lines.values() if one.is_further and one.newest == statement.replaces), None)

    def made_for(self, model_digest: str) -> Promotion | None:
        """Return the last promotion by which people approved this version, a canary's start among them.

        Where it may be loaded now, in the line in which it may: an approval for another line is none for this one.
        """
        line = self.line_of(model_digest)
        for one in reversed(self.promotions):
            is_here = line is None or one.line_number == line.number
            if one.statement and one.about == model_digest and is_here:
                return one
        return None

    def take(self, promotion: Promotion) -> None:
        """Add the next promotion.

        Raises:
            NotPromotedError: It does not follow from the ones before.
        """
        self._require_next(promotion)
        if promotion.stops_all:
            self._stop_all(promotion)
        else:
            self._take(promotion)
        self.promotions.append(promotion)

    def _take(self, promotion: Promotion) -> None:
        line = self._line_for(promotion)
        if promotion.previous != line.current:
            raise out_of_line(promotion, "it names another version as the previous one")
        line.require_follows(promotion)
        if promotion.kind is Kind.CANARY_STARTED and self.canary is not None:
            raise out_of_line(promotion, "a canary starts alone, beside another version that serves")
        statement = self._statement(promotion, line)
        if promotion.kind in _ENTERS and self._is_elsewhere(promotion.about, line):
            raise out_of_line(promotion, "that version is in another line")
        if statement is not None:
            self.nonces.add(statement.nonce)
        line.apply(promotion)
        self.lines[line.number] = line

    def _stop_all(self, promotion: Promotion) -> None:
        if promotion.previous != self.current:
            raise out_of_line(promotion, "it names another version as the previous one")
        serving = [line for line in self.lines.values() if line.current is not None]
        if not serving:
            raise out_of_line(promotion, "it stops production, and nothing was in production")
        for line in serving:
            line.apply(promotion)

    def _line_for(self, promotion: Promotion) -> Line:
        """Return the line that a promotion is of; a new one where its number is the promotion's own."""
        number = promotion.line_number
        if number == FIRST_LINE:
            if promotion.line is not None and (promotion.kind is not Kind.STOPPED or not self.has_further):
                raise out_of_line(promotion, "it names the first line, which only a stop beside another line does")
            return self.first
        if number == promotion.number and promotion.kind is Kind.MADE:
            return Line(number=number)
        if number not in self.lines:
            raise out_of_line(promotion, "no promotion opened its line")
        return self.lines[number]

    def _is_elsewhere(self, model_digest: str, line: Line) -> bool:
        return any(model_digest in one.held for one in self.lines.values() if one.number != line.number)

    def _require_next(self, promotion: Promotion) -> None:
        if promotion.number != self.number + 1 or promotion.before != self.before:
            raise out_of_line(promotion, "it does not hold the digest of the one before")
        if self.last is not None and promotion.sequence <= self.last.sequence:
            raise out_of_line(promotion, "its place in the ledger is not after the one before")

    def _statement(self, promotion: Promotion, line: Line) -> Statement | None:
        """Return what people signed for a promotion; None for one that needs nobody's approval."""
        if promotion.kind not in _APPROVED and not (promotion.kind is Kind.CUT_OVER and promotion.statement):
            return None
        try:
            statement = Statement.from_bytes(promotion.statement.encode())
        except SealiftError as error:
            raise out_of_line(promotion, f"{error.what}: {error.why}") from error
        if statement.model_digest != promotion.about:
            raise out_of_line(promotion, "its statement is about another version")
        if statement.nonce in self.nonces:
            raise out_of_line(promotion, "its statement was promoted before")
        if statement.is_of_a_further_line != line.is_further:
            raise out_of_line(promotion, "its statement was signed for another line")
        if statement.is_of_a_further_line and statement.replaces != line.newest:
            raise out_of_line(promotion, "its statement replaces another version than its line's")
        return statement


_APPROVED = frozenset({Kind.MADE, Kind.CANARY_STARTED})
# What a cut-over brings is in the line already, as its canary.
_ENTERS = frozenset({Kind.MADE, Kind.CANARY_STARTED, Kind.ROLLED_BACK})


def replay(promotions: Iterable[Promotion]) -> Production:
    """Return where production stands.

    Raises:
        NotPromotedError: The promotions do not follow from one another.
    """
    production = Production()
    for promotion in promotions:
        production.take(promotion)
    return production
