"""One line of production: the versions that followed one another in it, and what runs beside the last of them.

A site has one line, or one for each model that it serves at once. Promises: a line is changed only by a record that
follows from it (`require_follows` says so before anything is changed), and nothing here knows of other lines; what
they have in common, one chain, one counter, one set of nonces, one canary, is `appliance.promote.history`'s.
"""

from dataclasses import dataclass, field
from datetime import timedelta

from appliance.errors import NotPromotedError
from appliance.promote.canary import Beside, Canary, Watch
from appliance.promote.record import Kind, Promotion
from appliance.stages import FIRST_LINE

_PAUSES = frozenset({Kind.CANARY_HELD, Kind.CANARY_RESUMED})
_CHANGES = frozenset({Kind.MADE, Kind.CUT_OVER, Kind.ROLLED_BACK, Kind.STOPPED})
# No canary starts without ending the watch, so these come while none goes on, or do not change it.
_STILL_WATCHED = frozenset({Kind.CANARY_HELD, Kind.CANARY_RESUMED, Kind.CANARY_ABORTED})


@dataclass(slots=True, kw_only=True)
class Line:
    """Where one line stands after some promotions.

    Attributes:
        number: 1, or that of the promotion that opened it.
        versions: Those that led here, the last one on top.
        changed: The sequence of the record from which on its version serves, or does not; -1 before the first.
        last: The last promotion that concerned it.
    """

    number: int
    versions: list[str] = field(default_factory=list)
    is_stopped: bool = False
    canary: Canary | None = None
    beside: Beside | None = None
    watch: Watch | None = None
    changed: int = -1
    last: Promotion | None = None

    @property
    def is_further(self) -> bool:
        """Whether it is another one than line 1."""
        return self.number != FIRST_LINE

    @property
    def newest(self) -> str | None:
        """The version that it serves, or served last where it is stopped."""
        return self.versions[-1] if self.versions else None

    @property
    def current(self) -> str | None:
        """The version that it serves now."""
        return None if self.is_stopped else self.newest

    @property
    def returnable(self) -> tuple[str, ...]:
        """The versions one person may go back to, the nearest first."""
        return tuple(reversed(self.versions[:-1]))

    @property
    def mark(self) -> dict[str, int]:
        """What a record of it says of its line, beyond what it says anyway: nothing in the first."""
        return {"line": self.number} if self.is_further else {}

    @property
    def loadable(self) -> tuple[str, ...]:
        """What it serves, its canary, the version kept beside; nothing while it is stopped."""
        if self.current is None:
            return ()
        others = (self.canary.version if self.canary else "", self.beside.version if self.beside else "")
        return (self.current, *(one for one in others if one))

    @property
    def held(self) -> frozenset[str]:
        """The versions that no other line may take: what may load, and what it served last."""
        return frozenset(one for one in (self.newest, *self.loadable) if one is not None)

    def require_follows(self, promotion: Promotion) -> None:
        """Return when a promotion of this line may come next, its statement and the other lines aside.

        Raises:
            NotPromotedError: It does not follow from the ones before.
        """
        if promotion.kind.is_rollout:
            self._require_rollout(promotion)
        elif promotion.kind is Kind.ROLLED_BACK:
            if promotion.model_digest not in self.returnable:
                raise out_of_line(promotion, "it goes back to a version that was not in production before")
        elif promotion.kind is Kind.STOPPED and self.current is None:
            raise out_of_line(promotion, "it stops production, and nothing was in production")

    def apply(self, promotion: Promotion) -> None:
        """Take the next promotion, which `require_follows` let through."""
        if promotion.kind.is_rollout:
            self._roll_out(promotion)
        else:
            self.canary = self.beside = None
        if promotion.kind is Kind.MADE and self.newest != promotion.about:
            self.versions.append(promotion.about)
        elif promotion.kind is Kind.ROLLED_BACK:
            del self.versions[len(self.versions) - 1 - self.returnable.index(promotion.about) :]
        if promotion.kind in _CHANGES:
            self.is_stopped = promotion.kind is Kind.STOPPED
        if promotion.kind not in _STILL_WATCHED:
            begins = promotion.kind in {Kind.MADE, Kind.CUT_OVER}
            self.watch = Watch.of(promotion, before_since=self.changed) if begins else None
        if promotion.kind in _CHANGES:
            self.changed = promotion.sequence
        self.last = promotion

    def _require_rollout(self, promotion: Promotion) -> None:
        canary, terms = self.canary, promotion.terms
        assert terms is not None  # noqa: S101 - `Promotion.require_whole`
        if promotion.kind is Kind.RETIRED:
            self._require_unchanged(promotion)
            if self.beside is None or self.beside.version != terms.version:
                raise out_of_line(promotion, "that version is not kept beside the one in production")
            return
        if promotion.kind is Kind.CANARY_STARTED:
            self._require_unchanged(promotion)
            if self.current is None or canary is not None or terms.version == self.current:
                raise out_of_line(promotion, "a canary starts alone, beside another version that serves")
            return
        if canary is None or terms.version != canary.version:
            raise out_of_line(promotion, "no canary of this version runs")
        if canary.is_held == (promotion.kind is Kind.CANARY_HELD) and promotion.kind in _PAUSES:
            raise out_of_line(promotion, "the canary is on hold already" if canary.is_held else "it is not on hold")
        if promotion.kind is not Kind.CUT_OVER:
            self._require_unchanged(promotion)
        elif promotion.model_digest != canary.version:
            raise out_of_line(promotion, "it brings another version than the canary's")

    def _require_unchanged(self, promotion: Promotion) -> None:
        if promotion.model_digest != self.current:
            raise out_of_line(promotion, "it changes what production serves")

    def _roll_out(self, promotion: Promotion) -> None:
        canary = self.canary
        if promotion.kind is Kind.CANARY_STARTED:
            self.canary, self.beside = Canary.of(promotion), None
        elif promotion.kind is Kind.RETIRED:
            self.beside = None
        elif promotion.kind is Kind.CANARY_ABORTED:
            self.canary = None
        elif promotion.kind in _PAUSES and canary is not None:
            self.canary = canary.after(promotion)
        elif canary is not None:
            self._cut_over(promotion, canary)

    def _cut_over(self, promotion: Promotion, canary: Canary) -> None:
        self.canary = None
        watch = promotion.terms.watch_hours if promotion.terms else 0
        if watch:
            until = promotion.at + timedelta(hours=watch)
            self.beside = Beside(version=canary.control, since=canary.sequence, cut_over=promotion.at, until=until)
        self.versions.append(canary.version)


def out_of_line(promotion: Promotion, why: str) -> NotPromotedError:
    """Return the error that a promotion does not follow from the ones before it."""
    return NotPromotedError(
        what=f"promotion {promotion.number} does not follow from the ones before it",
        why=why,
        fix="stop the engines and compare the promoter's folder with the ledger: `sealift history`",
    )
