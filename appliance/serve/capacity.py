"""What one engine on this machine can do: a standard note, asked by 1, 4 and 16 callers at once, timed.

The note is about 900 tokens in and 250 out; its text is invented and the same everywhere, so that two machines can be
compared. Each caller's copy begins differently, so nothing is answered from what another copy left in a cache. Where a
model ends its answer early, or time is short, the tokens that are missing are added at the speed that was measured.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from appliance.errors import EngineProtocolError
from appliance.serve.client import EngineClient
from appliance.serve.thoughts import written
from media.clock import Clock

FORMAT: Final = 1
NOTE_TOKENS: Final = 900
ANSWER_TOKENS: Final = 250
CALLERS: Final = (1, 4, 16)
_LEAST_TOKENS: Final = 16
_ROOM_TOKENS: Final = 32
_SENTENCES: Final = (
    "The visit was arranged for review of a long standing complaint . Sleep and appetite are unchanged since spring .",
    "Examination shows clear chest , soft abdomen and steady gait ; blood pressure was taken twice and agreed .",
    "Laboratory values lie within the usual range except for a mildly raised marker that was seen before .",
    "Plan : continue the present medicine , repeat the values in six weeks , call earlier if new pain appears .",
)
_WORDS: Final = " ".join(_SENTENCES).split()

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What so many callers at once got: all tokens of answers per second, and what that makes of whole notes.

    `answer_tokens` is what each was asked for; fewer than the note's 250 where time was short.
    """

    callers: int
    answer_tokens: int
    tokens_per_second: float
    seconds_per_note: float
    notes_per_hour: float
    first_token_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """All that was measured. `left_out` names levels that would have taken too long."""

    note_tokens: int
    prefill_tokens_per_second: float
    levels: tuple[Level, ...]
    left_out: tuple[int, ...]

    @property
    def best(self) -> Level:
        """The level with the most notes per hour."""
        return max(self.levels, key=lambda level: level.notes_per_hour)

    def to_json(self) -> dict[str, Any]:
        """Return whole numbers, so that the ledger holds them exactly."""
        return {
            "format": FORMAT,
            "note_tokens": self.note_tokens,
            "answer_tokens": ANSWER_TOKENS,
            "prefill_tokens_per_second": round(self.prefill_tokens_per_second),
            "notes_per_hour": round(self.best.notes_per_hour),
            "best_callers": self.best.callers,
            "left_out": list(self.left_out),
            "levels": [
                {
                    "callers": one.callers,
                    "answer_tokens": one.answer_tokens,
                    "tokens_per_second_millis": round(one.tokens_per_second * 1000),
                    "seconds_per_note_millis": round(one.seconds_per_note * 1000),
                    "first_token_millis": round(one.first_token_seconds * 1000),
                    "notes_per_hour": round(one.notes_per_hour),
                }
                for one in self.levels
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    began: float
    first: float
    ended: float
    tokens: int


class Stopwatch:
    """Measures one engine.

    Args:
        engine: The engine, ready, and left to us alone for honest figures.
        clock: Times everything.
        seconds: About how long the whole measurement may take; at least one caller is always measured.
        n_ctx: Tokens that a question and its answer may have.
        progress: Told (words, done, of) as it goes on.
    """

    def __init__(
        self,
        engine: EngineClient,
        *,
        clock: Clock,
        seconds: float,
        n_ctx: int,
        progress: Progress = lambda *_: None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._seconds = seconds
        self._n_ctx = n_ctx
        self._progress = progress
        self._numbers = count()

    def measure(self) -> Capacity:
        """Return what was measured.

        Raises:
            EngineUnavailableError: The engine went away.
            EngineProtocolError: It answered nothing at all.
        """
        words, note_tokens = self._fitting_note()
        self._progress("reading speed", 0, 1 + len(CALLERS))
        self._ask(words, 1)  # the first touch of the weights is not the machine's speed
        probe = self._ask(words, 1)
        reading = max(1e-6, probe.first - probe.began)
        levels: list[Level] = []
        left_out: list[int] = []
        until = self._clock.monotonic() + self._seconds
        for place, callers in enumerate(CALLERS):
            self._progress(f"{callers} at once", 1 + place, 1 + len(CALLERS))
            # The best that is known of answering; one token after another, at first as slow as reading suggests.
            known = max((level.tokens_per_second for level in levels), default=note_tokens / reading / 10)
            share = (until - self._clock.monotonic()) / (len(CALLERS) - place)
            room = (share - callers * reading) * known / callers
            if levels and room < _LEAST_TOKENS:
                left_out.append(callers)
                continue
            wanted = max(_LEAST_TOKENS, min(ANSWER_TOKENS, int(room)))
            levels.append(self._level(words, callers, wanted))
        self._progress("measured", 1 + len(CALLERS), 1 + len(CALLERS))
        return Capacity(
            note_tokens=note_tokens,
            prefill_tokens_per_second=note_tokens / reading,
            levels=tuple(levels),
            left_out=tuple(left_out),
        )

    def _level(self, words: int, callers: int, wanted: int) -> Level:
        with ThreadPoolExecutor(callers) as pool:
            answers = list(pool.map(lambda _: self._ask(words, wanted), range(callers)))
        wall = max(one.ended for one in answers) - min(one.began for one in answers)
        tokens = sum(one.tokens for one in answers)
        if tokens == 0 or wall <= 0:
            raise EngineProtocolError(
                what="the engine answered the standard note with nothing",
                why="no capacity can be measured",
                fix="run `sealift validate` on the version",
            )
        # Answering alone, without the reading that came first: what a token that is missing would have cost.
        decoding = wall - min(one.first - one.began for one in answers)
        missing = max(0, callers * ANSWER_TOKENS - tokens)
        whole = wall + missing * max(decoding, 0.0) / tokens
        return Level(
            callers=callers,
            answer_tokens=wanted,
            tokens_per_second=tokens / wall,
            seconds_per_note=whole,
            notes_per_hour=callers * 3600 / whole,
            first_token_seconds=sorted(one.first - one.began for one in answers)[callers // 2],
        )

    def _ask(self, words: int, max_tokens: int) -> _Answer:
        body = {"messages": self._messages(words), "max_tokens": max_tokens, "temperature": 0.0}
        began = first = self._clock.monotonic()
        pieces = tokens = 0
        for event in self._engine.chat_stream(body):
            choices = event.get("choices")
            delta = choices[0].get("delta", {}) if isinstance(choices, list) and choices else {}
            if isinstance(delta, dict) and written(delta):
                pieces += 1
                if pieces == 1:
                    first = self._clock.monotonic()
            usage = event.get("usage")
            if isinstance(usage, dict) and type(usage.get("completion_tokens")) is int:
                tokens = usage["completion_tokens"]
        ended = self._clock.monotonic()
        return _Answer(began=began, first=first if pieces else ended, ended=ended, tokens=tokens or pieces)

    def _messages(self, words: int) -> list[dict[str, str]]:
        number = next(self._numbers)
        text = " ".join(_WORDS[(number + place) % len(_WORDS)] for place in range(words))
        asked = f"Case {number}. Write a detailed note of what follows, in whole sentences. {text}"
        return [{"role": "user", "content": asked}]

    def _fitting_note(self) -> tuple[int, int]:
        """Return how many words make the note, and its tokens; shorter where the engine's context is."""
        most = min(NOTE_TOKENS, self._n_ctx - ANSWER_TOKENS - _ROOM_TOKENS)
        if most < _LEAST_TOKENS:
            raise EngineProtocolError(
                what="the engine's context is too small for a note",
                why=f"{self._n_ctx} tokens",
                fix="give the version a larger n_ctx",
            )
        words = most
        for _ in range(6):
            tokens = self._engine.tokenize(messages=self._messages(words))
            if abs(tokens - most) <= _ROOM_TOKENS // 2:
                break
            words = max(1, words * most // max(1, tokens))
        return words, tokens
