"""What vLLM itself counts of its steps, so that a difference between two contestants has a cause.

A step reads some tokens of prompts and adds one to each answer that is being made. Whether callers get their answers in
fewer and wider steps, or in longer ones, is told by their number; what a caller waits besides lies outside vLLM.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from prometheus_client.parser import text_string_to_metric_families

from bench.engine_peers import connection_to

_COUNTED: Final = {
    "steps": "vllm:iteration_tokens_total_count",
    "tokens": "vllm:iteration_tokens_total_sum",
    "computed": "vllm:request_prefill_kv_computed_tokens_sum",
    "within_seconds": "vllm:e2e_request_latency_seconds_sum",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What one vLLM counted.

    Attributes:
        steps: That it took.
        tokens: In all of them, of prompts and answers.
        computed: Tokens of prompts that it computed, and did not find kept.
        within_seconds: From where it read each request to where it knew the answer's end, in all of them.
    """

    steps: float
    tokens: float
    computed: float
    within_seconds: float

    def since(self, before: Self) -> "Steps":
        """Return what was counted after that."""
        return Steps(**{name: getattr(self, name) - getattr(before, name) for name in _COUNTED})


def counted(at: int | Path) -> Steps:
    """Return what the vLLM that listens at a port of loopback or a Unix socket has counted so far.

    Raises:
        SystemExit: It does not tell.
    """
    connection = connection_to(at, timeout=30)
    connection.request("GET", "/metrics", headers={"host": "engine"})
    text = connection.getresponse().read().decode()
    connection.close()
    told = defaultdict[str, float](float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:  # of each of its processes
            told[sample.name] += sample.value
    if missing := set(_COUNTED.values()) - set(told):
        raise SystemExit(f"error: vLLM does not tell {', '.join(sorted(missing))}")
    return Steps(**{name: told[metric] for name, metric in _COUNTED.items()})
