"""Whether the gateway lives, and whether it can answer: no more than that. Metrics are for this machine only."""

import threading

from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from appliance.audit.facts import Ledger
from appliance.errors import ApplianceError, NotActiveError
from appliance.gateway.access import local, public
from appliance.gateway.fleet import Upstreams
from appliance.gateway.metrics import Metrics
from appliance.gateway.problems import Problem
from appliance.gateway.routing import Lines, Routes
from appliance.standby.permit import Permit
from media.clock import Clock

_FRESH_SECONDS = 1.0


class Readiness:
    """Asks state, engine and ledger, at most once a second however often it is asked itself."""

    def __init__(self, *, routes: Routes, upstreams: Upstreams, ledger: Ledger, clock: Clock, permit: Permit) -> None:
        self._routes = routes
        self._upstreams = upstreams
        self._ledger = ledger
        self._clock = clock
        self._permit = permit
        self._lock = threading.Lock()
        self._asked_at: float | None = None
        self._missing: tuple[str, ...] = ()

    def missing(self) -> tuple[str, ...]:
        """Return what is not there: lease, model, engine, ledger, state; nothing when requests can be answered."""
        try:
            self._permit.require()
        except NotActiveError:
            return ("lease",)
        with self._lock:
            now = self._clock.monotonic()
            if self._asked_at is None or now - self._asked_at > _FRESH_SECONDS:
                self._missing = tuple(self._ask())
                self._asked_at = now
            return self._missing

    def _ask(self) -> list[str]:
        missing: list[str] = []
        try:
            missing += self._unanswered(self._routes.lines())
        except ApplianceError:
            missing.append("state")
        try:
            self._ledger.head()
        except ApplianceError:
            missing.append("ledger")
        return missing

    def _unanswered(self, lines: Lines) -> list[str]:
        """Return what of which line is not there; a line that was stopped is to have nothing."""
        if not lines.serving:
            return ["model"]
        away = [one.line for one in lines.serving if not self._upstreams.to(one.production.socket).client.health()]
        # A site with one line knows no numbers of lines.
        if lines.first is not None and len(lines.serving) + len(lines.away) == 1:
            return ["engine"] if away else []
        return [f"model of line {line}" for line in lines.away] + [f"engine of line {line}" for line in away]


def make_blueprint(readiness: Readiness, metrics: Metrics) -> Blueprint:
    """Return the routes."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/livez")
    @public
    def livez() -> Response:
        return jsonify(status="ok")

    @blueprint.get("/health")
    @public
    def health() -> Response:
        return _ready(readiness)

    @blueprint.get("/readyz")
    @public
    def readyz() -> Response:
        return _ready(readiness)

    @blueprint.get("/metrics")
    @local
    def scrape() -> Response:
        return Response(generate_latest(metrics.registry), content_type=CONTENT_TYPE_LATEST)

    return blueprint


def _ready(readiness: Readiness) -> Response:
    missing = readiness.missing()
    if missing:
        raise Problem(503, "not_ready", f"Not ready: {', '.join(missing)}.", retry_after_seconds=5)
    return jsonify(status="ok")
