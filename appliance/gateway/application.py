"""Builds the application from its collaborators; nothing is global, so a test passes fakes and gets the same code."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flask import Flask

from appliance.actions.retention.reviewdesk import GATEWAY_DOOR
from appliance.audit.facts import Ledger, SendingLedger
from appliance.config import Config, ReviewSection
from appliance.gateway import feedback, health, ollama, openai, openapi
from appliance.gateway.admission import Admission, MemoryDesk, bounds_of
from appliance.gateway.answering import Answering
from appliance.gateway.auth import ApiKeys
from appliance.gateway.batches.routes import make_blueprint as make_batches
from appliance.gateway.batches.runner import Runner, World
from appliance.gateway.batches.serving import serving
from appliance.gateway.batches.store import BatchStore
from appliance.gateway.beginning import Beginning
from appliance.gateway.caches import Caches
from appliance.gateway.conversations import Conversations
from appliance.gateway.disconnect import DisconnectWatch
from appliance.gateway.door import Door
from appliance.gateway.embedding import Embeddings
from appliance.gateway.enginefigures import EngineFigures
from appliance.gateway.exchange import Witnesses
from appliance.gateway.filequotas import FileQuotas
from appliance.gateway.fleets import Upstreams
from appliance.gateway.lagging import Lagging
from appliance.gateway.limits import Limiter, RateLimiter
from appliance.gateway.logs import Log
from appliance.gateway.metrics import Metrics
from appliance.gateway.nodecensus import NodeCensus
from appliance.gateway.patience import Patience
from appliance.gateway.queueing import Priority
from appliance.gateway.quotas import Quotas
from appliance.gateway.record import Recorder, Refusals
from appliance.gateway.resting import Resting
from appliance.gateway.routing import Routes
from appliance.gateway.samples import Samples
from appliance.gateway.searching import Searches
from appliance.gateway.serverquotas import ServerQuotas
from appliance.gateway.shared_queue import SharedDesk
from appliance.gateway.shortway import Gateway
from appliance.keys.provider import KeyProvider
from appliance.keys.stages import keys_of
from appliance.phi.censusfile import WithCensus
from appliance.phi.detect import Detector, PatternDetector, WithNames
from appliance.phi.names import NameRecogniser
from appliance.stages import Stage
from appliance.standby.permit import permit_of
from appliance.timekeeping.believed import BelievedClock
from appliance.wire import Line
from media.clock import Clock

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
_OURS: Final = "sealift"
_MOST_BATCH_WORKERS: Final = 16
_REVIEW_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What the process around an application needs of it."""

    metrics: Metrics
    refusals: Refusals
    upstreams: Upstreams
    quotas: Sequence[Quotas]
    admission: Admission
    batches: Runner
    samples: Samples
    watch: DisconnectWatch

    def close(self) -> None:
        """Record what is still counted and drop the engines' connections.

        Raises:
            LedgerUnavailableError: Something could not be recorded.
        """
        self.batches.close()
        self.upstreams.close()
        for one in self.quotas:
            one.close()
        self.samples.close()
        self.admission.close()
        self.refusals.close()


