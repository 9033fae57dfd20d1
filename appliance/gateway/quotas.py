"""What callers may use: requests a minute, and tokens a minute, a day and a month, counted exactly by many gateways.

Tokens are charged before the engine is asked, as the most the answer can cost, and set right when its outcome is known:
a stream that runs is paid for already, and a process that dies has charged too much, never too little. Days and months
are those of UTC. The gateways of a box count in a file (`filequotas`), those of several nodes on the site's server
(`serverquotas`); neither is evidence: power lost may take the last seconds of counting with it.
"""

import math
from dataclasses import dataclass
from typing import Final, Protocol

from appliance.config import LimitsSection
from appliance.gateway.limits import Allowance, Limiter, ceiling, duration
from appliance.gateway.problems import Problem, above_quota, quota_spent, rate_limited

# What an engine says that it read is untrusted; no version's own prompt is longer.
_MOST_BEYOND: Final = 1_000_000
# When a request that runs ends is not known; what it did not cost comes back within seconds.
_HELD_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Tokens that were charged for one request.

    Attributes:
        tokens: All of them.
        prompt: Those of the prompt, at most.
        headers: What the key has left this minute.
        since: The hour since when; empty where no day and no month is limited.
    """

    key_id: str
    tier: str
    tokens: int
    prompt: int
    day: str
    month: str
    headers: dict[str, str]
    since: str = ""


class Quotas(Limiter, Protocol):
    """The shared counters; safe for threads and for all that count together.

    Where they cannot be read or written, all of this raises StoreDamagedError (the file) or DatabaseError (the server).
    """

    def hold(self, key_id: str, tier: str, *, prompt: int, answer: int) -> Held | None:
        """Charge the most tokens that a request can cost; None where the site limits no tokens.

        Raises:
            Problem: The key has not so many left this minute, today or this month.
        """
        ...

    def left(self, key_id: str, tier: str) -> dict[str, str]:
        """Return the headers that say what a key has left of a minute's tokens; none where the site limits none."""
        ...

    def settle(self, held: Held, tokens: int | None, *, delivered: str = "") -> None:
        """Set right what was charged for a request, when its outcome is known; what cannot be stays charged.

        Args:
            held: What was charged.
            tokens: What it cost, which the day and the month pay also where more was read than was charged (a version's
                own prompt, say); None where nobody counted: then a token for each byte that was delivered.
            delivered: The text that the caller got.
        """
        ...

    def require(self) -> None:
        """Return when requests can be counted, as far as can be told without counting one."""
        ...

    def close(self) -> None:
        """Let go of what is open; it is opened again when needed."""
        ...


def token_limits(limits: LimitsSection, tier: str) -> tuple[int, int, int]:
    """Return how many tokens a tier has for a minute, a day and a month; 0 is no limit."""
    minute, day, month = limits.tokens_per_minute, limits.tokens_per_day, limits.tokens_per_month
    return minute and ceiling(tier, minute), day and ceiling(tier, day), month and ceiling(tier, month)


def require_possible(tokens: int, today: int, this_month: int) -> None:
    """Return where a whole day and a whole month have so many tokens; 0 is no limit.

    Raises:
        Problem: They have not, so waiting never helps.
    """
    if (today and tokens > today) or (this_month and tokens > this_month):
        raise above_quota()


def without_room(*, is_held: bool) -> Problem:
    """Return the refusal of a request that does not fit a day or a month; `is_held` where it would but for others."""
    return rate_limited("held", _HELD_SECONDS) if is_held else quota_spent()


def cost_of(held: Held, tokens: int | None, delivered: str) -> int:
    """Return what a request cost; see `Quotas.settle`."""
    if tokens is None:  # a token has several bytes: never more than was charged
        # Half a surrogate pair that an engine said is counted, too.
        return min(held.prompt + len(delivered.encode(errors="surrogatepass")), held.tokens)
    return min(tokens, held.tokens + _MOST_BEYOND)


def too_few(level: float, most: int, wanted: int) -> Problem:
    """Return the refusal of a request that wants more tokens than are left of a minute's."""
    problem = rate_limited("tokens", (wanted - level) / (most / 60))
    problem.headers.update(headers(level, most))
    return problem


def allowance(level: float, most: int, *, is_allowed: bool) -> Allowance:
    """Return what is left of a bucket of requests that one was taken from, or was not."""
    rate = most / 60
    return Allowance(
        limit=most,
        remaining=math.floor(level),
        reset_seconds=(most - level) / rate,
        retry_after_seconds=None if is_allowed else (1 - level) / rate,
    )


def headers(level: float, most: int) -> dict[str, str]:
    """Return the `x-ratelimit-*` headers of tokens."""
    return {
        "x-ratelimit-limit-tokens": str(most),
        "x-ratelimit-remaining-tokens": str(math.floor(level)),
        "x-ratelimit-reset-tokens": duration((most - level) / (most / 60)),
    }
