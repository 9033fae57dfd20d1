"""A sequential test of one arm against a rate that was usual before: has the share of faults risen above it?

The rate is not known, only seen: `highest_rate` gives the rate that the true one exceeds with a probability of at most
`delta` (Chernoff's bound in its form with the Kullback-Leibler divergence, Hoeffding 1963, theorem 1: for n outcomes of
mean rate p, P(share <= x) <= exp(-n kl(x, p)) for x <= p, also where the rate changes on the way). Against that rate
the test is Robbins' mixture of likelihood ratios of Bernoulli outcomes (see `appliance.promote.sequential`): for each
alternative q above the rate r the product of q/r for a fault and (1-q)/(1-r) for another outcome has an expectation of
at most 1 as long as no outcome's rate exceeds r, so the weighted mean is a nonnegative supermartingale that begins at
1, and by Ville's inequality it ever reaches 1/alpha with a probability of at most alpha, whenever one looks.

Together a false alarm has a probability of at most alpha + delta, as long as no hour's rate is above the usual one's
mean by more than the margin. There is no second arm beside it that has the same bad hour: that is what is weaker than
in a canary, and why people are asked.
"""

import math
from dataclasses import dataclass
from typing import Final

from appliance.promote.sequential import LEAST_RATE, ODDS, Capital

_MOST_RATE: Final = 0.95
_STEPS: Final = 60


def highest_rate(faults: int, requests: int, *, delta: float) -> float:
    """Return the rate that lies above the true one but with a probability of `delta`; 1 where nothing was seen."""
    if requests == 0:
        return 1.0
    share, enough = faults / requests, math.log(1 / delta) / requests
    low, high = share, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _divergence(share, middle) < enough else (low, middle)
    return high


@dataclass(slots=True, kw_only=True)
class OneArm(Capital):
    """How much speaks for a higher rate.

    Attributes:
        rate: The highest rate that is no reason for an alarm.
        requests: How many were counted.
        faults: How many of them were faults.
    """

    rate: float
    requests: int = 0
    faults: int = 0

    def take(self, *, is_fault: bool) -> None:
        """Count one outcome."""
        rate = min(max(self.rate, LEAST_RATE), _MOST_RATE)
        self.requests += 1
        self.faults += is_fault
        highs = [rate * odds / (1 - rate + rate * odds) for odds in ODDS]
        self._win([math.log(high / rate) if is_fault else math.log((1 - high) / (1 - rate)) for high in highs])


def _divergence(share: float, rate: float) -> float:
    """Return the Kullback-Leibler divergence of two Bernoulli distributions; `share` is not above `rate`."""
    if rate >= 1:
        return math.inf if share < 1 else 0.0
    found = 0.0 if share == 0 else share * math.log(share / rate)
    return found + (0.0 if share == 1 else (1 - share) * math.log((1 - share) / (1 - rate)))
