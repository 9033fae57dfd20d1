"""Which engines may answer: the version that the newest promotion names, a canary beside it, or the version before.

Callers name a model by its own name or as `production`; which of two versions answers is not theirs to choose (see
`appliance.gateway.arms`). A change of promotion is in force within a second, and so is the scrub's word that a version
is damaged: nobody is routed to it any more.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Engine, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from appliance.config import Places
from appliance.errors import NotInstalledError, StoreDamagedError
from appliance.gateway import problems
from appliance.promote.canary import offset_of
from appliance.registry.damaged import damaged
from appliance.state.database import open_state
from appliance.state.lines import is_of
from appliance.state.rollouts import OPEN
from appliance.state.tables import CallerStop, KeyRule, ModelVersion, Promotion, Release, Rollout
from media.clock import Clock, from_text
from media.embedding import EmbeddingProfile

ALIAS: Final = "production"
_FRESH_SECONDS: Final = 1.0
_DIGEST_CHARACTERS: Final = 12
# The documents' default (E16), where the promoted descriptor names none.
_TEMPERATURE: Final = 0.7
_TOP_P: Final = 1.0
_ROLLOUT: Final = (
    Rollout.sequence,
    Rollout.model_digest,
    Rollout.control,
    Rollout.percent,
    Rollout.state,
    Rollout.at,
    Rollout.ends_at,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The promoted version and the way to its engine.

    Attributes:
        created: When it was promoted, in seconds since 1970.
        temperature: What is used when a caller asks for none; part of what was approved.
        max_tokens: How long an answer may be when a caller names no length, likewise; 0 leaves it to the site.
        has_tools: Whether its engine calls functions.
        engine: Its kind, as its descriptor names it; empty where that is not known.
        embedding: How it makes embeddings; None where it makes none.
        also: Other names that callers may use for it.
    """

    name: str
    version: str
    model_digest: str
    serial: int
    release: str
    socket: Path
    created: int
    temperature: float = _TEMPERATURE
    top_p: float = _TOP_P
    max_tokens: int = 0
    has_tools: bool = False
    engine: str = ""
    embedding: EmbeddingProfile | None = None

    also: tuple[str, ...] = (ALIAS,)

    def answers_to(self, name: str) -> bool:
        """Tell whether callers may use this name for it."""
        return name == self.name or name in self.also


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A version that answers for a share of the callers; see `appliance.promote.canary`."""

    route: Route
    percent: int
    offset: int
    is_held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """The version before, which goes on with what began on it."""

    route: Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What was decided for one key: pinned to a version, or kept out of canaries."""

    model_digest: str = ""

    @property
    def is_kept_out(self) -> bool:
        """Whether it is only kept out."""
        return not self.model_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Everything that is loaded, and what was decided for keys.

    Attributes:
        since: The record of the canary's start: conversations that began later are in the ledger after it.
        is_test: It is the test stage's: `production` is what was loaded there last, `others` were before, and callers
            choose among them by name.
        leaving: The version that goes when the rollout ends well, and `leaves`, when that may be.
    """

    production: Route
    canary: Canary | None = None
    beside: Beside | None = None
    since: int = 0
    leaving: str = ""
    leaves: str = ""
    rules: Mapping[str, Rule] = field(default_factory=dict)
    is_test: bool = False
    others: tuple[Route, ...] = ()

    @property
    def names(self) -> dict[str, Route]:
        """Every name that callers may use, with the version that it means; the models' own names first."""
        found = {route.name: route for route in reversed(self.routes)}
        named = {name: found[name] for name in reversed(found)}
        for route in self.routes:
            for name in route.also:
                named.setdefault(name, route)
        return named

    @property
    def routes(self) -> tuple[Route, ...]:
        """The versions that are loaded, production's first."""
        others = (self.canary.route if self.canary else None, self.beside.route if self.beside else None)
        return (self.production, *(one for one in others if one is not None), *self.others)

    @property
    def is_split(self) -> bool:
        """Whether more than one version may answer."""
        return self.canary is not None or self.beside is not None

    def leaves_at(self, model_digest: str) -> str:
        """Return when a version may be retired; nothing where that is not known."""
        return self.leaves if model_digest == self.leaving else ""


class Routes(Protocol):
    """Where the gateway learns what is promoted, and whom one person stopped."""

    def is_stopped(self, *, key_id: str, department: str) -> bool:
        """Tell whether this key, or its department, is stopped.

        Raises:
            StoreDamagedError: It cannot be told.
        """
        ...

    def serving(self) -> Serving | None:
        """Return everything that may answer; None while nothing is promoted.

        Raises:
            StoreDamagedError: It cannot be told.
        """
        ...

    def production(self) -> Route | None:
        """Return what production serves; None while nothing is promoted.

        Raises:
            StoreDamagedError: It cannot be told.
        """
        ...


def require_serving(routes: Routes, model: str) -> Serving:
    """Return what may answer under the name a caller used.

    Raises:
        Problem: Nothing is promoted, or nothing by that name.
    """
    serving = routes.serving()
    if serving is None:
        raise problems.no_model()
    meant = next((route for route in serving.routes if route.answers_to(model)), None)
    if meant is None:
        raise problems.model_not_found()
    return replace(serving, production=meant, others=()) if serving.is_test else serving


def require_route(routes: Routes, model: str) -> Route:
    """Return the loaded version that has the name a caller used, production's first.

    Raises:
        Problem: Nothing is promoted, or nothing by that name.
    """
    return next(route for route in require_serving(routes, model).routes if route.answers_to(model))


