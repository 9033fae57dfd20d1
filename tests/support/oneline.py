"""Production as it was replayed before a site could have several lines: what older histories must still mean.

Kept as it was, to be compared with (tests/property/test_lines.py); nothing of the program uses it.
"""

from dataclasses import dataclass, field
from datetime import timedelta

from appliance.errors import NotPromotedError
from appliance.promote.canary import Beside, Canary, Watch
from appliance.promote.record import Kind, Promotion
from appliance.promote.statement import Statement
from media.errors import SealiftError


@dataclass(slots=True, kw_only=True)
class OneLine:
    """Where production stands after some promotions; `line` is the versions that led here, the last one on top."""

    line: list[str] = field(default_factory=list)
    is_stopped: bool = False
    promotions: list[Promotion] = field(default_factory=list)
    nonces: set[str] = field(default_factory=set)
    canary: Canary | None = None
    beside: Beside | None = None
    watch: Watch | None = None

    @property
    def number(self) -> int:
        """How many promotions there were."""
        return len(self.promotions)

    @property
    def last(self) -> Promotion | None:
        """The last promotion, if any."""
        return self.promotions[-1] if self.promotions else None

    @property
    def current(self) -> str | None:
        """The version in production now."""
        return self.line[-1] if self.line and not self.is_stopped else None

    @property
    def returnable(self) -> tuple[str, ...]:
        """The versions one person may go back to, the nearest first."""
        return tuple(reversed(self.line[:-1]))

    @property
    def loadable(self) -> tuple[str, ...]:
        """The versions whose engines may run in production: what serves, a canary, the one kept beside.

        Empty after a stop.
        """
        if self.current is None:
            return ()
        others = (self.canary.version if self.canary else "", self.beside.version if self.beside else "")
        return (self.current, *(one for one in others if one))

    @property
    def before(self) -> str:
        """The digest that the next promotion's file must hold."""
        return self.last.sha256 if self.last else ""

    def made_for(self, model_digest: str) -> Promotion | None:
        """Return the last promotion by which people approved this version, a canary's start among them."""
        return next((one for one in reversed(self.promotions) if one.statement and _about(one) == model_digest), None)

    def take(self, promotion: Promotion) -> None:
        """Add the next promotion.

        Raises:
            NotPromotedError: It does not follow from the ones before.
        """
        self._require_next(promotion)
        since = self._since()
        if promotion.kind.is_rollout:
            self._roll_out(promotion)
        elif promotion.kind is Kind.MADE:
            self._forward(promotion)
        elif promotion.kind is Kind.ROLLED_BACK:
            if promotion.model_digest not in self.returnable:
                raise _out_of_line(promotion, "it goes back to a version that was not in production before")
            del self.line[len(self.line) - 1 - self.returnable.index(promotion.model_digest) :]
            self.is_stopped = False
        else:
            if self.current is None:
                raise _out_of_line(promotion, "it stops production, and nothing was in production")
            self.is_stopped = True
        if not promotion.kind.is_rollout:
            self.canary = self.beside = None
        if promotion.kind not in _STILL_WATCHED:
            begins = promotion.kind in {Kind.MADE, Kind.CUT_OVER}
            self.watch = Watch.of(promotion, before_since=since) if begins else None
        self.promotions.append(promotion)

    def _since(self) -> int:
        """Return the record from which on the version in production now is that."""
        changed = (one.sequence for one in reversed(self.promotions) if one.kind in _CHANGES)
        return next(changed, -1)

    def _roll_out(self, promotion: Promotion) -> None:
        terms, canary = promotion.terms, self.canary
        assert terms is not None
        if promotion.kind is Kind.RETIRED:
            self._retire(promotion)
            return
        if promotion.kind is Kind.CANARY_STARTED:
            self._start(promotion)
            return
        if canary is None or terms.version != canary.version:
            raise _out_of_line(promotion, "no canary of this version runs")
        if canary.is_held == (promotion.kind is Kind.CANARY_HELD) and promotion.kind in _PAUSES:
            raise _out_of_line(promotion, "the canary is on hold already" if canary.is_held else "it is not on hold")
        if promotion.kind in _PAUSES:
            self._require_unchanged(promotion)
            self.canary = canary.after(promotion)
        elif promotion.kind is Kind.CANARY_ABORTED:
            self._require_unchanged(promotion)
            self.canary = None
        else:
            self._cut_over(promotion, canary)

    def _start(self, promotion: Promotion) -> None:
        self._require_unchanged(promotion)
        if self.current is None or self.canary is not None or _about(promotion) == self.current:
            raise _out_of_line(promotion, "a canary starts alone, beside another version that serves")
        self._require_statement(promotion)
        self.canary = Canary.of(promotion)
        self.beside = None

    def _cut_over(self, promotion: Promotion, canary: Canary) -> None:
        if promotion.model_digest != canary.version:
            raise _out_of_line(promotion, "it brings another version than the canary's")
        if promotion.statement:
            self._require_statement(promotion)
        self.canary = None
        watch = promotion.terms.watch_hours if promotion.terms else 0
        if watch:
            until = promotion.at + timedelta(hours=watch)
            self.beside = Beside(version=canary.control, since=canary.sequence, cut_over=promotion.at, until=until)
        self.line.append(canary.version)

    def _retire(self, promotion: Promotion) -> None:
        self._require_unchanged(promotion)
        if self.beside is None or self.beside.version != _about(promotion):
            raise _out_of_line(promotion, "that version is not kept beside the one in production")
        self.beside = None

    def _require_unchanged(self, promotion: Promotion) -> None:
        if promotion.model_digest != self.current:
            raise _out_of_line(promotion, "it changes what production serves")

    def _require_next(self, promotion: Promotion) -> None:
        if promotion.number != self.number + 1 or promotion.before != self.before:
            raise _out_of_line(promotion, "it does not hold the digest of the one before")
        if self.last is not None and promotion.sequence <= self.last.sequence:
            raise _out_of_line(promotion, "its place in the ledger is not after the one before")
        if promotion.previous != self.current:
            raise _out_of_line(promotion, "it names another version as the previous one")

    def _forward(self, promotion: Promotion) -> None:
        self._require_statement(promotion)
        digest = _about(promotion)
        if not self.line or self.line[-1] != digest:
            self.line.append(digest)
        self.is_stopped = False

    def _require_statement(self, promotion: Promotion) -> None:
        try:
            statement = Statement.from_bytes(promotion.statement.encode())
        except SealiftError as error:
            raise _out_of_line(promotion, f"{error.what}: {error.why}") from error
        if statement.model_digest != _about(promotion):
            raise _out_of_line(promotion, "its statement is about another version")
        if statement.nonce in self.nonces:
            raise _out_of_line(promotion, "its statement was promoted before")
        self.nonces.add(statement.nonce)


_PAUSES = frozenset({Kind.CANARY_HELD, Kind.CANARY_RESUMED})
_CHANGES = frozenset({Kind.MADE, Kind.CUT_OVER, Kind.ROLLED_BACK, Kind.STOPPED})
# No canary starts without ending the watch, so these come while none goes on, or do not change it.
_STILL_WATCHED = frozenset({Kind.CANARY_HELD, Kind.CANARY_RESUMED, Kind.CANARY_ABORTED})


def _about(promotion: Promotion) -> str:
    """Return the version that a promotion is about: a rollout's, or what serves from then on."""
    return promotion.terms.version if promotion.terms else promotion.model_digest or ""


def _out_of_line(promotion: Promotion, why: str) -> NotPromotedError:
    return NotPromotedError(
        what=f"promotion {promotion.number} does not follow from the ones before it",
        why=why,
        fix="stop the engines and compare the promoter's folder with the ledger: `sealift history`",
    )
