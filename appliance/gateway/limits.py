"""How often a caller may ask, where one process sees every request.

Several gateways, and tokens, are counted by `appliance.gateway.quotas`.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from media.clock import Clock

# Multiples of the site's `requests_per_minute`. Every tier has a ceiling; an unknown one is the lowest.
TIERS: Final[Mapping[str, float]] = {"basic": 0.25, "standard": 1.0, "premium": 4.0}
_REMEMBERED_CALLERS: Final = 10_000
_MOST: Final = 10**15
"""More than any caller asks for. A site that means "no limit" may write a number that no counter holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a caller has left after this request."""

    limit: int
    remaining: int
    reset_seconds: float
    retry_after_seconds: float | None

    def headers(self) -> dict[str, str]:
        """Return the `x-ratelimit-*` headers."""
        return {
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(self.remaining),
            "x-ratelimit-reset-requests": duration(self.reset_seconds),
        }


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float


class Limiter(Protocol):
    """Counts requests by caller."""

    def take(self, caller: str, *, per_minute: int) -> Allowance:
        """Take one request from the caller's bucket; `retry_after_seconds` is set when it was empty."""
        ...


class RateLimiter:
    """Token buckets: a caller may spend a minute's worth at once, then asks at the even rate.

    It remembers the 10,000 that came last. Whoever is forgotten has a whole minute's worth again, so callers of a kind
    that costs nothing, as addresses without a key, are counted apart from the others.

    Args:
        clock: Only its monotonic seconds are used.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, caller: str, *, per_minute: int) -> Allowance:
        """Take one request from the caller's bucket; `retry_after_seconds` is set when it was empty."""
        rate = per_minute / 60
        now = self._clock.monotonic()
        with self._lock:
            bucket = self._buckets.setdefault(caller, _Bucket(level=per_minute, at=now))
            self._buckets.move_to_end(caller)
            if len(self._buckets) > _REMEMBERED_CALLERS:
                self._buckets.popitem(last=False)
            bucket.level = min(per_minute, bucket.level + max(0.0, now - bucket.at) * rate)
            bucket.at = now
            is_allowed = bucket.level >= 1
            if is_allowed:
                bucket.level -= 1
            level = bucket.level
        return Allowance(
            limit=per_minute,
            remaining=math.floor(level),
            reset_seconds=(per_minute - level) / rate,
            retry_after_seconds=None if is_allowed else (1 - level) / rate,
        )


def ceiling(tier: str, most: int) -> int:
    """Return what a tier has of a limit for keys: of requests, of tokens, of what runs at once."""
    return max(1, math.floor(min(most, _MOST) * TIERS.get(tier, min(TIERS.values()))))


def at_once(tier: str, key_concurrent_requests: int) -> int:
    """Return how many requests of one key of a tier may run at once; 0 where the site does not bound them."""
    return ceiling(tier, key_concurrent_requests) if key_concurrent_requests else 0


def duration(seconds: float) -> str:
    """Render as OpenAI does: `120ms`, `7s`, `6m0s`."""
    if (milliseconds := math.ceil(seconds * 1000)) < 1000:
        return f"{milliseconds}ms"
    whole = math.ceil(seconds)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m{whole % 60}s"
