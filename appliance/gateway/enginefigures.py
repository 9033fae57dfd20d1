"""What engines say of themselves and only they know: how full their KV cache is, what waits in them (K10).

All instances are asked at once at each scrape, with little patience: those that are silent take no figures from the
others, nor the scrape from the gateway. One that has no such figure has no series.
All tell them under vLLM's names (`appliance.serve.figures`). What comes is untrusted: a closed list of names is looked
for, and nothing else is passed on.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from appliance.errors import ApplianceError
from appliance.gateway.connections import EngineConnection
from appliance.gateway.enginesockets import engines_at
from appliance.gateway.response import BROKEN
from appliance.gateway.routing import Routes

_SECONDS: Final = 1.0
_MOST_AT_ONCE: Final = 32
_MOST_BYTES: Final = 4 * 1024 * 1024
_LABELS: Final = ("model_name", "engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure, under vLLM's names.

    Attributes:
        names: Under which its releases tell it.
        told: Our name for it; vLLM's own where the gateway has no figure of that name.
        says: What it is.
        most: The highest that is believed.
        kind: Of the family.
        joins: Makes one of the values of all its series (one for each of vLLM's processes).
    """

    names: tuple[str, ...]
    told: str
    says: str
    most: float = 2.0**63
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily] = CounterMetricFamily
    joins: Callable[[Iterable[float]], float] = sum

    def read(self, untrusted: str) -> float | None:
        """Return its value in an engine's metrics; None where they do not tell it, or wrongly."""
        names = "|".join(map(re.escape, self.names))
        values = re.findall(rf"^(?:{names})(?:\{{[^}}\n]{{0,1000}}\}})? ([0-9.eE+-]{{1,32}})$", untrusted, re.MULTILINE)
        try:
            found = [float(value) for value in values]
        except ValueError:
            return None
        return self.joins(found) if found and all(0 <= one <= self.most for one in found) else None


# vLLM's name for the use of its cache changed; both are read, and the documents' is told.
USE: Final = Figure(
    names=("vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc"),
    told="vllm:gpu_cache_usage_perc",
    says="Part of the KV cache in use, 0 to 1, of the instance where it is fullest",
    most=1.0,
    kind=GaugeMetricFamily,
    joins=max,
)
OWN: Final = (
    Figure(
        names=("vllm:num_requests_running",),
        told="sealift_engine_requests_running",
        says="Requests that an engine decodes",
        kind=GaugeMetricFamily,
    ),
    Figure(
        names=("vllm:num_requests_waiting",),
        told="sealift_engine_requests_waiting",
        says="Requests that wait in an engine",
        kind=GaugeMetricFamily,
    ),
    Figure(
        names=("vllm:num_preemptions_total",),
        told="vllm:num_preemptions",
        says="Answers that an engine put off for want of room in its KV cache",
    ),
    Figure(
        names=("vllm:prefix_cache_queries_total",),
        told="vllm:prefix_cache_queries",
        says="Tokens of prompts that an engine looked for in what it had read before",
    ),
    Figure(
        names=("vllm:prefix_cache_hits_total",),
        told="vllm:prefix_cache_hits",
        says="Tokens of prompts that an engine had read before",
    ),
    Figure(names=("vllm:prompt_tokens_total",), told="vllm:prompt_tokens", says="Tokens of prompts, by the engine"),
    Figure(
        names=("vllm:generation_tokens_total",),
        told="vllm:generation_tokens",
        says="Tokens of answers, by the engine",
    ),
)
"""What is told of each instance by itself."""


class EngineFigures(Collector):
    """Asks the engines that may answer."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def collect(self) -> Iterable[Metric]:
        """Return the figures of now."""
        engines: list[tuple[str, Mapping[Path, str]]] = []
        with suppress(ApplianceError):
            engines = [(route.name, engines_at(route.socket)) for route in self._routes.lines().routes]
        told = _all_asked([path for _, of_engines in engines for path in of_engines])
        said = [(name, {word: told[path] for path, word in of_engines.items()}) for name, of_engines in engines]
        use = GaugeMetricFamily(USE.told, USE.says, labels=["model_name"])
        for name, of_engines in said:
            found = [value for text in of_engines.values() if (value := USE.read(text)) is not None]
            if found:
                use.add_metric([name], USE.joins(found))
        return (use, *(_family(one, said) for one in OWN))


def _family(figure: Figure, said: Sequence[tuple[str, Mapping[str, str]]]) -> Metric:
    family = figure.kind(figure.told, figure.says, labels=_LABELS)
    for name, of_engines in said:
        for word, text in of_engines.items():
            value = figure.read(text)
            if value is not None:
                family.add_metric([name, word], value)
    return family


def _all_asked(paths: Sequence[Path]) -> Mapping[Path, str]:
    with ThreadPoolExecutor(max(1, min(len(paths), _MOST_AT_ONCE))) as asking:
        return dict(zip(paths, asking.map(_asked, paths), strict=True))


def _asked(path: Path) -> str:
    connection = EngineConnection(path, connect_seconds=_SECONDS, read_seconds=_SECONDS)
    try:
        connection.ask("GET", "/metrics", headers={})
        connection.wait_at_most(_SECONDS)
        response = connection.respond()
        said = bytearray()
        while response.status == 200 and len(said) < _MOST_BYTES and (untrusted := response.read()):
            said += untrusted
        response.close()
        return said[:_MOST_BYTES].decode(errors="replace")
    except BROKEN:
        return ""
    finally:
        connection.close()
