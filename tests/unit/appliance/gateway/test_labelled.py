"""Metrics that find their children again count as prometheus_client's own."""

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from appliance.gateway import labelled


def _shown(kinds: object) -> str:
    registry = CollectorRegistry(auto_describe=False)
    counter = kinds.Counter("asked", "Requests", ["model", "status"], registry=registry)  # type: ignore[attr-defined]
    gauge = kinds.Gauge("active", "Active", ["model"], registry=registry)  # type: ignore[attr-defined]
    histogram = kinds.Histogram("took", "Seconds", ["model"], buckets=(1.0, 2.0), registry=registry)  # type: ignore[attr-defined]
    for seconds in (0.5, 1.5, 2.5):
        counter.labels("a", "ok").inc()
        counter.labels("b", "ok").inc(2)
        gauge.labels("a").inc()
        gauge.labels(model="a").dec()
        histogram.labels("a").observe(seconds)
    lines = generate_latest(registry).decode().splitlines()
    return "\n".join(line for line in lines if "_created" not in line)


def test_what_is_shown_is_what_prometheus_client_shows() -> None:
    assert _shown(labelled) == _shown(prometheus_client)


def test_children_are_found_again_and_wrong_labels_are_refused() -> None:
    counter = labelled.Counter("asked", "Requests", ["model"], registry=None)

    assert counter.labels("a") is counter.labels("a") is counter.labels(model="a")
    with pytest.raises(ValueError, match="label count"):
        counter.labels("a", "b")
