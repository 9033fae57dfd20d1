"""An engine's own figures: what the gateway looks for is there, true while it answers and after."""

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from appliance.gateway.enginefigures import OWN, USE
from appliance.serve.counts import Counts
from appliance.serve.engine import Generation, Sampling
from appliance.serve.figures import exposition
from appliance.serve.scheduler import Scheduler
from tests.support.decoder import EchoDecoder

PROMPT = tuple(map(ord, "abcd"))


class SlowDecoder(EchoDecoder):
    """Waits in its second step until it is let go on."""

    def __init__(self) -> None:
        super().__init__(context_tokens=64, batch_tokens=16, sequences=1)
        self.is_in_step, self.goes_on = threading.Event(), threading.Event()
        self._steps = 0

    def decode(self, rows: Any) -> bool:
        is_done = super().decode(rows)
        self._steps += 1
        if self._steps == 2:
            self.is_in_step.set()
            assert self.goes_on.wait(60)
        return is_done


@pytest.fixture
def decoder() -> SlowDecoder:
    return SlowDecoder()


@pytest.fixture
def scheduler(decoder: SlowDecoder) -> Iterator[Scheduler]:
    made = Scheduler(decoder)
    yield made
    decoder.goes_on.set()
    made.stop()


def _read(scheduler: Scheduler) -> Mapping[str, float | None]:
    told = exposition(scheduler).decode()
    return {one.names[-1]: one.read(told) for one in (USE, *OWN)}


def _ask(scheduler: Scheduler, tokens: int) -> Any:
    greedy = Sampling(temperature=0)
    return scheduler.submit(
        Generation(tokens=PROMPT, max_tokens=tokens, sampling=greedy, salt="one", is_streamed=False)
    )


def test_all_that_the_gateway_looks_for_is_told_of_one_that_did_nothing(scheduler: Scheduler) -> None:
    assert set(_read(scheduler).values()) == {0.0}


def test_what_runs_waits_and_fills_is_told_while_it_does(scheduler: Scheduler, decoder: SlowDecoder) -> None:
    running = _ask(scheduler, 3)
    assert decoder.is_in_step.wait(60)
    waiting = _ask(scheduler, 3)

    found = _read(scheduler)

    assert found["vllm:num_requests_running"] == 1
    assert found["vllm:num_requests_waiting"] == 1
    assert found["vllm:kv_cache_usage_perc"] == (len(PROMPT) + 1) / decoder.context_tokens

    decoder.goes_on.set()
    made = sum(piece.completion_tokens for one in (running, waiting) for piece in one.pieces() if piece.finish_reason)
    found = _read(scheduler)
    assert found["vllm:generation_tokens_total"] == made > 0
    assert found["vllm:prompt_tokens_total"] == 2 * len(PROMPT)
    assert found["vllm:prefix_cache_queries_total"] == 2 * len(PROMPT)
    # The second began as the first: all but the last token, by which the next one is drawn.
    assert found["vllm:prefix_cache_hits_total"] == len(PROMPT) - 1
    assert found["vllm:kv_cache_usage_perc"] == found["vllm:num_requests_running"] == 0


def test_of_anothers_server_only_what_is_counted_here_is_told() -> None:
    class Attached:
        counts = Counts(prompt_tokens=7, answer_tokens=3)
        running, waiting, filled = 2, 1, None

    told = exposition(Attached()).decode()

    assert [line for line in told.splitlines() if not line.startswith("#")] == [
        "vllm:num_requests_running 2.0",
        "vllm:num_requests_waiting 1.0",
        "vllm:prompt_tokens_total 7.0",
        "vllm:generation_tokens_total 3.0",
    ]
