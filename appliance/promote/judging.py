"""How a canary does, read from the ledger: what the gateway measured of both arms, feedback, and gates run again.

Promises: only requests whose arm the share chose are compared (no pinned key, no conversation that stayed), and of the
canary's own line alone; they are taken in the order in which they came, so that a slow answer is not left out; a
request without an outcome counts as a fault. Nobody tells the judge anything: it reads records that the gateway made
and looks at nothing else. The streams share one probability of a false alarm, 5 % over the whole canary; see
`appliance.promote.sequential`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.promote import arrivals
from appliance.promote.arrivals import INTENT, OUTCOME, Ended, Word
from appliance.promote.belonging import IsOwn, of_any
from appliance.promote.canary import Canary, is_in_share
from appliance.promote.following import HISTORY, Follower
from appliance.promote.sequential import Arm, Comparison, Outcome
from appliance.promote.speeds import SpeedLimits
from appliance.stages import is_tried

CANARY: Final = "canary"
PRODUCTION: Final = "production"
SHARE: Final = "share"
ENOUGH_REQUESTS: Final = 600
"""Requests of the canary with which nine of ten of the regressions of `STATED_POWER` are found (tests/simulations)."""
STATED_POWER: Final = "errors 5 % instead of 1 %, or slow answers 30 % instead of 10 %: found 9 times of 10"
ERRORS, SPEED, COMPLAINTS = "errors", "speed", "complaints"
STREAMS: Final = {ERRORS: (0.02, 0.005), SPEED: (0.02, 0.05), COMPLAINTS: (0.01, 0.05)}
"""Each stream's part of the 5 %, and its margin."""
_BLOCK: Final = 50


@dataclass(slots=True)
class _Stream:
    """One stream's comparison, and the block that grows."""

    name: str
    comparison: Comparison
    production: list[Outcome] = field(default_factory=list)
    canary: list[Outcome] = field(default_factory=list)

    def take(self, request_id: str, *, in_canary: bool, is_fault: bool) -> None:
        """Add one request; a block closes with the arrival that completes it, whatever its outcomes."""
        if in_canary:
            self.canary.append(Outcome(is_fault))
        elif len(self.production) < _BLOCK:
            self.production.append(Outcome(is_fault, _is_margin(self.name, request_id, self.comparison.margin)))
        if in_canary and self.production:
            self.comparison.take(self.production, self.canary)
            self.production, self.canary = [], []

    def to_json(self) -> dict[str, Any]:
        """Return whole numbers, so that the ledger holds them exactly."""
        found = self.comparison
        return {
            "stream": self.name,
            "evidence_millis": max(round(found.evidence * 1000), 0),
            "limit_millis": round(found.limit * 1000),
            "worse": found.is_worse,
            "production": _counted(found.production),
            "canary": _counted(found.canary),
        }

    @property
    def text(self) -> str:
        """What a person reads."""
        canary, production = self.comparison.canary, self.comparison.production
        return (
            f"{self.name}: {canary.faults} of {canary.requests} in the canary,"
            f" {production.faults} of {production.requests} in production"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How the canary does. `state` is going, enough or worse; `why` says of which stream."""

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
            "canary_requests": self.requests,
            "needed_requests": ENOUGH_REQUESTS,
            "streams": [dict(one) for one in self.streams],
            "behind": self.is_behind,
        }


class Judge(Follower[Verdict]):
    """Judges one canary.

    Args:
        ledger: The promoter's door.
        canary: Which canary.
        is_own: Tells whether a record is of its line.
    """

    def __init__(self, ledger: Ledger, canary: Canary, *, is_own: IsOwn = of_any) -> None:
        super().__init__(ledger, version=canary.version, sequence=canary.sequence, counts=self._counts)
        self.canary = canary
        self._is_own = is_own
        self._streams = {
            name: _Stream(name, Comparison(alpha=alpha, margin=margin)) for name, (alpha, margin) in STREAMS.items()
        }
        self._speeds = {True: SpeedLimits(), False: SpeedLimits()}

    def _verdict(self, *, is_behind: bool) -> Verdict:
        streams = self._streams.values()
        worse = [*(one.text for one in streams if one.comparison.is_worse), *self._drift()]
        requests = self._streams[ERRORS].comparison.canary.requests
        state = "worse" if worse else "enough" if requests >= ENOUGH_REQUESTS else "going"
        why = "; ".join(worse) or f"{requests} requests of the canary, {ENOUGH_REQUESTS} say enough"
        return Verdict(
            state=state,
            why=why,
            requests=requests,
            streams=tuple(one.to_json() for one in streams),
            is_behind=is_behind,
        )

    def _look_back(self) -> None:
        waiting: dict[str, tuple[bool, bool]] = {}
        for leaf in self._before(max(self.canary.sequence - HISTORY, 0), kinds={INTENT, OUTCOME}):
            body, request_id = leaf.body, str(leaf.body.get("request_id"))
            if leaf.kind == INTENT:
                bucket = body.get("bucket")
                if isinstance(bucket, int) and not is_tried(body) and self._is_own(leaf):
                    waiting[request_id] = (self._is_in_share(bucket), body.get("stream") is True)
            elif request_id in waiting:
                in_share, stream = waiting.pop(request_id)
                if (milliseconds := arrivals.milliseconds(body, stream=stream)) is not None:
                    self._speeds[stream].saw_before(milliseconds, in_share=in_share)
        for limits in self._speeds.values():
            limits.begin()

    def _arrived(self, one: Ended | Word) -> None:
        in_canary = one.arm == CANARY
        if isinstance(one, Word):
            self._streams[COMPLAINTS].take(one.request_id, in_canary=in_canary, is_fault=one.is_bad)
        else:
            self._streams[ERRORS].take(one.request_id, in_canary=in_canary, is_fault=one.is_fault)
            self._measure(one, in_canary=in_canary)

    def _measure(self, ended: Ended, *, in_canary: bool) -> None:
        if ended.milliseconds is None or ended.is_fault:
            return
        limits = self._speeds[ended.stream]
        limit = limits.limit(in_share=in_canary)
        if limit is not None:
            is_slow = ended.milliseconds > limit
            self._streams[SPEED].take(ended.request_id, in_canary=in_canary, is_fault=is_slow)
        elif not in_canary:
            limits.learn(ended.milliseconds)

    def _counts(self, leaf: Leaf) -> bool:
        return leaf.body.get("assigned") == SHARE and self._is_own(leaf)

    def _is_in_share(self, bucket: int) -> bool:
        return is_in_share(bucket, percent=self.canary.terms.percent, offset=self.canary.offset)


def _is_margin(stream: str, request_id: str, margin: float) -> bool:
    """Draw, the same at each look: a request's id is random and says nothing of its outcome."""
    drawn = int.from_bytes(sha256(f"{stream} {request_id}".encode()).digest()[:8])
    return drawn < margin * 2**64


def _counted(arm: Arm) -> dict[str, int]:
    return {"requests": arm.requests, "faults": arm.faults}
