"""Which engines may answer: of each line the version promoted last, a canary beside it, or the version before.

Callers name a model by its own name, which leads to its line, or as `production`, which is line 1's; which of two
versions of a line answers is not theirs to choose (see `appliance.gateway.arms`). A change of promotion is in force
within a second, and so is the scrub's word that a version is damaged: nobody is routed to it any more.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from appliance.audit.facts import Ledger
from appliance.config import Places
from appliance.errors import NotInstalledError, StoreDamagedError
from appliance.gateway import problems, staterows
from appliance.gateway.onelook import OneLook
from appliance.gateway.unapplied import Stops, Unapplied, stops
from appliance.modelaliases import PRODUCTION
from appliance.promote.canary import offset_of
from appliance.registry.damaged import damaged
from appliance.stages import FIRST_LINE
from appliance.state import held as held_back
from appliance.state.database import open_state
from appliance.state.lines import Standing
from appliance.state.lines import stands as stands_for_callers
from appliance.state.projection import applied_sequence
from media.clock import Clock, from_text
from media.embedding import EmbeddingProfile

ALIAS: Final = PRODUCTION
NO_ALIASES: Final[Mapping[str, str]] = {}
_DIGEST_CHARACTERS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The promoted version and the way to its engine.

    Attributes:
        created: When it was promoted, in seconds since 1970.
        temperature: What is used when a caller asks for none; part of what was approved.
        max_tokens: How long an answer may be when a caller names no length, likewise; 0 leaves it to the site.
        context: How many tokens a question and its answer may have together; 0 where that is not known.
        places: How many answers one of its engines gives at once; 0 where that is not known.
        has_tools: Whether its engine calls functions.
        engine: Its kind, as its descriptor names it; empty where that is not known.
        embedding: How it makes embeddings; None where it makes none.
        weights: How much they are on the disk, and of which kind, as far as that is known.
        also: Other names that callers may use for it.
    """

    name: str
    version: str
    model_digest: str
    serial: int
    release: str
    socket: Path
    created: int
    temperature: float = staterows.TEMPERATURE
    top_p: float = staterows.TOP_P
    max_tokens: int = 0
    context: int = 0
    places: int = 0
    has_tools: bool = False
    engine: str = ""
    embedding: EmbeddingProfile | None = None
    weights: staterows.Weights = staterows.UNTOLD
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
    """Everything that is loaded of one line, and what was decided for keys there.

    Attributes:
        since: The record of the canary's start: conversations that began later are in the ledger after it.
        is_test: It is the test stage's: `production` is what was loaded there last, `others` were before, and callers
            choose among them by name.
        leaving: The version that goes when the rollout ends well, and `leaves`, when that may be.
        line: The line's number.
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
    line: int = FIRST_LINE

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


class Lines:
    """What each line serves, and which line a name leads to; made anew when the state was read, and never changed.

    Args:
        serving: Of each line that serves, line 1 first.
        silent: The names that lead to a line which serves nothing.
        away: The numbers of the lines that nobody stopped and whose version is not there, or damaged.
        aliases: The site's own names, and which name each stands for; a model has its own name before any of them.

    Attributes:
        routes: The versions that are loaded, those in production before the others.
        loaded: Their digests.
    """

    def __init__(
        self,
        serving: Iterable[Serving] = (),
        *,
        silent: Collection[str] = (),
        away: tuple[int, ...] = (),
        aliases: Mapping[str, str] = NO_ALIASES,
    ) -> None:
        self.serving = tuple(serving)
        self.away = away
        self._silent = frozenset(silent)
        further = [(one, route) for one in self.serving for route in one.routes[1:]]
        found = [*((one, one.production) for one in self.serving), *further]
        self.routes: tuple[Route, ...] = tuple(route for _, route in found)
        self.loaded = frozenset(route.model_digest for route in self.routes)
        # An alias comes before a model's own name, so that no caller of line 1 is moved by a second model.
        self._lines = {route.name: one for one, route in reversed(found)}
        self._lines |= {name: one for one, route in reversed(found) for name in route.also}
        taken = self._silent.union(self._lines)
        self._aliases = {alias: meant for alias, meant in aliases.items() if alias not in taken}

    @property
    def first(self) -> Serving | None:
        """What line 1 serves, which the aliases mean; None where that is nothing."""
        return next((one for one in self.serving if one.line == FIRST_LINE), None)

    @property
    def names(self) -> dict[str, Route]:
        """Every name that callers may use, with the version that it means; the models' own names first."""
        found = {route.name: route for route in reversed(self.routes)}
        named = {name: found[name] for name in reversed(found)}
        for route in self.routes:
            for name in route.also:
                named.setdefault(name, route)
        return named | {alias: named[meant] for alias, meant in self._aliases.items() if meant in named}

    def plain(self, name: str) -> str:
        """Return the name that an alias of the site stands for; any other name is itself."""
        return self._aliases.get(name, name)

    def line_of(self, model_digest: str) -> str:
        """Return the line in which a version is loaded, as the queue has it; nothing where one line serves all."""
        if len(self.serving) < 2:
            return ""
        return next((str(one.line) for one in self.serving if model_digest in {r.model_digest for r in one.routes}), "")

    def meant(self, name: str) -> Serving | None:
        """Return what the line serves that a name leads to; None where that is nothing, and other lines serve.

        Raises:
            Problem: No line serves anything, or none has a model of that name.
        """
        if not self.serving:
            raise problems.no_model()
        name = self.plain(name)
        found = self._lines.get(name)
        if found is None and name not in self._silent:
            raise problems.model_not_found()
        if found is not None and found.is_test:
            meant = next(route for route in found.routes if route.answers_to(name))
            return replace(found, production=meant, others=())
        return found


