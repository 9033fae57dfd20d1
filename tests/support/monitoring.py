"""Rules and dashboard as data, and the names of every metric that this product offers."""

import importlib
import json
import re
from pathlib import Path
from typing import Any, Final

from appliance.actions.observed import FACTS
from appliance.gateway.enginefigures import OWN, USE
from appliance.gateway.metrics import Metrics
from appliance.observe.completeness import LOGINS, OPEN, RECORDS
from appliance.registry.gpus import Gpu

yaml: Any = importlib.import_module("yaml")
FILES: Final = Path(__file__).resolve().parents[2] / "ansible/roles/monitoring/files"
RULES: Final = FILES / "rules.yml"
DASHBOARD: Final = FILES / "dashboard.json"
NODE: Final = frozenset({"node_timex_sync_status", "node_cpu_seconds_total", "node_memory_MemAvailable_bytes"}) | {
    *("node_memory_MemTotal_bytes", "node_network_receive_bytes_total", "node_network_transmit_bytes_total")
}
"""What we use of Debian's node exporter."""
MAILS: Final = frozenset({f"alertmanager_notification_requests_{what}" for what in ("total", "failed_total")})
"""What we use of Alertmanager's own; tests/interop/test_alert_delivery.py asks the real one for it."""
_NAME: Final = re.compile(r"\b((?:llm|llama|sealift|node|alertmanager)_[a-zA-Z_]+|vllm:[a-z0-9_]+|up)\b(?!\()")


def rules() -> list[dict[str, Any]]:
    """Return every alerting rule."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    found = json.loads(DASHBOARD.read_text())
    assert isinstance(found, dict)
    return found


def offered() -> set[str]:
    """Return every name that a scrape can give."""
    metrics = Metrics(read_gpus=lambda: [Gpu(gpu_id="0", utilization_percent=1, memory_bytes=1, memory_total_bytes=1)])
    names = {"up", *FACTS, *NODE, *MAILS, f"{RECORDS}_total", f"{LOGINS}_total", OPEN}
    of_engines = (one.kind(one.told, one.says) for one in (USE, *OWN))
    for family in (*metrics.registry.collect(), *of_engines):
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        names |= {family.name + suffix for suffix in suffixes}
    return names


def used(expression: str) -> set[str]:
    """Return the names that an expression asks for."""
    return set(_NAME.findall(re.sub(r'"[^"]*"|\bby \([^)]*\)|\bon ?\([^)]*\)', "", expression)))
