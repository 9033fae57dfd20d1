"""Production's history, derived from the promotions and never stored: what serves, and where one may go back to.

Rules (docs/format.md, "Promotions"):
  PROM-1  Numbers count from 1 without gaps, each file holds the digest of the file before, ledger sequences rise.
  PROM-2  A promotion names what served before it; a statement is promoted once, a nonce is used once.
  PROM-3  Going back leads to a version that was in production before and so was approved; the ones above it are gone.
  PROM-4  After a stop nothing serves; going back then leads below the version that was stopped, and bringing that one
          back is going forward, which takes two people.
  PROM-5  Whether a statement had expired is asked by the promoter before the ledger records it, and not here: a clock
          that jumps between the two must not make a recorded promotion unreadable.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from appliance.errors import NotPromotedError
from appliance.promote.record import Kind, Promotion
from appliance.promote.statement import Statement
from media.errors import SealiftError


@dataclass(slots=True, kw_only=True)
class Production:
    """Where production stands after some promotions; `line` is the versions that led here, the last one on top."""

    line: list[str] = field(default_factory=list)
    is_stopped: bool = False
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
    def current(self) -> str | None:
        """The version in production now."""
        return self.line[-1] if self.line and not self.is_stopped else None

    @property
    def returnable(self) -> tuple[str, ...]:
        """The versions one person may go back to, the nearest first."""
        return tuple(reversed(self.line[:-1]))

    @property
    def before(self) -> str:
        """The digest that the next promotion's file must hold."""
        return self.last.sha256 if self.last else ""

    def made_for(self, model_digest: str) -> Promotion | None:
        """Return the last promotion by which people approved this version."""
        made = (one for one in reversed(self.promotions) if one.kind is Kind.MADE and one.model_digest == model_digest)
        return next(made, None)

    def take(self, promotion: Promotion) -> None:
        """Add the next promotion.

        Raises:
            NotPromotedError: It does not follow from the ones before.
        """
        self._require_next(promotion)
        if promotion.kind is Kind.MADE:
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
        self.promotions.append(promotion)

    def _require_next(self, promotion: Promotion) -> None:
        if promotion.number != self.number + 1 or promotion.before != self.before:
            raise _out_of_line(promotion, "it does not hold the digest of the one before")
        if self.last is not None and promotion.sequence <= self.last.sequence:
            raise _out_of_line(promotion, "its place in the ledger is not after the one before")
        if promotion.previous != self.current:
            raise _out_of_line(promotion, "it names another version as the previous one")

    def _forward(self, promotion: Promotion) -> None:
        try:
            statement = Statement.from_bytes(promotion.statement.encode())
        except SealiftError as error:
            raise _out_of_line(promotion, f"{error.what}: {error.why}") from error
        if statement.model_digest != promotion.model_digest:
            raise _out_of_line(promotion, "its statement is about another version")
        if statement.nonce in self.nonces:
            raise _out_of_line(promotion, "its statement was promoted before")
        self.nonces.add(statement.nonce)
        if not self.line or self.line[-1] != statement.model_digest:
            self.line.append(statement.model_digest)
        self.is_stopped = False


def replay(promotions: Iterable[Promotion]) -> Production:
    """Return where production stands.

    Raises:
        NotPromotedError: The promotions do not follow from one another.
    """
    production = Production()
    for promotion in promotions:
        production.take(promotion)
    return production


def _out_of_line(promotion: Promotion, why: str) -> NotPromotedError:
    return NotPromotedError(
        what=f"promotion {promotion.number} does not follow from the ones before it",
        why=why,
        fix="stop the engines and compare the promoter's folder with the ledger: `sealift history`",
    )