class Routes(Protocol):
    """Where the gateway learns what is promoted, and whom one person stopped."""

    def is_stopped(self, *, key_id: str, department: str) -> bool:
        """Tell whether this key, or its department, is stopped.

        Raises:
            StoreDamagedError: It cannot be told.
        """
        ...

    def lines(self) -> Lines:
        """Return everything that may answer.

        Raises:
            StoreDamagedError: It cannot be told.
        """
        ...


def require_serving(lines: Lines, model: str) -> Serving:
    """Return what may answer under the name a caller used.

    Raises:
        Problem: Nothing is promoted, nothing by that name, or its line serves nothing.
    """
    serving = lines.meant(model)
    if serving is None:
        raise problems.line_stopped()
    return serving


def require_route(routes: Routes, model: str) -> Route:
    """Return the loaded version that has the name a caller used, production's first.

    Raises:
        Problem: As `require_serving`.
    """
    lines = routes.lines()
    name = lines.plain(model)
    return next(route for route in require_serving(lines, model).routes if route.answers_to(name))


class _Told(NamedTuple):
    lines: Lines
    stops: Stops
    applied: int


class StateRoutes:
    """Reads promotions, rollouts and stops from `state.db`, at most once a second; who was stopped since: `ledger`."""

    engines = "engine-production"

    def __init__(
        self,
        places: Places,
        clock: Clock,
        *,
        aliases: tuple[str, ...] = (),
        sites: Mapping[str, str] = NO_ALIASES,
        ledger: Ledger | None = None,
    ) -> None:
        self._places = places
        self._aliases, self._sites = aliases, sites
        self._looking = OneLook(self._look, clock)
        self._engine: Engine | None = None
        self._applied = -1
        self._unapplied = Unapplied(ledger, clock)
        self._damaged: frozenset[str] = frozenset()
        self._has_lines = False

    def lines(self) -> Lines:
        """Return everything that may answer; see `Routes`."""
        return self._looking.found().lines

    def is_stopped(self, *, key_id: str, department: str) -> bool:
        """Tell whether a caller is stopped; see `Routes`."""
        told = self._looking.found()
        found = stops(told.stops, self._unapplied.since(told.applied))
        return ("key", key_id) in found or ("department", department) in found

    def _look(self) -> "_Told":
        self._prepare()
        try:
            if self._engine is None:
                self._engine = open_state(self._places, read_only=True)
            with self._engine.connect() as connection:
                self._damaged = frozenset(damaged(self._places.scrub))
                self._applied = applied_sequence(connection)  # first: what comes meanwhile is only told twice
                # After an upgrade the gateway may be there before whoever writes the state brings its schema up.
                is_whole = staterows.has_rollouts(connection)
                lines = self._read(connection, is_whole=is_whole)
                told = staterows.stops(connection) if is_whole else frozenset()
        except NotInstalledError:
            self._applied = -1
            return _Told(Lines(), frozenset(), self._applied)
        except SQLAlchemyError as error:
            self._has_lines = False
            raise StoreDamagedError(
                what="the state cannot be read", why=type(error).__name__, fix="see `sealift status`"
            ) from error
        return _Told(lines, told, self._applied)

    def _prepare(self) -> None:
        """Ask for what is needed beside the state, before it is opened."""

    def _read(self, connection: Connection, *, is_whole: bool) -> Lines:
        # State of before the release that knows lines has no column for them, and no line but the first.
        self._has_lines = self._has_lines or staterows.has_lines(connection)
        held, known = held_back.held(connection), self._has_lines
        stands = stands_for_callers(connection, has_lines=known, held=held, socket_of=self._socket)
        opened = staterows.rollouts(connection, has_lines=known, held=held) if is_whole else {}
        pins = staterows.rules_by_line(connection, stands) if is_whole else {}
        serving = []
        for number, one in stands.items():
            production = None if one.is_stopped else self._route(connection, one.last, one.at, line=number)
            if production is not None:
                rules = {key_id: Rule(model_digest=digest) for key_id, digest in pins.get(number, {}).items()}
                alone = Serving(production=production, rules=rules, line=number)
                serving.append(self._split(connection, alone, opened[number]) if number in opened else alone)
        silent = {number: one for number, one in stands.items() if number not in {one.line for one in serving}}
        away = tuple(number for number, one in silent.items() if not one.is_stopped)
        # Where nothing serves, that is what everybody is told.
        return Lines(serving, silent=self._names(connection, silent) if serving else (), away=away, aliases=self._sites)

    def _names(self, connection: Connection, silent: Mapping[int, Standing]) -> set[str]:
        found = [staterows.version(connection, one.last) for one in silent.values()]
        aliases = (ALIAS, *self._aliases) if FIRST_LINE in silent else ()
        return {*aliases, *(one.name for one in found if one is not None)}

    def _split(self, connection: Connection, serving: Serving, row: Any) -> Serving:
        more = {"since": row.sequence, "leaving": row.control, "leaves": row.ends_at}
        if row.state == "beside":
            before = self._route(connection, row.control, row.at, line=serving.line)
            return serving if before is None else replace(serving, beside=Beside(route=before), **more)
        route = self._route(connection, row.model_digest, row.at, line=serving.line)
        if route is None:
            return serving
        offset, is_held = offset_of(row.sequence), row.state == "held"
        return replace(serving, canary=Canary(route=route, percent=row.percent, offset=offset, is_held=is_held), **more)

    def _route(self, connection: Connection, digest: str, at: str, *, line: int = FIRST_LINE) -> Route | None:
        version = staterows.version(connection, digest)
        if version is None or digest in self._damaged:  # the scrub found other bytes on the disk than were approved
            return None
        return self._route_of(digest, at, version, line)

    def _socket(self, digest: str) -> Path:
        return self._places.socket(f"{self.engines}-{digest[:_DIGEST_CHARACTERS]}")

    def _route_of(self, digest: str, at: str, version: Any, line: int) -> Route:
        descriptor: Mapping[str, Any] = version.descriptor
        runtime = descriptor.get("runtime", {})
        return Route(
            name=version.name,
            version=version.version,
            model_digest=digest,
            serial=version.serial,
            release=version.release or "",
            socket=self._socket(digest),
            created=int(from_text(at).timestamp()),
            **staterows.profile(runtime),
            has_tools=staterows.has_tools(descriptor, runtime),
            engine=str(descriptor.get("engine") or ""),
            also=self._also(version) if line == FIRST_LINE else (),
            weights=staterows.weights(descriptor),
        )

    def _also(self, _version: Any) -> tuple[str, ...]:
        return (ALIAS, *self._aliases)
