"""What operators see: the documents' metrics by their names (K1-K7), and a few of our own. Counts only, no content.

Label values come from our own tables, never from a request: an unknown model is `none`.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from appliance.costs import PLACES
from appliance.gateway.labelled import Counter, Gauge, Histogram
from appliance.gateway.queueing import Priority
from appliance.phi.patterns import PhiClass
from appliance.registry.gpus import GpuReader, no_gpus

NO_MODEL: Final = "none"
_LATENCY_BUCKETS: Final = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BATCH_BUCKETS: Final = (1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0)
# vLLM's, so that a dashboard made for it reads ours.
_TTFT_BUCKETS: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
# vLLM's e2e_request_latency_seconds, request_queue_time_seconds and the like.
_REQUEST_BUCKETS: Final = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
# vLLM's time_per_output_token_seconds.
_TOKEN_BUCKETS: Final = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)


class _VllmNames:
    """What a dashboard made for vLLM asks for (K10), as the gateway sees it whichever engine answers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        named = ["model_name"]
        self.running = Gauge("vllm:num_requests_running", "Requests being answered", named, registry=registry)
        self.waiting = Gauge("vllm:num_requests_waiting", "Requests that wait for a place", named, registry=registry)
        self._ttft = Histogram(
            "vllm:time_to_first_token_seconds",
            "Time to the first token of a stream",
            named,
            buckets=_TTFT_BUCKETS,
            registry=registry,
        )
        self._per_token = Histogram(
            "vllm:time_per_output_token_seconds",
            "Time for a token of a stream after the first: the mean of each request",
            named,
            buckets=_TOKEN_BUCKETS,
            registry=registry,
        )
        self._seconds = Histogram(
            "vllm:e2e_request_latency_seconds", "Time to answer", named, buckets=_REQUEST_BUCKETS, registry=registry
        )

    def ended(self, model: str, *, seconds: float, ttft_seconds: float | None, tokens: int | None) -> None:
        """Count how an answer ended."""
        self.running.labels(model).dec()
        self._seconds.labels(model).observe(seconds)
        if ttft_seconds is not None:
            self._ttft.labels(model).observe(ttft_seconds)
            if tokens is not None and tokens > 1:
                # Of several answers in one request, all of their tokens: when each of them came is not kept.
                self._per_token.labels(model).observe((seconds - ttft_seconds) / (tokens - 1))


