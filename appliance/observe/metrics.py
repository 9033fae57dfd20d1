"""What Prometheus reads of this box besides requests: `GET /metrics` on a Unix socket, behind the web server."""

from collections.abc import Iterable

from flask import Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from appliance.actions.observed import FACTS, observed
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.install.supervisor import Supervisor
from appliance.observe.completeness import Completeness
from media.clock import Clock


class _Facts(Collector):
    def __init__(self, config: Config, ledger: Ledger, supervisor: Supervisor | None, clock: Clock) -> None:
        self._config = config
        self._ledger = ledger
        self._supervisor = supervisor
        self._clock = clock

    def collect(self) -> Iterable[GaugeMetricFamily]:
        families = {name: GaugeMetricFamily(name, meaning, labels=labels) for name, (meaning, labels) in FACTS.items()}
        for one in observed(self._config, ledger=self._ledger, supervisor=self._supervisor, clock=self._clock):
            families[one.name].add_metric([one.labels[label] for label in FACTS[one.name][1]], one.value)
        return [family for family in families.values() if family.samples]


def create_metrics_app(config: Config, *, ledger: Ledger, supervisor: Supervisor | None, clock: Clock) -> Flask:
    """Return the WSGI application; every scrape asks anew."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Facts(config, ledger, supervisor, clock))
    registry.register(Completeness(ledger, clock, node=config.database.node))
    app = Flask("appliance.observe", static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=1024)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return app
