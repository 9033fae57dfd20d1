"""What Python takes of a step where so many are answered at once: a row of `bench.engine`.

The scheduler runs in a process and an environment of its own, without HTTP (`bench.engine_step_child`), while no
contestant is loaded. The part is what of all seconds is not inside `llama_decode` or a copy of what a sequence holds.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

from bench import engine_peers
from bench.measuring import ROOT, Row, say

MOST: Final = 0.03
_PROGRAM: Final = "import sys; sys.path.insert(0, sys.argv.pop(1)); from bench.engine_step_child import main; main()"
# What the demo's template makes of a question.
_PROMPT: Final = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
)


def row(
    level: str, model: Path, *, question: Callable[[int], str], answers: int, tokens: int, threads: int, rounds: int
) -> Row:
    """Measure one level and return its row; a round more than `rounds` warms up.

    Args:
        level: Of the weights, for the row's name.
        model: The weights.
        question: Returns a question that nobody asked before, for a caller's number.
        answers: How many are made at once.
        tokens: Of each answer.
        threads: That decode.
        rounds: How many are measured.

    Raises:
        SystemExit: The process failed.
    """
    prompts = [[_PROMPT.format(question=question(at)) for at in range(answers)] for _ in range(rounds + 1)]
    words = (model, threads, engine_peers.PLACES, engine_peers.CONTEXT, engine_peers.BATCH, tokens)
    command = [str(one) for one in (engine_peers.interpreter(), "-I", "-c", _PROGRAM, ROOT, *words)]
    own = {**os.environ, **engine_peers.LARGE_PAGES}
    done = subprocess.run(command, input=json.dumps(prompts), check=False, capture_output=True, text=True, env=own)
    if done.returncode != 0:
        raise SystemExit(f"error: the scheduler alone failed: {done.stderr[-2000:]}")
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")][1:]
    parts = [1 - one["inside"] / one["seconds"] for one in found]
    part = median(parts)
    told = ", ".join(f"{each:.1%}" for each in parts)
    say(f"  {level}, {answers} callers: Python's part of a step {told}")
    return Row(
        name=f"{level}, {answers} callers, Python's part of a step, against the whole step",
        ours=median(1000 * (one["seconds"] - one["inside"]) / one["steps"] for one in found),
        peer=median(1000 * one["seconds"] / one["steps"] for one in found),
        unit="ms",
        ratio=part,
        goal=f"under {MOST:.0%} of the whole step",
        met=part < MOST,
        more={"threads": threads, "runs": found},
    )