class Metrics:
    """The gateway's metrics in a registry of their own.

    Args:
        read_gpus: Asked at each scrape.
    """

    def __init__(self, *, read_gpus: GpuReader = no_gpus) -> None:
        self.registry = registry = CollectorRegistry(auto_describe=False)
        self._department_seconds = Histogram(
            "llama_request_duration_seconds", "Time to answer", ["department", "model"], registry=registry
        )
        self._detections = Counter(
            "llama_phi_detections", "Identifiers found", ["department", "phi_type"], registry=registry
        )
        self._requests = Counter("llm_requests", "Requests", ["model", "endpoint", "status"], registry=registry)
        self._seconds = Histogram(
            "llm_request_latency_seconds",
            "Time to answer",
            ["model", "endpoint"],
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self._active = Gauge("llm_active_requests", "Requests being answered", ["model"], registry=registry)
        self._batch_seconds = Histogram(
            "sealift_batch_latency_seconds",
            "Time to answer what is of the class batch, which waits for all others",
            ["model", "endpoint"],
            buckets=_BATCH_BUCKETS,
            registry=registry,
        )
        self._ttft = Histogram(
            "llm_time_to_first_token_seconds",
            "Time to the first token of a stream",
            ["model"],
            buckets=_TTFT_BUCKETS,
            registry=registry,
        )
        self._inference = Histogram(
            "llm_inference_duration_seconds",
            "Time from asking the engine to the end of its answer",
            ["model"],
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self._vllm = _VllmNames(registry)
        self._arms = Counter(
            "sealift_arm_requests",
            "Requests by the version's arm: production, canary, before",
            ["arm", "status"],
            registry=registry,
        )
        self._arm_ttft = Histogram(
            "sealift_arm_time_to_first_token_seconds",
            "Time to the first token of a stream, by the version's arm",
            ["arm"],
            buckets=_TTFT_BUCKETS,
            registry=registry,
        )
        self._tokens = Counter("llm_tokens", "Tokens by kind", ["model", "kind"], registry=registry)
        self._cost = Counter(
            "sealift_cost", "What answers cost at the site's prices", ["department", "model"], registry=registry
        )
        self._cut = Counter(
            "sealift_answers_cut", "Answers that ended at a limit of length", ["model"], registry=registry
        )
        self._refused = Counter("sealift_requests_refused", "Refusals", ["code"], registry=registry)
        self._feedback = Counter("llm_feedback", "Ratings of answers", ["rating", "reason"], registry=registry)
        self._flagged = Counter("sealift_flagged_requests", "Suspicious requests, by rule", ["rule"], registry=registry)
        self._unrecorded = Counter("sealift_unrecorded_refusals", "Refusals the ledger did not take", registry=registry)
        self._unknown_tokens = Counter(
            "sealift_phi_unknown_tokens", "Tokens in answers that the request had not", registry=registry
        )
        self._queue_depth = Gauge(
            "sealift_queue_depth", "Requests that wait for a place", ["priority"], registry=registry
        )
        self._queue_seconds = Histogram(
            "sealift_queue_wait_seconds",
            "Time from a request's arrival in the queue to its place",
            ["priority"],
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self._turned_away = Counter(
            "sealift_queue_turned_away",
            "Requests that got no place: full, deadline, left",
            ["priority", "why"],
            registry=registry,
        )
        self._stage = Gauge("sealift_gateway_stage", "The stage that is served: 1 for it", ["stage"], registry=registry)
        self._engines_out = Gauge(
            "sealift_engines_out", "Instances of a version that callers are kept from", ["engine"], registry=registry
        )
        self._elsewhere = Counter(
            "sealift_asked_elsewhere", "Calls that another instance of a version was asked for", registry=registry
        )
        for priority in Priority:
            self._queue_depth.labels(priority.value)
        self._samples = Counter(
            "sealift_review_samples",
            "Answers that policy chose for review, by what became of them",
            ["result"],
            registry=registry,
        )
        self._cache_lookups = Counter(
            "sealift_cache_lookups", "Looks into the caches: hit, miss", ["cache", "result"], registry=registry
        )
        self._cache_bytes = Gauge("sealift_cache_bytes", "What the caches hold", ["cache"], registry=registry)
        self._cache_entries = Gauge("sealift_cache_entries", "Entries of the caches", ["cache"], registry=registry)
        registry.register(_Gpus(read_gpus))

    def serves(self, stage: str) -> None:
        """Say which stage these figures are of; production's and the test stage's come from two gateways."""
        self._stage.labels(stage).set(1)

    @contextmanager
    def waiting(self, priority: str, model: str = NO_MODEL) -> Iterator[None]:
        """Count a request that waits for a place, while it does; the queue is one for all models."""
        self._queue_depth.labels(priority).inc()
        self._vllm.waiting.labels(model).inc()
        try:
            yield
        finally:
            self._vllm.waiting.labels(model).dec()
            self._queue_depth.labels(priority).dec()

    def waited(self, priority: str, seconds: float) -> None:
        """Count how long a request waited until it had its place."""
        self._queue_seconds.labels(priority).observe(seconds)

    def turned_away(self, priority: str, why: str) -> None:
        """Count a request that got no place."""
        self._turned_away.labels(priority, why).inc()

    def engines_out(self, engine: str, count: int) -> None:
        """Tell how many instances of a version are out; an engine is named by its socket."""
        self._engines_out.labels(engine).set(count)

    def asked_elsewhere(self) -> None:
        """Count a call that another instance was asked for."""
        self._elsewhere.inc()

    def began(self, model: str) -> None:
        """Count a request that is now being answered."""
        self._active.labels(model).inc()
        self._vllm.running.labels(model).inc()
        self._vllm.waiting.labels(model)  # a model that answers has its count, though none wait

    def gave_up(self, model: str) -> None:
        """Take back what `began` counted, of a request that is refused after all."""
        self._active.labels(model).dec()
        self._vllm.running.labels(model).dec()

    def ended(
        self,
        *,
        model: str,
        arm: str,
        endpoint: str,
        department: str,
        status: str,
        seconds: float,
        ttft_seconds: float | None,
        is_batch: bool = False,
    ) -> None:
        """Count how an answer ended; how long one of the class `batch` took is no part of what callers wait for."""
        self._active.labels(model).dec()
        self._requests.labels(model, endpoint, status).inc()
        self._arms.labels(arm, status).inc()
        (self._batch_seconds if is_batch else self._seconds).labels(model, endpoint).observe(seconds)
        self._department_seconds.labels(department, model).observe(seconds)
        if ttft_seconds is not None:
            self._ttft.labels(model).observe(ttft_seconds)
            self._arm_ttft.labels(arm).observe(ttft_seconds)

    def took(
        self, model: str, *, seconds: float, engine_seconds: float, ttft_seconds: float | None, tokens: int | None
    ) -> None:
        """Count how long an answer took, in all and at the engine, and each of its tokens."""
        self._inference.labels(model).observe(engine_seconds)
        self._vllm.ended(model, seconds=seconds, ttft_seconds=ttft_seconds, tokens=tokens)

    def tokens(self, *, model: str, prompt: int, completion: int) -> None:
        """Count tokens."""
        self._tokens.labels(model, "prompt").inc(prompt)
        self._tokens.labels(model, "completion").inc(completion)

    def cost(self, *, department: str, model: str, billionths: int) -> None:
        """Count what an answer cost, in the site's currency."""
        self._cost.labels(department, model).inc(billionths / 10**PLACES)

    def cut(self, model: str, count: int) -> None:
        """Count answers that ended at a limit of length; a model that answered has its count, though it be none."""
        self._cut.labels(model).inc(count)

    def found(self, department: str, counts: Mapping[PhiClass, int]) -> None:
        """Count identifiers."""
        for phi_class, count in counts.items():
            self._detections.labels(department, phi_class.value).inc(count)

    def unknown_tokens(self, count: int) -> None:
        """Count tokens that were left as they were."""
        if count:
            self._unknown_tokens.inc(count)

    def refused(self, *, endpoint: str, code: str, is_fault: bool = False) -> None:
        """Count a refusal before a version was asked.

        Args:
            endpoint: What was asked.
            code: The reason.
            is_fault: Whether this box is the reason.
        """
        self._refused.labels(code).inc()
        self._requests.labels(NO_MODEL, endpoint, "error" if is_fault else "refused").inc()

    def flagged(self, rules: Iterable[str]) -> None:
        """Count a request that looks like an attack."""
        for rule in rules:
            self._flagged.labels(rule).inc()

    def rated(self, *, rating: str, reason: str) -> None:
        """Count what somebody thought of an answer."""
        self._feedback.labels(rating, reason).inc()

    def may_sample(self, results: Iterable[str]) -> None:
        """Tell what may become of an answer for review, at none each: from nothing to one is no increase."""
        for result in results:
            self._samples.labels(result)

    def sampled(self, result: str) -> None:
        """Count an answer that the review policy chose: kept, or dropped and why."""
        self._samples.labels(result).inc()

    def looked_up(self, cache: str, *, is_hit: bool) -> None:
        """Count a look into a cache."""
        self._cache_lookups.labels(cache, "hit" if is_hit else "miss").inc()

    def cached(self, cache: str, *, count: int, size: int) -> None:
        """Say what a cache holds: entries, and their bytes."""
        self._cache_entries.labels(cache).set(count)
        self._cache_bytes.labels(cache).set(size)

    def unrecorded(self) -> None:
        """Count a refusal that could not be recorded."""
        self._unrecorded.inc()


class _Gpus(Collector):
    def __init__(self, read: GpuReader) -> None:
        self._read = read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        use = GaugeMetricFamily("llama_gpu_utilization_percent", "Use of a GPU", labels=["gpu_id"])
        memory = GaugeMetricFamily("llm_gpu_memory_bytes", "Memory in use on a GPU", labels=["gpu_id"])
        nvidia_use = GaugeMetricFamily("nvidia_smi_utilization_gpu", "Use of a GPU", labels=["gpu_id"])
        nvidia_memory = GaugeMetricFamily("nvidia_smi_memory_used_bytes", "Memory in use on a GPU", labels=["gpu_id"])
        total = GaugeMetricFamily("sealift_gpu_memory_total_bytes", "Memory of a GPU", labels=["gpu_id"])
        power = GaugeMetricFamily("sealift_gpu_power_watts", "What a GPU draws", labels=["gpu_id"])
        for gpu in self._read():
            use.add_metric([gpu.gpu_id], gpu.utilization_percent)
            memory.add_metric([gpu.gpu_id], gpu.memory_bytes)
            nvidia_use.add_metric([gpu.gpu_id], gpu.utilization_percent)
            nvidia_memory.add_metric([gpu.gpu_id], gpu.memory_bytes)
            total.add_metric([gpu.gpu_id], gpu.memory_total_bytes)
            if gpu.power_watts is not None:
                power.add_metric([gpu.gpu_id], gpu.power_watts)
        return (use, memory, nvidia_use, nvidia_memory, total, power)
