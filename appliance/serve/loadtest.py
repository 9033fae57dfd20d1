"""What so many callers at once get of one engine: waits, answers and tokens per second, and how many requests failed.

Short invented questions, each caller's beginning differently, so that nothing is answered from what another left in a
cache. Percentiles are of the requests that were answered.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from appliance.errors import EngineProtocolError
from appliance.serve.client import EngineClient
from appliance.serve.thoughts import written
from media.clock import Clock
from media.errors import SealiftError

_WORDS: Final = ("river", "window", "garden", "winter", "engine", "letter", "harbour", "bridge", "market", "lantern")
_LEAST_REQUESTS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadLevel:
    """What so many callers got.

    Waits are in milliseconds, for the first text and for the whole answer: medians, and the 99th percentile.
    """

    callers: int
    requests: int
    failed: int
    first_p50: int
    first_p99: int
    p50: int
    p99: int
    tokens_per_second_millis: int
    requests_per_second_millis: int

    def to_json(self) -> dict[str, int]:
        """Return the figures for evidence."""
        return {
            "callers": self.callers,
            "requests": self.requests,
            "failed": self.failed,
            "first_token_p50_millis": self.first_p50,
            "first_token_p99_millis": self.first_p99,
            "latency_p50_millis": self.p50,
            "latency_p99_millis": self.p99,
            "tokens_per_second_millis": self.tokens_per_second_millis,
            "requests_per_second_millis": self.requests_per_second_millis,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    first: float
    whole: float
    tokens: int


class LoadTest:
    """Asks one engine.

    Args:
        engine: The engine, ready; it must have as many connections as callers.
        clock: Times everything.
        answer_tokens: How long each answer may be.
    """

    def __init__(self, engine: EngineClient, *, clock: Clock, answer_tokens: int) -> None:
        self._engine = engine
        self._clock = clock
        self._answer_tokens = answer_tokens
        self._numbers = count()

    def measure(self, callers: int) -> LoadLevel:
        """Return what `callers` at once get; each asks once, few callers several times.

        Raises:
            EngineProtocolError: Not one was answered.
        """
        requests = max(callers, _LEAST_REQUESTS)
        began = self._clock.monotonic()
        with ThreadPoolExecutor(callers) as pool:
            answers = list(pool.map(lambda _: self._ask(), range(requests)))
        seconds = max(self._clock.monotonic() - began, 1e-3)
        answered = [one for one in answers if one is not None]
        if not answered:
            raise EngineProtocolError(
                what="the engine answered nobody under load",
                why=f"{callers} callers at once",
                fix="see the journal of the engine's unit",
            )
        firsts, wholes = sorted(one.first for one in answered), sorted(one.whole for one in answered)
        return LoadLevel(
            callers=callers,
            requests=requests,
            failed=requests - len(answered),
            first_p50=_millis(firsts, 50),
            first_p99=_millis(firsts, 99),
            p50=_millis(wholes, 50),
            p99=_millis(wholes, 99),
            tokens_per_second_millis=round(1000 * sum(one.tokens for one in answered) / seconds),
            requests_per_second_millis=round(1000 * len(answered) / seconds),
        )

    def _ask(self) -> _Asked | None:
        body = {"messages": self._messages(), "max_tokens": self._answer_tokens, "temperature": 0, "seed": 0}
        began = self._clock.monotonic()
        first, pieces, tokens = 0.0, 0, 0
        try:
            for event in self._engine.chat_stream(body):
                pieces += _has_text(event)
                if pieces == 1 and not first:
                    first = self._clock.monotonic() - began
                usage = event.get("usage")
                if isinstance(usage, dict) and type(usage.get("completion_tokens")) is int:
                    tokens = usage["completion_tokens"]
        except SealiftError:
            return None
        whole = self._clock.monotonic() - began
        return _Asked(first=first or whole, whole=whole, tokens=tokens or pieces)

    def _messages(self) -> list[dict[str, str]]:
        number = next(self._numbers)
        words = " ".join(_WORDS[(number + 3 * place) % len(_WORDS)] for place in range(8))
        return [{"role": "user", "content": f"{words}. Write a short story in which all of these occur."}]


def _has_text(untrusted_event: dict[str, Any]) -> bool:
    choices = untrusted_event.get("choices")
    delta = choices[0].get("delta") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    return isinstance(delta, dict) and bool(written(delta))


def _millis(sorted_seconds: Sequence[float], percent: int) -> int:
    place = -(-len(sorted_seconds) * percent // 100) - 1
    return round(1000 * sorted_seconds[max(0, place)])
