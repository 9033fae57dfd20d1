"""Our scheduler in the engine's own environment, without HTTP; `bench.engine_step` runs it.

Its words are MODEL THREADS PLACES CONTEXT BATCH TOKENS; prompts come as JSON on stdin, a list for each round. It prints
a line of JSON for each round: all seconds from the first prompt's arrival to the last answer's end, those inside
llama.cpp, how often `llama_decode` was called and how many tokens were made.

Only `llama_decode` and copies of what sequences hold are llama.cpp's part. Whatever else happens is Python's: choosing
who goes on, filling the batch, drawing tokens, ending answers, and the timing itself. The thread that waits for answers
sleeps meanwhile, so that coming back from `llama_decode` waits for nobody.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.serve.curve import measure
from appliance.serve.engine import Generation, Sampling
from appliance.serve.launcher import CALIBRATION_SECONDS
from appliance.serve.llama_cpp import LlamaCppDecoder
from appliance.serve.scheduler import Scheduler
from media.clock import SystemClock
from media.llamaprofile import LlamaSettings


@dataclass(slots=True)
class Timed:
    """A function of llama.cpp, with how often it was called and the seconds that it took in all."""

    function: Callable[..., Any]
    calls: int = 0
    seconds: float = 0.0

    def __call__(self, *arguments: Any) -> Any:
        """Call it."""
        began = time.perf_counter()
        found = self.function(*arguments)
        self.seconds += time.perf_counter() - began
        self.calls += 1
        return found


def main() -> None:
    """Answer each round's prompts at once, and print what they took."""
    threads, places, context, batch, tokens = map(int, sys.argv[2:])
    decoder = LlamaCppDecoder(
        Path(sys.argv[1]),
        n_ctx=places * context,
        n_batch=batch,
        n_seq_max=places,
        threads=threads,
        settings=LlamaSettings(kv_unified=False),
    )
    # The adapter asks the module for it at each step.
    llama_cpp: Any = importlib.import_module("llama_cpp")
    llama_cpp.llama_decode = timed = Timed(llama_cpp.llama_decode)
    copies = [Timed(llama_cpp.llama_state_seq_get_data), Timed(llama_cpp.llama_state_seq_set_data)]
    llama_cpp.llama_state_seq_get_data, llama_cpp.llama_state_seq_set_data = copies
    scheduler = Scheduler(decoder)
    clock, seconds = SystemClock(), CALIBRATION_SECONDS
    scheduler.calibrate(lambda own: measure(own, clock=clock, threads=threads, seconds=seconds))
    for prompts in json.load(sys.stdin):
        wanted = [_generation(decoder.tokenize(text, special=True), tokens) for text in prompts]
        sys.stdout.write(json.dumps(_round(scheduler, wanted, timed, copies)) + "\n")
    scheduler.stop()


def _generation(prompt: Sequence[int], tokens: int) -> Generation:
    greedy = Sampling(temperature=0)
    return Generation(tokens=prompt, max_tokens=tokens, sampling=greedy, salt="bench", is_streamed=False)


def _round(
    scheduler: Scheduler, wanted: Sequence[Generation], timed: Timed, copies: Sequence[Timed]
) -> dict[str, float]:
    calls, inside, made = timed.calls, sum(one.seconds for one in (timed, *copies)), 0
    began = time.perf_counter()
    for handle in [scheduler.submit(one) for one in wanted]:
        for piece in handle.pieces():
            if piece.finish_reason == "error":
                raise SystemExit("an answer failed")
            made += piece.completion_tokens if piece.finish_reason is not None else 0
    seconds = time.perf_counter() - began
    inside = sum(one.seconds for one in (timed, *copies)) - inside
    return {"seconds": seconds, "inside": inside, "steps": timed.calls - calls, "tokens": made}
