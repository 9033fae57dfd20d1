"""Requests as the gateway recorded them, in the order in which they came, with how each ended.

Promises: a request is given out when it and all before it have ended, so that a slow answer is not left out; one
without an outcome after a quarter of an hour counts as a fault. A fault is what the version, or its engine, did wrong
(5xx, an answer that never ended), and not what callers did wrong or broke off.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.audit.leaf import Leaf
from media.clock import from_text

INTENT: Final = "request.intent"
OUTCOME: Final = "request.outcome"
REFUSED: Final = "request.refused"
FEEDBACK: Final = "request.feedback"
KINDS: Final = frozenset({INTENT, OUTCOME, REFUSED, FEEDBACK})
_LOST_SECONDS: Final = 900
_MOST_REMEMBERED: Final = 100_000
_BAD: Final = ("down", "bad", "negative")

Counts = Callable[[Leaf], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A request that ended.

    Attributes:
        request_id: Its id; of requests that were refused alike, one for each.
        arm: Which of the loaded versions answered.
        is_fault: Whether the version failed.
        stream: Whether it was streamed.
        milliseconds: To the first token of a stream, else to the whole answer; None where it was not measured.
    """

    request_id: str
    arm: str
    is_fault: bool
    stream: bool = False
    milliseconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What a person said of an answer."""

    request_id: str
    arm: str
    is_bad: bool


@dataclass(slots=True, kw_only=True)
class _Seen:
    request_id: str
    arm: str
    stream: bool
    time: str
    is_fault: bool | None = None
    milliseconds: int | None = None


class Arrivals:
    """Takes the ledger's leaves one after another and gives out what is certain.

    Args:
        counts: Whether the request of an intent, or of a refusal, is to be looked at.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._waiting: OrderedDict[str, _Seen] = OrderedDict()
        self._arms: OrderedDict[str, str] = OrderedDict()

    def take(self, leaf: Leaf) -> Iterator[Ended | Word]:
        """Yield what this leaf makes certain."""
        body, request_id = leaf.body, str(leaf.body.get("request_id"))
        if leaf.kind == INTENT and self._counts(leaf):
            self._waiting[request_id] = _Seen(
                request_id=request_id, arm=str(body.get("arm")), stream=body.get("stream") is True, time=leaf.time
            )
        elif leaf.kind == REFUSED and status(body) >= 500 and self._counts(leaf):
            count = body.get("repeated", 1)
            for number in range(count if isinstance(count, int) else 1):
                yield Ended(request_id=f"{request_id}/{number}", arm=str(body.get("arm")), is_fault=True)
        elif leaf.kind == OUTCOME and request_id in self._waiting:
            seen = self._waiting[request_id]
            seen.is_fault = body.get("outcome") == "error" and status(body) >= 500
            seen.milliseconds = milliseconds(body, stream=seen.stream)
        elif leaf.kind == FEEDBACK and request_id in self._arms:
            # One word counts for each answer.
            yield Word(request_id=request_id, arm=self._arms.pop(request_id), is_bad=body.get("rating") in _BAD)
        yield from self._settled(leaf.time)

    def _settled(self, now: str) -> Iterator[Ended]:
        """Yield the requests whose turn has come: those before them have ended, or are given up."""
        while self._waiting:
            seen = next(iter(self._waiting.values()))
            if seen.is_fault is None and not _is_lost(seen.time, now):
                return
            del self._waiting[seen.request_id]
            self._arms[seen.request_id] = seen.arm
            if len(self._arms) > _MOST_REMEMBERED:
                self._arms.popitem(last=False)
            yield Ended(
                request_id=seen.request_id,
                arm=seen.arm,
                is_fault=seen.is_fault is not False,
                stream=seen.stream,
                milliseconds=seen.milliseconds,
            )


def milliseconds(body: Mapping[str, Any], *, stream: bool) -> int | None:
    """Return how long an outcome says that its caller waited; None where it did not end well."""
    found = body.get("ttft_ms" if stream else "latency_ms")
    return found if isinstance(found, int) and body.get("outcome") == "ok" else None


def status(body: Mapping[str, Any]) -> int:
    """Return the HTTP status of an outcome or a refusal."""
    found = body.get("status")
    return found if isinstance(found, int) else 500


def _is_lost(time: str, now: str) -> bool:
    return (from_text(now) - from_text(time)).total_seconds() > _LOST_SECONDS
