"""Which engine answers: the version that the newest promotion names, and nothing else.

Callers name it by its own name or as `production`. A change of promotion is in force within a second.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

from appliance.config import Places
from appliance.errors import NotInstalledError, StoreDamagedError
from appliance.gateway import problems
from appliance.state.database import open_state
from appliance.state.tables import ModelVersion, Promotion, Release
from media.clock import Clock, from_text

ALIAS: Final = "production"
_FRESH_SECONDS: Final = 1.0
_DIGEST_CHARACTERS: Final = 12
# The documents' default (E16), where the promoted descriptor names none.
_TEMPERATURE: Final = 0.7
_TOP_P: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The promoted version and the way to its engine.

    Attributes:
        created: When it was promoted, in seconds since 1970.
        temperature: What is used when a caller asks for none; part of what was approved.
        has_tools: Whether its engine calls functions.
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
    has_tools: bool = False

    def answers_to(self, name: str) -> bool:
        """Tell whether callers may use this name for it."""
        return name in {self.name, ALIAS}


class Routes(Protocol):
    """Where the gateway learns what is promoted."""

    def production(self) -> Route | None:
        """Return what production serves; None while nothing is promoted.

        Raises:
            StoreDamagedError: It cannot be told.
        """
        ...


def require_route(routes: Routes, model: str) -> Route:
    """Return the route for the name a caller used.

    Raises:
        Problem: Nothing is promoted, or nothing by that name.
    """
    route = routes.production()
    if route is None:
        raise problems.no_model()
    if not route.answers_to(model):
        raise problems.model_not_found()
    return route


class StateRoutes:
    """Reads promotions from `state.db`, at most once a second."""

    def __init__(self, places: Places, clock: Clock) -> None:
        self._places = places
        self._clock = clock
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._read_at: float | None = None
        self._route: Route | None = None

    def production(self) -> Route | None:
        """Return what production serves; see `Routes`."""
        with self._lock:
            now = self._clock.monotonic()
            if self._read_at is None or now - self._read_at > _FRESH_SECONDS:
                self._route = self._read()
                self._read_at = now
            return self._route

    def _read(self) -> Route | None:
        newest = select(Promotion.model_digest, Promotion.at).order_by(Promotion.sequence.desc()).limit(1)
        try:
            if self._engine is None:
                self._engine = open_state(self._places, read_only=True)
            with self._engine.connect() as connection:
                promotion = connection.execute(newest).first()
                if promotion is None or promotion.model_digest is None:
                    return None
                query = (
                    select(
                        ModelVersion.name,
                        ModelVersion.version,
                        ModelVersion.serial,
                        ModelVersion.descriptor,
                        Release.name.label("release"),
                    )
                    .outerjoin(Release, Release.serial == ModelVersion.serial)
                    .where(ModelVersion.model_digest == promotion.model_digest)
                )
                version = connection.execute(query).first()
        except NotInstalledError:
            return None
        except SQLAlchemyError as error:
            raise StoreDamagedError(
                what="the state cannot be read", why=type(error).__name__, fix="see `sealift status`"
            ) from error
        if version is None:
            return None
        return self._route_of(str(promotion.model_digest), str(promotion.at), version)

    def _route_of(self, digest: str, at: str, version: Any) -> Route:
        descriptor: Mapping[str, Any] = version.descriptor
        defaults = descriptor.get("runtime", {}).get("defaults", {})
        return Route(
            name=version.name,
            version=version.version,
            model_digest=digest,
            serial=version.serial,
            release=version.release or "",
            socket=self._places.socket(f"engine-production-{digest[:_DIGEST_CHARACTERS]}"),
            created=int(from_text(at).timestamp()),
            temperature=float(defaults.get("temperature", _TEMPERATURE)),
            top_p=float(defaults.get("top_p", _TOP_P)),
            has_tools=descriptor.get("engine") == "vllm",
        )
