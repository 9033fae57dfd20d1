"""How long a step takes by its number of rows, and what follows for how many answers go on in one step.

The curve is not monotone: with some weights and processors 8 rows take less time than 7, and two single steps less than
one of two rows. So the next token for everybody is made in the steps that take least time together: one batch, rounds,
or a batch that is filled up with rows nobody asked for.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.errors import EngineProtocolError
from appliance.serve.engine import Decoder, Row
from media.clock import Clock

FORMAT: Final = 2
_WITHOUT_PROMPTS: Final = 1
"""The format of curves that do not say how prompts are read, as releases of before wrote them."""
MAX_ROWS: Final = 512
_WIDTHS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)
_MOST_MEASURES: Final = 5
_MOST_CHUNK: Final = 256
_LEAST_CHUNK: Final = 32
_FEWEST: Final = 4
STEP_SECONDS: Final = 0.2
"""How long a step that reads prompts takes, about: nobody who is answered gets a token before it ends."""
_SHORTER: Final = 0.65
_LONGEST_SECONDS: Final = 0.8
"""Of a step that reads the least chunk: so long whoever is answered beside it waits for a token, or came meanwhile."""
_LEAST_OVER: Final = 4
"""Tokens by which one prompt has to be longer than another before they are read in the same step."""
_LOOK_SECONDS: Final = 0.05
_ALIKE: Final = 1.5
"""By how much a step may take longer, or less long, than a curve says, before the curve is measured anew."""
_MARK: Final = re.compile(r"(?:[0-9a-f]{64})?")
_SHARE: Final = 0.125
"""Of the time for measuring that one width may take, beyond the two steps that it is measured by at least."""
_PROMPTS_SECONDS: Final = 30.0
"""How long measuring prompts may take, where no step takes longer than in proportion to one of fewer tokens."""
_GAIN: Final = 0.9
"""Of two ways the plain batch is taken unless the other needs less than this part of its time: curves have noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Measured steps: rows and microseconds, both rising in rows.

    Attributes:
        threads: How many threads decoded.
        machine: What tells the machine from others (`appliance.serve.machinemark`); empty where nothing did.
        prompts: Steps that read so many tokens of one prompt; empty where a release measured that did not ask.
    """

    threads: int
    micros: Mapping[int, int]
    machine: str = ""
    prompts: Mapping[int, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return whole numbers, so that evidence holds them exactly; without prompts, the format of before."""
        form = {"format": FORMAT, "prompts": _told(self.prompts)} if self.prompts else {"format": _WITHOUT_PROMPTS}
        # A release of before it was known reads, and means, the same.
        mark = {"machine": self.machine} if self.machine else {}
        return {**form, "threads": self.threads, "steps": _told(self.micros), **mark}

    @classmethod
    def from_json(cls, untrusted: object) -> "Curve":
        """Read what `to_json` wrote, and what that of an earlier release did.

        Raises:
            EngineProtocolError: It is no curve.
        """
        fields = untrusted if isinstance(untrusted, dict) else {}
        form, threads = fields.get("format"), fields.get("threads")
        if type(form) is not int or form not in {FORMAT, _WITHOUT_PROMPTS} or type(threads) is not int or threads < 1:
            raise _no_curve("its form")
        machine = fields.get("machine", "")
        if not isinstance(machine, str) or _MARK.fullmatch(machine) is None:
            raise _no_curve("its machine")
        prompts = {} if form == _WITHOUT_PROMPTS else _points(fields.get("prompts"))
        return cls(threads=threads, micros=_points(fields.get("steps")), machine=machine, prompts=prompts)

    def seconds(self, rows: int) -> float:
        """Return how long a step of so many answers takes: measured, drawn between what was measured, or drawn on.

        Beyond the widest that was measured it is about what as many tokens of a prompt take.
        """
        beyond = {tokens: micros for tokens, micros in self.prompts.items() if tokens > max(self.micros)}
        return _drawn({**self.micros, **beyond}, rows)

    def reading(self, tokens: int) -> float:
        """Return how long a step takes that reads so many tokens of a prompt, as `seconds`."""
        return _drawn(self.prompts or self.micros, tokens)

    def tokens_within(self, seconds: float) -> int:
        """Return how many tokens of a prompt a step of so many seconds reads, 256 at most; 0 where not even one."""
        return max((tokens for tokens in range(1, _MOST_CHUNK + 1) if self.reading(tokens) <= seconds), default=0)


def _told(micros: Mapping[int, int]) -> list[dict[str, int]]:
    return [{"rows": rows, "micros": time} for rows, time in sorted(micros.items())]


def _points(untrusted: object) -> dict[int, int]:
    micros: dict[int, int] = {}
    for point in untrusted if isinstance(untrusted, list) else ():
        rows, time = (point.get("rows"), point.get("micros")) if isinstance(point, dict) else (None, None)
        if type(rows) is not int or type(time) is not int or not 1 <= rows <= MAX_ROWS or time < 1:
            raise _no_curve("a step of it")
        micros[rows] = time
    if 1 not in micros:
        raise _no_curve("what a single row takes")
    return micros


