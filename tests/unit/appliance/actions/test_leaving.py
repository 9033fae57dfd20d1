"""Whether an engine gives up what nobody waits for: seen in answers that last, on engines of any speed."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from appliance.actions.gating import failing
from appliance.actions.gating.bench import Bench
from appliance.serve.client import EngineClient
from media.clock import FixedClock
from tests.support.floor import Floor, open_floor

BRIEFLY, AT_LENGTH = 0.3, 60.0


@dataclass(slots=True, kw_only=True)
class Talking:
    """An engine that answers the first question for `first` seconds and others for `others`.

    It notices after `notices` seconds that a caller left; None: never. `piece` seconds pass for each piece of text.
    """

    clock: FixedClock
    first: float
    others: float
    notices: float | None
    piece: float = 0.01
    asked: list[str] = field(default_factory=list)
    busy_until: float = 0.0

    def load(self) -> tuple[int, int]:
        return (int(self.clock.monotonic() < self.busy_until), 0)

    def chat_stream(self, body: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        text = body["messages"][0]["content"]
        self.asked.append(text)
        ends = self.clock.monotonic() + (self.first if text == self.asked[0] else self.others)
        try:
            while self.clock.monotonic() < ends:
                self.clock.advance(self.piece)
                yield {"choices": [{"delta": {"content": "one "}}]}
        finally:
            left = self.clock.monotonic()
            self.busy_until = ends if self.notices is None else min(ends, left + self.notices)


def bench_of(floor: Floor, engine: Talking) -> Bench:
    descriptor = floor.bring()
    stored = floor.bench
    return Bench(
        descriptor=descriptor,
        stored=cast("Any", None),
        task_paths=(),
        engine=cast("EngineClient", engine),
        supervisor=floor.supervisor,
        policy=cast("Any", None),
        clock=engine.clock,
        start_seconds=60,
        environment="test",
        memory_bytes=1,
        leaks=stored.leaks,
        reviews=cast("Any", None),
        sleep=engine.clock.advance,
    )


@pytest.fixture(scope="module")
def bench() -> Bench:
    with open_floor() as floor:
        clock = FixedClock(at=datetime(2026, 11, 20, tzinfo=UTC))
        return bench_of(floor, Talking(clock=clock, first=1, others=1, notices=0))


@pytest.mark.parametrize(
    ("first", "others", "piece", "notices", "gives_up"),
    [
        pytest.param(BRIEFLY, AT_LENGTH, 0.01, 0.2, True, id="fast, its first answer too short to see anything in"),
        pytest.param(BRIEFLY, AT_LENGTH, 0.01, None, False, id="fast, and makes answers to their ends"),
        pytest.param(AT_LENGTH, AT_LENGTH, 2.0, 2.0, True, id="slow, it notices with the next piece"),
        pytest.param(AT_LENGTH, AT_LENGTH, 2.0, None, False, id="slow, and makes answers to their ends"),
        pytest.param(BRIEFLY, BRIEFLY, 0.01, 0.25, True, id="it says little to anything, and ends"),
    ],
)
def test_only_an_engine_that_makes_answers_for_nobody_is_said_not_to_give_up(
    bench: Bench, first: float, others: float, piece: float, notices: float | None, *, gives_up: bool
) -> None:
    clock = FixedClock(at=datetime(2026, 11, 20, tzinfo=UTC))
    engine = Talking(clock=clock, first=first, others=others, notices=notices, piece=piece)
    tried = replace(bench, engine=cast("EngineClient", engine), clock=clock, sleep=clock.advance)

    assert failing._disconnects(tried) is gives_up


def test_what_is_long_enough_is_not_asked_for_again(bench: Bench) -> None:
    clock = FixedClock(at=datetime(2026, 11, 20, tzinfo=UTC))
    engine = Talking(clock=clock, first=AT_LENGTH, others=AT_LENGTH, notices=0.1)

    failing._disconnects(replace(bench, engine=cast("EngineClient", engine), clock=clock, sleep=clock.advance))

    assert len(set(engine.asked)) == 1
    assert clock.monotonic() < 5
