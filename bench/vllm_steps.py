"""What vLLM itself counts of its steps, so that a difference between two contestants has a cause.

A step reads some tokens of prompts and adds one to each answer that is being made. Callers who ask again as one give
fewer and wider steps than callers who come one after the other, and a step costs more than the tokens in it.
"""

import http.client
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bench.engine_peers import UnixConnection

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
    connection = (
        http.client.HTTPConnection("127.0.0.1", at, timeout=30)
        if isinstance(at, int)
        else UnixConnection(at, timeout=30)
    )
    connection.request("GET", "/metrics", headers={"host": "engine"})
    text = connection.getresponse().read().decode()
    connection.close()
    return Steps(**{name: _sum(text, metric) for name, metric in _COUNTED.items()})


def _sum(text: str, metric: str) -> float:
    found = re.findall(rf"^{re.escape(metric)}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
    if not found:
        raise SystemExit(f"error: vLLM does not tell {metric}")
    return sum(map(float, found))
