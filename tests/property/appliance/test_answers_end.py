"""Laws of the context that answers share: each one ends, as it would alone, whatever they ask and whenever they come.

The decoder's next token depends on every token before it, and it ends by itself now and then. It refuses to hold more
than the context has, and steps without end.
"""

import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appliance.errors import EngineProtocolError
from appliance.serve import context
from appliance.serve.engine import Generation, Row
from appliance.serve.handles import Handle
from appliance.serve.scheduler import Scheduler
from tests.support.decoder import END, TOKEN_BYTES, EchoDecoder, Suspended

MOST_STEPS = 20_000


def _next(seen: Sequence[int], *, never_ends: bool) -> int:
    drawn = zlib.crc32(",".join(map(str, seen)).encode())
    return END if not never_ends and drawn % 23 == 0 else ord("a") + drawn % 26


def _alone(asked: Generation, *, never_ends: bool) -> tuple[str, str]:
    tokens = list(asked.tokens)
    for _ in range(asked.max_tokens):
        token = _next(tokens, never_ends=never_ends)
        if token == END:
            return "".join(map(chr, tokens[len(asked.tokens) :])), "stop"
        tokens.append(token)
    return "".join(map(chr, tokens[len(asked.tokens) :])), "length"


@dataclass
class _Hashing(EchoDecoder):
    """Submits the next of what is to come at every step; counts what is kept of those who gave way."""

    never_ends: bool = False
    most_bytes: int = 0
    on_step: Any = None
    kept: list[Suspended] = field(default_factory=list)
    suspensions: int = 0

    def decode(self, rows: Sequence[Row]) -> bool:
        if len(self.steps) > MOST_STEPS:
            raise EngineProtocolError(what="this goes on without end", why="", fix="")
        is_done = super().decode(rows)
        self.on_step()
        return is_done

    def sample(self, sequence: int, row: int) -> int:
        return _next(self.prompts[sequence][: self.last[row].position + 1], never_ends=self.never_ends)

    def suspend(self, sequence: int, *, most_bytes: int) -> Suspended:
        found = super().suspend(sequence, most_bytes=most_bytes)
        self.suspensions += 1
        if found.state_bytes:
            self.kept.append(found)
        assert len(self.kept) <= self.sequences
        assert sum(one.state_bytes for one in self.kept) <= min(self.most_bytes, TOKEN_BYTES * self.context_tokens)
        return found

    def resume(self, sequence: int, suspended: Any) -> bool:
        self.discard(suspended)
        return super().resume(sequence, suspended)

    def discard(self, suspended: Any) -> None:
        self.kept = [one for one in self.kept if one is not suspended]


@dataclass(frozen=True)
class _Asked:
    prompt: int
    most: int
    priority: int = 1
    answers: int = 1
    salt: str = ""
    after: int = 0
    """How many steps after the one before it comes."""


ALIKE = [_Asked(20, 200)] * 6
MIXED = [_Asked(20, 200, priority=at % 3, after=9) for at in range(9)]
_asked = st.builds(
    _Asked,
    prompt=st.integers(1, 60),
    most=st.integers(1, 200),
    priority=st.integers(0, 2),
    answers=st.sampled_from([1, 1, 1, 2, 3]),
    salt=st.sampled_from(["", "one", "two"]),
    after=st.sampled_from([0, 0, 1, 2, 7, 30]),
)


@given(
    asked=st.lists(_asked, min_size=1, max_size=9),
    tokens=st.integers(8, 160),
    places=st.integers(1, 6),
    batch=st.integers(1, 24),
    kind=st.sampled_from(["shared", "apart", "whole"]),
    never_ends=st.booleans(),
    most_bytes=st.sampled_from([0, 30 * TOKEN_BYTES, 1 << 28]),
)
@example(asked=ALIKE, tokens=128, places=6, batch=16, kind="shared", never_ends=True, most_bytes=0)
@example(asked=MIXED, tokens=96, places=4, batch=16, kind="shared", never_ends=True, most_bytes=0)
def test_every_answer_ends_as_it_would_alone(
    *, asked: list[_Asked], tokens: int, places: int, batch: int, kind: str, never_ends: bool, most_bytes: int
) -> None:
    is_apart = kind == "apart"
    decoder = _Hashing(
        context_tokens=tokens // places * places,
        sequences=places,
        batch_tokens=batch,
        is_apart=is_apart,
        is_whole=kind == "whole",
        never_ends=never_ends,
        most_bytes=most_bytes,
    )
    generations: list[tuple[int, Generation]] = []
    for number, one in enumerate(asked):
        length = min(one.prompt, decoder.request_tokens - 1)
        if length < 1:
            continue
        # Those of one key begin alike.
        prompt = [ord("A") + (at if at < length // 2 else at * (number + 2)) % 26 for at in range(length)]
        most = min(one.most, decoder.request_tokens - length)  # as the engine's reader has it
        generations.append(
            (
                one.after,
                Generation(tokens=prompt, max_tokens=most, priority=one.priority, answers=one.answers, salt=one.salt),
            )
        )
    handles: list[Handle] = []
    lock, waited = threading.RLock(), 0

    def come(*, now: bool = False) -> None:
        nonlocal waited
        with lock:
            waited += 1
            while len(handles) < len(generations) and (now or waited > generations[len(handles)][0]):
                waited, now = 0, False
                handles.append(scheduler.submit(generations[len(handles)][1]))

    decoder.on_step = come
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "MOST_SUSPENDED_BYTES", most_bytes)
        scheduler = Scheduler(decoder)
        for at, (_, generation) in enumerate(generations):
            while len(handles) <= at:
                come(now=True)
            hangs = time.monotonic() + 60
            pieces = list(handles[at].pieces(lambda hangs=hangs: time.monotonic() > hangs))  # type: ignore[misc]
            for index in range(generation.answers):
                text = "".join(piece.text for piece in pieces if piece.index == index)
                ends = [piece.finish_reason for piece in pieces if piece.index == index and piece.finish_reason]
                alone = _alone(generation, never_ends=never_ends)
                assert (text, ends) == (alone[0], [alone[1]])
        scheduler.stop()
    assert not decoder.kept
    assert not (is_apart and decoder.suspensions and len({one.priority for one in asked}) == 1)
