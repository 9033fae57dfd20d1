"""Whether the gateway lives, and whether it can answer: no more than that. Metrics are for this machine only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from appliance.audit.facts import Ledger
from appliance.errors import ApplianceError, CiphertextError, KeyMissingError, NotActiveError, StoreDamagedError
from appliance.gateway.access import local, public
from appliance.gateway.fleets import Upstreams
from appliance.gateway.metrics import Metrics
from appliance.gateway.onelook import OneLook
from appliance.gateway.problems import Problem
from appliance.gateway.quotas import Quotas
from appliance.gateway.resting import Resting
from appliance.gateway.routing import Lines, Route, Routes
from appliance.stages import FIRST_LINE
from appliance.standby.permit import Permit
from media.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look found.

    Attributes:
        missing: What is not there: lease, model, engine, ledger, state, census, limits; nothing when requests can be
            answered.
        resting: The lines whose engine a maintenance window took away while others answer.
    """

    missing: tuple[str, ...] = ()
    resting: tuple[int, ...] = ()


class Listed(Protocol):
    """The site's list of names, as far as requests can be looked through for it."""

    def require(self) -> None:
        """Return while they can be.

        Raises:
            CiphertextError, KeyMissingError, StoreDamagedError: The list cannot be used, or is not the one on record.
            LedgerUnavailableError: That could never be told yet.
        """


class Readiness:
    """Asks state, engine, ledger and counters, at most once a second and once at a time however often it is asked.

    While a window rests a further line, its callers are told when to ask again and the other lines answer, so the box
    is ready; not so while line 1 rests, nor where no other line serves.
    """

    def __init__(
        self,
        *,
        routes: Routes,
        upstreams: Upstreams,
        ledger: Ledger,
        clock: Clock,
        permit: Permit,
        resting: Resting,
        quotas: Quotas,
        lists: Sequence[Listed] = (),
    ) -> None:
        self._routes = routes
        self._upstreams = upstreams
        self._ledger = ledger
        self._permit = permit
        self._resting = resting
        self._quotas = quotas
        self._lists = lists
        self._looking = OneLook(self._ask, clock)

    def found(self) -> Found:
        """Return what is not there, and what rests."""
        try:
            self._permit.require()
        except NotActiveError:
            return Found(missing=("lease",))
        return self._looking.found()

    def _ask(self) -> Found:
        try:
            found = self._unanswered(self._routes.lines())
        except ApplianceError:
            found = Found(missing=("state",))
        try:
            self._ledger.head()
            for one in self._lists:
                one.require()
        except (CiphertextError, KeyMissingError, StoreDamagedError):
            found = replace(found, missing=(*found.missing, "census"))
        except ApplianceError:
            found = replace(found, missing=(*found.missing, "ledger"))
        try:
            self._quotas.require()
        except ApplianceError:
            found = replace(found, missing=(*found.missing, "limits"))
        return found

    def _is_well(self, route: Route) -> bool:
        return self._upstreams.to(route.socket, places=route.places).is_well()

    def _unanswered(self, lines: Lines) -> Found:
        """Return what of which line is not there; a line that was stopped is to have nothing."""
        if not lines.serving:
            return Found(missing=("model",))
        away = [one.line for one in lines.serving if not self._is_well(one.production)]
        # A site with one line knows no numbers of lines.
        if lines.first is not None and len(lines.serving) + len(lines.away) == 1:
            return Found(missing=("engine",) if away else ())
        resting = self._resting.line() if away and len(lines.serving) > 1 else None
        rests = tuple(line for line in away if line == resting != FIRST_LINE)
        missing = [f"model of line {line}" for line in lines.away]
        missing += [f"engine of line {line}" for line in away if line not in rests]
        return Found(missing=tuple(missing), resting=rests)


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
    found = readiness.found()
    if found.missing:
        raise Problem(503, "not_ready", f"Not ready: {', '.join(found.missing)}.", retry_after_seconds=5)
    return jsonify(status="ok", resting=list(found.resting)) if found.resting else jsonify(status="ok")
