"""How a version does after the cut-over, read from the ledger: against what the version before was used to.

Promises: the same records count as in a canary (`appliance.promote.arrivals`), of the version in production in its own
line; nobody tells the watch anything. What was usual is fixed when the watch begins: the newest requests that the
version before answered in production. The three streams share one probability of a false alarm, 5 % over the whole
watch, on the condition that `appliance.promote.onearm` states. A gate that is run again and does not pass is told too
(evaluation drift).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.promote import arrivals
from appliance.promote.arrivals import Arrivals, Ended, Word
from appliance.promote.belonging import IsOwn, of_any
from appliance.promote.canary import Watch
from appliance.promote.following import HISTORY, Follower
from appliance.promote.judging import COMPLAINTS, ERRORS, PRODUCTION, SPEED
from appliance.promote.onearm import OneArm, highest_rate
from appliance.promote.speeds import limit_of

STREAMS: Final = {ERRORS: (0.02, 0.005), SPEED: (0.02, 0.05), COMPLAINTS: (0.01, 0.05)}
"""Each stream's part of the 5 %, half of it for what was usual, and its margin."""
LEAST_KNOWN: Final = 100
"""With fewer requests of the version before a stream is not compared, and the verdict says so."""
STATED_POWER: Final = (
    "with 2,000 requests of the version before, and 1,500 of the new one: errors 5 % instead of 1 %, or slow answers"
    " 30 % instead of 10 %: found 9 times of 10"
)
GOING, WORSE = "going", "worse"
_MOST_TIMES: Final = 20_000


@dataclass(slots=True)
class _Before:
    """What the version before was used to: counts by stream, and times by whether answers were streamed."""

    counted: dict[str, list[int]] = field(default_factory=lambda: {name: [0, 0] for name in STREAMS})
    times: dict[bool, list[int]] = field(default_factory=lambda: {True: [], False: []})

    def count(self, stream: str, *, is_fault: bool) -> None:
        self.counted[stream][0] += 1
        self.counted[stream][1] += is_fault

    def speed_limits(self) -> dict[bool, int]:
        """Fix from when on an answer is slow by every second time, and count by the others how many were."""
        limits = {}
        for stream, times in self.times.items():
            if len(times) >= LEAST_KNOWN:
                limits[stream] = limit = limit_of(times[::2])
                for milliseconds in times[1::2]:
                    self.count(SPEED, is_fault=milliseconds > limit)
        return limits


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchVerdict:
    """How the version does. `state` is going or worse; `why` says of which stream, or what cannot be compared."""

    state: str
    why: str
    requests: int
    streams: tuple[Mapping[str, Any], ...]
    is_behind: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers and records."""
        return {
            "state": self.state,
            "why": self.why,
            "requests": self.requests,
            "streams": [dict(one) for one in self.streams],
            "behind": self.is_behind,
        }


class WatchJudge(Follower[WatchVerdict]):
    """Judges one watch.

    Args:
        ledger: The promoter's door.
        watch: Which watch.
        is_own: Tells whether a record is of its line.
    """

    def __init__(self, ledger: Ledger, watch: Watch, *, is_own: IsOwn = of_any) -> None:
        super().__init__(ledger, version=watch.version, sequence=watch.sequence, counts=self._counts)
        self.watch = watch
        self._is_own = is_own
        self._arms: dict[str, OneArm] = {}
        self._usual = _Before()
        self._limits: dict[bool, int] = {}
        self._requests = 0

    def _look_back(self) -> None:
        before, found = _Before(), Arrivals(self._counts)
        start = max(self.watch.sequence - HISTORY, self.watch.before_since + 1)
        for leaf in self._before(start, kinds=arrivals.KINDS):
            for one in found.take(leaf):
                if isinstance(one, Word):
                    before.count(COMPLAINTS, is_fault=one.is_bad)
                    continue
                before.count(ERRORS, is_fault=one.is_fault)
                if one.milliseconds is not None and len(before.times[one.stream]) < _MOST_TIMES:
                    before.times[one.stream].append(one.milliseconds)
        self._limits, self._usual = before.speed_limits(), before
        for name, (alpha, margin) in STREAMS.items():
            requests, faults = before.counted[name]
            if requests >= LEAST_KNOWN // 2:
                usual = highest_rate(faults, requests, delta=alpha / 2)
                self._arms[name] = OneArm(rate=usual + margin - usual * margin, alpha=alpha / 2)

    def _arrived(self, one: Ended | Word) -> None:
        if isinstance(one, Word):
            self._count(COMPLAINTS, is_fault=one.is_bad)
            return
        self._requests += 1
        self._count(ERRORS, is_fault=one.is_fault)
        limit = self._limits.get(one.stream)
        if limit is not None and one.milliseconds is not None and not one.is_fault:
            self._count(SPEED, is_fault=one.milliseconds > limit)

    def _count(self, stream: str, *, is_fault: bool) -> None:
        if stream in self._arms:
            self._arms[stream].take(is_fault=is_fault)

    def _verdict(self, *, is_behind: bool) -> WatchVerdict:
        worse = [*(self._text(name, arm) for name, arm in self._arms.items() if arm.is_worse), *self._drift()]
        unknown = [name for name in STREAMS if name not in self._arms]
        why = f"{self._requests} requests, nothing is worse than it was"
        if unknown:
            why += f"; too few of the version before are known to compare {', '.join(unknown)}"
        return WatchVerdict(
            state=WORSE if worse else GOING,
            why="; ".join(worse) or why,
            requests=self._requests,
            streams=tuple(self._shown(name) for name in STREAMS),
            is_behind=is_behind,
        )

    def _text(self, name: str, arm: OneArm) -> str:
        requests, faults = self._usual.counted[name]
        return f"{name}: {arm.faults} of {arm.requests} now, {faults} of {requests} of the version before"

    def _shown(self, name: str) -> dict[str, Any]:
        """Return whole numbers, so that the ledger holds them exactly."""
        arm, (requests, faults) = self._arms.get(name), self._usual.counted[name]
        return {
            "stream": name,
            "compared": arm is not None,
            "evidence_millis": 0 if arm is None else max(round(arm.evidence * 1000), 0),
            "limit_millis": 0 if arm is None else round(arm.limit * 1000),
            "worse": arm is not None and arm.is_worse,
            "before": {"requests": requests, "faults": faults},
            "now": {"requests": 0 if arm is None else arm.requests, "faults": 0 if arm is None else arm.faults},
        }

    def _counts(self, leaf: Leaf) -> bool:
        return leaf.body.get("arm") == PRODUCTION and self._is_own(leaf)