class StateRoutes:
    """Reads promotions, rollouts and stops from `state.db`, at most once a second."""

    engines = "engine-production"

    def __init__(self, places: Places, clock: Clock, *, aliases: tuple[str, ...] = ()) -> None:
        self._places = places
        self._aliases = aliases
        self._clock = clock
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._read_at: float | None = None
        self._serving: Serving | None = None
        self._stops: frozenset[tuple[str, str]] = frozenset()
        self._damaged: frozenset[str] = frozenset()
        self._has_lines = False

    def production(self) -> Route | None:
        """Return what production serves; see `Routes`."""
        serving = self.serving()
        return None if serving is None else serving.production

    def serving(self) -> Serving | None:
        """Return everything that may answer; see `Routes`."""
        with self._lock:
            self._freshen()
            return self._serving

    def is_stopped(self, *, key_id: str, department: str) -> bool:
        """Tell whether a caller is stopped; see `Routes`."""
        with self._lock:
            self._freshen()
            return ("key", key_id) in self._stops or ("department", department) in self._stops

    def _freshen(self) -> None:
        now = self._clock.monotonic()
        if self._read_at is None or now - self._read_at > _FRESH_SECONDS:
            try:
                if self._engine is None:
                    self._engine = open_state(self._places, read_only=True)
                with self._engine.connect() as connection:
                    self._damaged = frozenset(damaged(self._places.scrub))
                    # After an upgrade the gateway may be there before whoever writes the state brings its schema up.
                    is_whole = inspect(connection).has_table(Rollout.__tablename__)
                    self._serving = self._read(connection, is_whole=is_whole)
                    self._stops = _stops(connection) if is_whole else frozenset()
            except NotInstalledError:
                self._serving, self._stops = None, frozenset()
            except SQLAlchemyError as error:
                self._has_lines = False
                raise StoreDamagedError(
                    what="the state cannot be read", why=type(error).__name__, fix="see `sealift status`"
                ) from error
            self._read_at = now

    def _read(self, connection: Connection, *, is_whole: bool) -> Serving | None:
        # State of before the release that knows lines has no column for them, and no line but the first.
        self._has_lines = self._has_lines or _has_lines(connection)
        newest = select(Promotion.model_digest, Promotion.at).order_by(Promotion.sequence.desc()).limit(1)
        promotion = connection.execute(newest.where(is_of(Promotion)) if self._has_lines else newest).first()
        if promotion is None or promotion.model_digest is None:
            return None
        production = self._route(connection, str(promotion.model_digest), str(promotion.at))
        if production is None:
            return None
        if not is_whole:
            return Serving(production=production)
        opened = select(*_ROLLOUT).where(Rollout.state.in_(OPEN))
        row = connection.execute(opened.where(is_of(Rollout)) if self._has_lines else opened).first()
        serving = Serving(production=production, rules=_rules(connection))
        return serving if row is None else self._split(connection, serving, row)

    def _split(self, connection: Connection, serving: Serving, row: Any) -> Serving:
        more = {"since": row.sequence, "leaving": row.control, "leaves": row.ends_at}
        if row.state == "beside":
            before = self._route(connection, row.control, row.at)
            return serving if before is None else replace(serving, beside=Beside(route=before), **more)
        route = self._route(connection, row.model_digest, row.at)
        if route is None:
            return serving
        offset, is_held = offset_of(row.sequence), row.state == "held"
        return replace(serving, canary=Canary(route=route, percent=row.percent, offset=offset, is_held=is_held), **more)

    def _route(self, connection: Connection, digest: str, at: str) -> Route | None:
        query = (
            select(
                ModelVersion.name,
                ModelVersion.version,
                ModelVersion.serial,
                ModelVersion.descriptor,
                Release.name.label("release"),
            )
            .outerjoin(Release, Release.serial == ModelVersion.serial)
            .where(ModelVersion.model_digest == digest)
        )
        version = connection.execute(query).first()
        if version is None or digest in self._damaged:  # the scrub found other bytes on the disk than were approved
            return None
        return self._route_of(digest, at, version)

    def _route_of(self, digest: str, at: str, version: Any) -> Route:
        descriptor: Mapping[str, Any] = version.descriptor
        runtime = descriptor.get("runtime", {})
        defaults = runtime.get("defaults", {})
        embedding = runtime.get("embedding")
        return Route(
            name=version.name,
            version=version.version,
            model_digest=digest,
            serial=version.serial,
            release=version.release or "",
            socket=self._places.socket(f"{self.engines}-{digest[:_DIGEST_CHARACTERS]}"),
            created=int(from_text(at).timestamp()),
            temperature=float(defaults.get("temperature", _TEMPERATURE)),
            top_p=float(defaults.get("top_p", _TOP_P)),
            max_tokens=int(defaults.get("max_tokens", 0)),
            has_tools=descriptor.get("engine") in {"llama.cpp", "vllm"},
            engine=str(descriptor.get("engine") or ""),
            also=self._also(version),
            embedding=None if embedding is None else EmbeddingProfile.from_json(embedding, "runtime.embedding"),
        )

    def _also(self, _version: Any) -> tuple[str, ...]:
        return (ALIAS, *self._aliases)


def _has_lines(connection: Connection) -> bool:
    return any(column["name"] == "line" for column in inspect(connection).get_columns(Promotion.__tablename__))


def _rules(connection: Connection) -> dict[str, Rule]:
    rows = connection.execute(select(KeyRule.key_id, KeyRule.model_digest))
    return {row.key_id: Rule(model_digest=row.model_digest or "") for row in rows}


def _stops(connection: Connection) -> frozenset[tuple[str, str]]:
    return frozenset((row.what, row.name) for row in connection.execute(select(CallerStop.what, CallerStop.name)))