def create_app(
    config: Config,
    *,
    routes: Routes,
    ledger: SendingLedger,
    keys: KeyProvider,
    api_keys: ApiKeys,
    clock: Clock,
    metrics: Metrics | None = None,
    detector: Detector | None = None,
) -> Flask:
    """Return the gateway.

    Args:
        config: The site file; its limits are used, and the stage that its places are for.
        routes: What is promoted, or loaded in the test stage, and who is stopped.
        ledger: Where requests are recorded, through the gateway's door.
        keys: Holds api-key-pepper, identity-hmac, content-hmac and phi-map; for the test stage those named test-.
        api_keys: Who may ask.
        clock: Every time that is recorded or measured; what ends by a date goes by what is believed of it.
        metrics: Counted into; new ones when absent.
        detector: Finds identifiers; the patterns and the census list when absent.
    """
    lagging, watch = Lagging(), DisconnectWatch()
    app = Gateway("sealift-gateway", clock, lagging=lagging, watch=watch)
    # No OPTIONS that Flask would answer by itself: a route exists because it was decided on.
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY_BYTES, PROVIDE_AUTOMATIC_OPTIONS=False)
    # Nor are callers led elsewhere, as Flask does for `//`: its address would be a web server's word, and no record.
    app.url_map.merge_slashes = False
    stage = config.at.stage
    metrics, keys = metrics or Metrics(), keys_of(stage, keys)
    metrics.serves(stage)
    metrics.registry.register(EngineFigures(routes))
    log = Log(clock)
    upstreams = Upstreams(
        clock=clock,
        metrics=metrics,
        loaded=lambda: len(routes.lines().routes),
        gateways=config.service.gateways,
    )
    recorder = Recorder(ledger, keys=keys, clock=clock, stage=stage)
    refusals = Refusals(recorder, clock)
    permit = permit_of(config)
    resting = Resting(ledger, clock, stage, node=config.database.node)
    limits, bounds = config.limits, bounds_of(config.limits)
    is_alone = config.service.gateways == 1
    dates = BelievedClock(config.at, clock)
    # Addresses without a valid key are each box's own: whoever has none makes no work for the site's server.
    here = FileQuotas(config.at.counters, limits, dates)
    addresses: Limiter = RateLimiter(clock) if is_alone else here
    # Keys have a limiter of their own: one forgets whoever came longest ago, and addresses without a key are many.
    callers: Limiter = RateLimiter(clock) if is_alone else here
    is_shared = config.at.server is not None and config.database.node != ""
    quotas: Quotas = ServerQuotas(config.at, limits, dates) if is_shared else here
    caches = Caches(config.caches, clock=clock, metrics=metrics)
    desk = MemoryDesk(bounds) if is_alone else SharedDesk(config.at.queue, bounds, clock)
    admission = Admission(desk, clock=clock, metrics=metrics)
    Door(
        limits=limits,
        api_keys=api_keys,
        keys=keys,
        limiter=quotas if is_shared else callers,
        addresses=addresses,
        quotas=quotas,
        refusals=refusals,
        metrics=metrics,
        log=log,
        clock=clock,
        permit=permit,
        stops=routes,
        caches=caches,
        resting=resting,
        patience=Patience(ledger, admission, clock),
        stage=stage,
        needs_certificates=config.tls.clients == "required",
    ).guard(app)
    lists: tuple[health.Listed, ...] = ()
    if detector is None:
        detector, lists = _detector(config, ledger, keys, clock)
    review = Line(config.at.socket(GATEWAY_DOOR), timeout_seconds=_REVIEW_SECONDS)
    # What is tried out is nobody's answer: nothing of the test stage is kept.
    policy = config.review if stage is Stage.PRODUCTION else ReviewSection()
    samples = Samples(policy, store=review, detector=detector, metrics=metrics, clock=clock)
    witnesses = Witnesses(recorder=recorder, metrics=metrics, log=log, samples=samples, clock=clock, prices=config.cost)
    beginning = Beginning(
        limits=limits,
        routes=routes,
        keys=keys,
        api_keys=api_keys,
        admission=admission,
        permit=permit,
        watch=watch,
        witnesses=witnesses,
        quotas=quotas,
    )
    answering = Answering(
        limits=limits,
        routes=routes,
        upstreams=upstreams,
        keys=keys,
        searches=Searches(detector, limits=limits, watch=beginning.watch, clock=clock, metrics=metrics),
        beginning=beginning,
        witnesses=witnesses,
        conversations=Conversations(ledger),
        caches=caches,
        quotas=quotas,
        policy=config.policy,
        is_sticky=config.engines.production.sticky,
        rules=config.router.rules,
        lagging=lagging,
    )
    embeddings = Embeddings(answering=answering)
    store = BatchStore(config.at.batches, keys=keys, clock=dates)
    world = World(
        limits=limits, api_keys=api_keys, routes=routes, permit=permit, refusals=refusals, witnesses=witnesses
    )
    workers = min(bounds.ceiling(Priority.BATCH), _MOST_BATCH_WORKERS)
    batches = Runner(store, serve=serving(answering, embeddings), world=world, workers=workers)
    readiness = health.Readiness(
        routes=routes,
        upstreams=upstreams,
        ledger=ledger,
        clock=clock,
        permit=permit,
        resting=resting,
        quotas=quotas,
        lists=lists,
    )
    app.register_blueprint(openai.make_blueprint(answering, embeddings, routes))
    app.register_blueprint(ollama.make_blueprint(answering, embeddings, routes, clock))
    app.register_blueprint(feedback.make_blueprint(ledger, metrics, stage))
    app.register_blueprint(openapi.make_blueprint(limits, routes))
    app.register_blueprint(make_batches(store, limits))
    app.register_blueprint(health.make_blueprint(readiness, metrics))
    app.shorten("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
    app.extensions[_OURS] = Running(
        metrics=metrics,
        refusals=refusals,
        upstreams=upstreams,
        quotas=(quotas, here),
        admission=admission,
        samples=samples,
        batches=batches,
        watch=watch,
    )
    return app


def _detector(
    config: Config, ledger: Ledger, keys: KeyProvider, clock: Clock
) -> tuple[Detector, tuple[health.Listed, ...]]:
    """Return what finds identifiers, and what has to be there of the site's list of names for that."""
    patterns = PatternDetector()
    known = WithNames(patterns, NameRecogniser()) if config.phi.names else patterns
    # Nobody's real name lies where things are tried out; see docs/operator/teststage.md.
    if config.at.stage is Stage.TEST:
        return known, ()
    folder, node = config.at.census, config.database.node
    found = WithCensus(known, folder=folder, keys=keys, clock=clock)
    if not node:
        return found, (found,)
    refuses = config.phi.other_list == "refuse"
    agreed = NodeCensus(found, ledger=ledger, keys=keys, folder=folder, node=node, refuses=refuses, clock=clock)
    return agreed, (agreed, found)


def running(app: Flask) -> Running:
    """Return what serves metrics of an application and ends it."""
    ours = app.extensions[_OURS]
    assert isinstance(ours, Running)  # noqa: S101 - `create_app` put it there
    return ours