def _drawn(micros: Mapping[int, int], rows: int) -> float:
    """Return seconds: a step costs something whatever its rows, so beyond the widest a line goes on that one row began.

    Of a single row alone nobody knows how much of it that is: then it is as if there were nothing.
    """
    widest = max(micros)
    if rows > widest:
        a_row = (micros[widest] - micros[1]) / (widest - 1) if widest > 1 else micros[1]
        return (micros[widest] + max(a_row, 0.0) * (rows - widest)) / 1e6
    below = max(one for one in micros if one <= rows)
    if below == rows:
        return micros[rows] / 1e6
    above = min(one for one in micros if one > rows)
    part = (rows - below) / (above - below)
    return (micros[below] + part * (micros[above] - micros[below])) / 1e6


class Plan:
    """The best way to give so many answers their next token.

    Args:
        curve: What steps take; without one everything goes in one batch.
        most: How many answers and rows there can be in a step.
        fills: Whether a batch may be filled up: where each answer has a context of its own, rows that nobody asked for
            would be a step of their own.

    Attributes:
        chunk: How many tokens of prompts a step reads: so few that it takes about a fifth of a second, since nobody who
            is answered gets a token before a step ends. Larger ones would read a prompt sooner by a tenth at best.
            Never fewer than 32, unless these take most of a second and half as many take hardly more than half as
            long.
    """

    def __init__(self, curve: Curve | None, *, most: int, fills: bool = True) -> None:
        self._is_apart = not fills
        self.chunk = _MOST_CHUNK
        if curve is not None:
            # Of longer parts nothing is known where they were not measured, since they would have taken too long.
            least = max(_FEWEST, min(_LEAST_CHUNK, max(curve.prompts, default=_LEAST_CHUNK)))
            # Where half as many take nearly as long, as of a model that memory holds up, nothing is gained.
            while (
                least > _FEWEST
                and curve.reading(least) > _LONGEST_SECONDS
                and curve.reading(least // 2) < _SHORTER * curve.reading(least)
            ):
                least //= 2
            self.chunk = max(least, curve.tokens_within(STEP_SECONDS))
        self._first: list[int] = [0]
        self._total: list[float] = [0.0]
        for answers in range(1, most + 1):
            self._first.append(answers)
            if curve is None:
                continue
            plain = curve.seconds(answers)
            ways = [
                (curve.seconds(rows) + self._total[answers - min(rows, answers)], rows)
                for rows in range(1, (most if fills else answers) + 1)
                if rows in curve.micros and rows != answers
            ]
            best, rows = min(ways, default=(plain, answers))
            if best < plain * _GAIN:
                self._first[answers] = rows
            else:
                best = plain
            self._total.append(best)

    def seconds(self, answers: int) -> float:
        """Return how long it takes until each of so many answers has its next token; only with a curve.

        Raises:
            ValueError: There is no curve, or it was made for fewer.
        """
        if not 0 <= answers < len(self._total):
            raise ValueError(answers)
        return self._total[answers]

    def rows(self, answers: int) -> int:
        """Return how many rows the next step has: fewer than the answers in rounds, more where it is filled up."""
        return self._first[min(answers, len(self._first) - 1)]

    def read(self, unread: Sequence[int], *, beside: int, most: int) -> list[int]:
        """Return how many tokens of each prompt the next step reads, the first prompts first.

        Where each answer has a context of its own, llama.cpp computes together as many tokens of each as all have, and
        what some have beyond that in further parts, each of which costs nearly as much as a larger one. So a step reads
        as much of prompts of about one length; a few tokens more wait for the next one, which is to come anyway.

        Args:
            unread: The tokens of each prompt.
            beside: How many rows the step has already, one for each answer.
            most: How many it may have.
        """
        room = min(most - beside, self.chunk)
        wanted = [min(tokens, room) for tokens in unread]
        if self._is_apart and room:
            levels = [1] if beside else []
            for tokens in sorted({*wanted}):
                if not levels or tokens - levels[-1] >= _LEAST_OVER:
                    levels.append(tokens)
            wanted = [max(level for level in levels if level <= tokens) for tokens in wanted]
        counts: list[int] = []
        for tokens in wanted:
            counts.append(min(tokens, room))
            room -= counts[-1]
        return counts


def measure(decoder: Decoder, *, clock: Clock, threads: int, seconds: float, machine: str = "") -> Curve:
    """Measure steps of one row in each sequence, and of one prompt; nothing else may use the decoder meanwhile.

    Args:
        decoder: A decoder whose sequences are all empty.
        clock: Times the steps.
        threads: Told in the curve.
        seconds: About how long steps of several answers may take; widths that do not fit into it are left out, the
            single row never is. Prompts take half a second or a few beside, with a model that has seconds for a token
            half a minute at most.
        machine: Told in the curve.

    Raises:
        EngineProtocolError: A step failed.
    """
    most, token = _widest(decoder), _token(decoder)
    until, a_width = clock.monotonic() + seconds, seconds * _SHARE
    micros = {1: _timed(decoder, 1, token=token, clock=clock, until=clock.monotonic() + a_width)}
    began = clock.monotonic()
    prompts = _timed_prompts(decoder, micros[1], token=token, clock=clock)
    until += clock.monotonic() - began
    for rows in sorted({most, *(one for one in _WIDTHS if one < most)} - {1}):
        now = clock.monotonic()
        if now + 3 * micros[max(micros)] / 1e6 > until:
            break
        micros[rows] = _timed(decoder, rows, token=token, clock=clock, until=min(until, now + a_width))
    return Curve(threads=threads, micros=micros, machine=machine, prompts=prompts)


def _timed_prompts(decoder: Decoder, single: int, *, token: int, clock: Clock) -> dict[int, int]:
    """Return what steps take that read 32 tokens of a prompt, and as many as a step is to read then.

    Where 32 may take most of a second fewer are read first, and more while that pays (`Plan`).
    """
    most, ends = min(decoder.batch_tokens, decoder.request_tokens, MAX_ROWS), clock.monotonic() + _PROMPTS_SECONDS
    least, last, micros = min(_LEAST_CHUNK, most), 1, {1: single}
    while last < least:
        a_token, before = micros[last] / last / 1e6, last
        last = least if a_token * least <= _LONGEST_SECONDS else min(max(2 * last, _FEWEST), least)
        if clock.monotonic() + a_token * last > ends:
            break
        micros[last] = _timed_reading(decoder, last, token=token, clock=clock)
        is_long = micros[last] > _LONGEST_SECONDS * 1e6
        if is_long and before >= _FEWEST and micros[before] < _SHORTER * micros[last]:
            break
    # A step that memory holds up takes longer with each row beyond some number: so what is drawn is tried.
    chunk = min(most, Curve(threads=1, micros=micros, prompts=micros).tokens_within(STEP_SECONDS))
    if chunk > max(micros):
        micros[chunk] = _timed_reading(decoder, chunk, token=token, clock=clock)
    return micros


def fits(curve: Curve, decoder: Decoder, *, clock: Clock) -> bool:
    """Tell whether the narrowest and the widest step of a curve take now about what it says.

    It takes a tenth of a second, or two steps of each width; nothing else may use the decoder meanwhile, and its
    sequences are all empty.

    Raises:
        EngineProtocolError: A step failed.
    """
    widest = max(curve.micros)
    if widest > _widest(decoder):
        return False
    for rows in sorted({1, widest}):
        until = clock.monotonic() + _LOOK_SECONDS
        now = _timed(decoder, rows, token=_token(decoder), clock=clock, until=until)
        if not curve.micros[rows] <= now * _ALIKE <= curve.micros[rows] * _ALIKE**2:
            return False
    return True


def _widest(decoder: Decoder) -> int:
    return min(decoder.sequences, decoder.batch_tokens)


def _token(decoder: Decoder) -> int:
    return next(iter(decoder.tokenize("a", special=False)), 0)


def _timed(decoder: Decoder, rows: int, *, token: int, clock: Clock, until: float) -> int:
    times: list[float] = []
    try:
        for place in range(1 + _MOST_MEASURES):
            step = [Row(token=token, position=place, sequence=one, wants_logits=True) for one in range(rows)]
            began = clock.monotonic()
            decoder.decode(step)
            times.append(clock.monotonic() - began)
            if len(times) > 1 and clock.monotonic() > until:
                break
    finally:
        for one in range(rows):
            decoder.cut(one, 0)
    # The first has its memory to find; of the others the shortest stands, since noise only slows.
    return max(1, round(min(times[1:]) * 1e6))


def _timed_reading(decoder: Decoder, tokens: int, *, token: int, clock: Clock) -> int:
    rows = [Row(token=token, position=at, sequence=0, wants_logits=at == tokens - 1) for at in range(tokens)]
    until, times = clock.monotonic() + STEP_SECONDS, list[float]()
    while len(times) <= _MOST_MEASURES:
        began = clock.monotonic()
        try:
            decoder.decode(rows)
        finally:
            decoder.cut(0, 0)
        times.append(clock.monotonic() - began)
        # Of a step that takes most of a second noise, and finding its memory, is little: the first one stands.
        if clock.monotonic() > until and (len(times) > 1 or times[0] > _LONGEST_SECONDS):
            break
    return max(1, round(min(times[1:] or times) * 1e6))


def padding(count: int, *, sequence: int, token: int) -> Sequence[Row]:
    """Return rows nobody asked for; they are cut off again after the step."""
    return [Row(token=token, position=place, sequence=sequence, wants_logits=True) for place in range(count)]


def _no_curve(what: str) -> EngineProtocolError:
    return EngineProtocolError(what="a step-time curve is none", why=what, fix="validate the version again")
