"""A sequential test of two arms that may be looked at after every request: is the canary's rate of a fault higher?

A mixture of likelihood ratios in the sense of Robbins' mixture sequential probability ratio test (Annals of
Mathematical Statistics 41, 1970, section 2; for comparing two arms continuously: Johari, Koomen, Pekelis, Walsh,
"Always Valid Inference", Operations Research 70, 2022), with the exact ratio for two Bernoulli streams of Turner, Ly
and Grünwald ("Generic E-variables for exact sequential k-sample tests that allow for optional stopping", Journal of
Statistical Planning and Inference 230, 2024) in the place of a normal approximation, which is wrong for rare faults.

Requests are taken in blocks of both arms. Say a block holds `a` requests of production and `b` of the canary, an
alternative says rates p < q for them, and m = (a p + b q) / (a + b). The factor of a fault is p/m or q/m, that of
another outcome (1-p)/(1-m) or (1-q)/(1-m). Where the true rates of the canary are on average not above those of
production in the block, the expected product is at most 1: a factor's expectation is 1 + (rate - m)(p - m) / (m(1-m)),
or with q, and because b (q - m) = a (m - p) their arithmetic mean is at most 1, so by the inequality of the means is
their product. Hence the capital, a weighted mean over alternatives of the products, is a nonnegative supermartingale
that begins at 1, and by Ville's inequality it ever reaches 1/alpha with a probability of at most alpha: whenever one
looks, whatever the rates, and also when they change with the hour, as long as they change for both arms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

ODDS: Final = (1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""The alternatives: how many times the usual odds of a fault are."""
LEAST_RATE: Final = 0.0005
_PRIOR_FAULTS, _PRIOR_REQUESTS = 0.5, 25.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended; `is_margin` was drawn beforehand with the probability of the margin."""

    is_fault: bool
    is_margin: bool = False


@dataclass(slots=True)
class Arm:
    """What was counted of one arm; `margin_faults` counts those that the margin adds."""

    requests: int = 0
    faults: int = 0
    margin_faults: int = 0

    def count(self, outcomes: Sequence[Outcome], *, margin_faults: int) -> None:
        """Count a block."""
        self.requests += len(outcomes)
        self.faults += sum(one.is_fault for one in outcomes)
        self.margin_faults += margin_faults


@dataclass(slots=True, kw_only=True)
class Capital:
    """What a mixture over the alternatives has won so far, as logarithms; it begins at 1 with each.

    Attributes:
        alpha: How probable a false alarm may be, over all looks together.
    """

    alpha: float
    _logs: list[float] = field(default_factory=lambda: [0.0] * len(ODDS))
    _highest: float = 0.0

    @property
    def evidence(self) -> float:
        """The natural logarithm of the highest capital so far; the alarm is at `limit`."""
        return self._highest

    @property
    def limit(self) -> float:
        """Where the alarm is."""
        return -math.log(self.alpha)

    @property
    def is_worse(self) -> bool:
        """Whether faults are more than usual; once they are, it stays so."""
        return self._highest >= self.limit

    def _win(self, gains: Sequence[float]) -> None:
        """Multiply by a factor for each alternative, given as its logarithm."""
        self._logs = [before + gain for before, gain in zip(self._logs, gains, strict=True)]
        self._highest = max(self._highest, _log_mean(self._logs))


@dataclass(slots=True, kw_only=True)
class Comparison(Capital):
    """One stream of faults in two arms, and how much speaks against the canary.

    Attributes:
        margin: By how much the canary's rate may be higher, as a share of requests. Production's requests get so many
            faults more (`Outcome.is_margin`), which makes the test one of that difference and stays exact.
    """

    margin: float
    production: Arm = field(default_factory=Arm)
    canary: Arm = field(default_factory=Arm)

    def take(self, production: Sequence[Outcome], canary: Sequence[Outcome]) -> None:
        """Take one block; both arms must be in it.

        How a block was cut must not depend on its outcomes.
        """
        usual = self._usual()
        share = len(canary) / (len(production) + len(canary))
        faults = sum(one.is_fault or one.is_margin for one in production), sum(one.is_fault for one in canary)
        gains = []
        for odds in ODDS:
            high = usual * odds / (1 - usual + usual * odds)
            middle = usual + (high - usual) * share
            gains.append(
                faults[0] * math.log(usual / middle)
                + (len(production) - faults[0]) * math.log((1 - usual) / (1 - middle))
                + faults[1] * math.log(high / middle)
                + (len(canary) - faults[1]) * math.log((1 - high) / (1 - middle))
            )
        self._win(gains)
        self.production.count(production, margin_faults=faults[0])
        self.canary.count(canary, margin_faults=faults[1])

    def _usual(self) -> float:
        """Return production's rate as far as it is known before the next block."""
        arm = self.production
        rate = (arm.margin_faults + _PRIOR_FAULTS) / (arm.requests + _PRIOR_REQUESTS)
        return min(max(rate, LEAST_RATE), 0.9)


def _log_mean(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(sum(math.exp(one - top) for one in logs) / len(logs))
