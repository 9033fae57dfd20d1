"""What an engine of ours says of itself at `/metrics`, in Prometheus' text format and under vLLM's names (C47, K10).

The gateway asks each instance for these as it asks vLLM, so a dashboard shows the same whichever engine answers. Counts
alone: nothing here says what was asked.
"""

from collections.abc import Iterable
from typing import Final, Protocol

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from appliance.serve.counts import Counted

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


class Filled(Counted, Protocol):
    """What takes generations, and knows how full its context is."""

    @property
    def filled(self) -> float | None:
        """Part of the context that answers fill, 0 to 1; None where another's server alone knows."""
        ...


def exposition(scheduler: Filled) -> bytes:
    """Return the figures of now."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(scheduler))
    return generate_latest(registry)


class _Figures(Collector):
    def __init__(self, scheduler: Filled) -> None:
        self._scheduler = scheduler

    def collect(self) -> Iterable[Metric]:
        scheduler, counts = self._scheduler, self._scheduler.counts
        yield GaugeMetricFamily("vllm:num_requests_running", "Answers that are being made", value=scheduler.running)
        yield GaugeMetricFamily("vllm:num_requests_waiting", "Answers that wait for room", value=scheduler.waiting)
        yield CounterMetricFamily("vllm:prompt_tokens", "Tokens of prompts", value=counts.prompt_tokens)
        yield CounterMetricFamily("vllm:generation_tokens", "Tokens of answers", value=counts.answer_tokens)
        filled = scheduler.filled
        if filled is None:
            return
        yield GaugeMetricFamily("vllm:kv_cache_usage_perc", "Part of the KV cache in use, 0 to 1", value=filled)
        yield CounterMetricFamily("vllm:num_preemptions", "Answers put off for others", value=counts.preempted)
        yield CounterMetricFamily(
            "vllm:prefix_cache_queries", "Tokens of prompts looked for in the cache", value=counts.prompt_tokens
        )
        yield CounterMetricFamily("vllm:prefix_cache_hits", "Tokens of prompts found there", value=counts.cached_tokens)
