"""What engines say of themselves and only they know: how full the memory of their conversations is (K10).

Asked at each scrape, with little patience; an engine that has no such figure has no series. What comes is untrusted.
"""

import http.client
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from appliance.errors import ApplianceError
from appliance.gateway.connections import EngineConnection
from appliance.gateway.routing import Routes

_SECONDS: Final = 1.0
_MOST_BYTES: Final = 4 * 1024 * 1024
# vLLM's name for it changed; both are read, and the documents' is told.
_USE: Final = re.compile(
    r"^vllm:(?:gpu_cache_usage_perc|kv_cache_usage_perc)(?:\{[^}\n]{0,1000}\})? ([0-9.eE+-]{1,32})$", re.MULTILINE
)


class EngineFigures(Collector):
    """Asks the engines that may answer."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return the figures of now."""
        use = GaugeMetricFamily(
            "vllm:gpu_cache_usage_perc", "Part of the KV cache in use, 0 to 1", labels=["model_name"]
        )
        with suppress(ApplianceError):
            for route in self._routes.lines().routes:
                found = cache_use(_asked(route.socket))
                if found is not None:
                    use.add_metric([route.name], found)
        return (use,)


def cache_use(untrusted: str) -> float | None:
    """Return the part of the KV cache in use that an engine's metrics tell; None where they tell none."""
    found = _USE.search(untrusted)
    if found is None:
        return None
    try:
        value = float(found[1])
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def _asked(path: Path) -> str:
    connection = EngineConnection(path, connect_seconds=_SECONDS, read_seconds=_SECONDS)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        return response.read(_MOST_BYTES).decode(errors="replace") if response.status == 200 else ""
    except (OSError, http.client.HTTPException, ValueError):
        return ""
    finally:
        connection.close()
