"""A gateway over fakes: a fake engine, a ledger in memory, keys in a folder, one route that tests may change."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from appliance import config as configuration
from appliance.audit.memory import MemoryLedger
from appliance.config import Config
from appliance.gateway import create_app
from appliance.gateway.application import running
from appliance.gateway.auth import PEPPER, ApiKey
from appliance.gateway.metrics import Metrics
from appliance.gateway.routing import Lines, Route, Routes, Serving
from appliance.keys.files import FileKeys, create_missing
from appliance.phi.detect import Detector
from appliance.phi.policy import PhiMode
from media.clock import FixedClock
from media.embedding import EmbeddingProfile
from tests.support.engine import DIMENSIONS, MODEL_DIGEST, FakeEngine, fake_engine

MODEL = "smollm2-135m"
DEPARTMENT = "cardiology"
NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


def key_text(key_id: str = "abcdefgh23") -> str:
    """Return a well-formed key."""
    return f"sl-{key_id}-{'k' * 43}"


class Keys:
    """API keys in memory."""

    def __init__(self, keys: FileKeys) -> None:
        self._keys = keys
        self.known: dict[str, ApiKey] = {}
        self.is_empty = False

    def add(self, text: str, *, mode: PhiMode = PhiMode.TOKENISE, tier: str = "standard") -> str:
        """Make a key known; return it."""
        key_id = text.split("-", maxsplit=2)[1]
        self.known[key_id] = ApiKey(
            key_id=key_id,
            secret_hmac=self._keys.hmac(PEPPER, text.encode()).hex(),
            key_version=1,
            department=DEPARTMENT,
            phi_mode=mode,
            tier=tier,
        )
        return text

    def lookup(self, key_id: str) -> ApiKey | None:
        """Return the key; none while the state is built anew."""
        return None if self.is_empty else self.known.get(key_id)

    def is_ended(self, key_id: str) -> bool:
        """Tell whether it was revoked: it is known no more."""
        return not self.is_empty and key_id not in self.known


def production_of(routes: Routes) -> Route | None:
    """Return what line 1 serves; None where that is nothing."""
    first = routes.lines().first
    return None if first is None else first.production


@dataclass
class OneRoute:
    """What is promoted; None for nothing. `split` puts another version beside it, `stopped` names callers.

    `further` is what other lines serve.
    """

    route: Route | None
    split: dict[str, Any] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)
    further: list[Serving] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)

    def production(self) -> Route | None:
        """Return it."""
        return self.route

    def serving(self) -> Serving | None:
        """Return it with what is beside it."""
        route = self.production()
        return None if route is None else Serving(production=route, **self.split)

    def lines(self) -> Lines:
        """Return it with what other lines serve; `silent` are names that lead to lines which serve nothing."""
        first = self.serving()
        return Lines([*([] if first is None else [first]), *self.further], silent=self.silent)

    def is_stopped(self, *, key_id: str, department: str) -> bool:
        """Tell whether a key or a department is stopped."""
        return bool({key_id, department} & self.stopped)


@dataclass(slots=True, kw_only=True)
class Rig:
    """A gateway and everything it talks to."""

    app: Flask
    config: Config
    engine: FakeEngine
    ledger: MemoryLedger
    keys: FileKeys
    api_keys: Keys
    routes: OneRoute
    clock: FixedClock
    metrics: Metrics
    key: str
    client: FlaskClient = field(init=False)

    def __post_init__(self) -> None:
        self.client = self.app.test_client()

    @property
    def route(self) -> Route:
        """The route, which must be there."""
        assert self.routes.route is not None
        return self.routes.route

    def headers(self, key: str | None = None) -> dict[str, str]:
        """Return the headers of a caller."""
        return {"Authorization": f"Bearer {key or self.key}"}

    def ask(self, body: Mapping[str, Any], *, path: str = "/v1/chat/completions", **headers: str) -> Any:
        """Ask and return the test client's response, read to its end."""
        response = self.client.post(path, json=dict(body), headers={**self.headers(), **_named(headers)})
        response.get_data()
        return response

    def chat(self, text: str, **parameters: Any) -> Any:
        """Ask one question."""
        return self.ask({"model": MODEL, "messages": [{"role": "user", "content": text}], **parameters})

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        """Return the bodies of all records of a kind, oldest first."""
        return [dict(leaf.body) for leaf in self.ledger.find(kind=kind, limit=1000, newest_first=False)]

    def sample(self, name: str, **labels: str) -> float | None:
        """Return one metric."""
        return self.metrics.registry.get_sample_value(name, labels)

    def promote(self, **changes: Any) -> None:
        """Change the route."""
        self.routes.route = replace(self.route, **changes)


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def events(data: bytes) -> list[Any]:
    """Parse a stream as the standard says; `[DONE]` becomes its text."""
    found: list[Any] = []
    for block in data.decode().split("\n\n"):
        for line in block.split("\n"):
            if line.startswith("data: "):
                text = line.removeprefix("data: ")
                found.append(text if text == "[DONE]" else json.loads(text))
            else:
                assert not line, f"not an event: {line[:40]!r}"
    return found


def said(stream: list[Any]) -> str:
    """Join the text of a stream's events."""
    choices = [choice for event in stream if isinstance(event, dict) for choice in event.get("choices", [])]
    return "".join(one["delta"].get("content") or "" if "delta" in one else one["text"] for one in choices)


def site_file(root: Path, extra: str = "") -> Config:
    """Return a configuration below a folder; `extra` is TOML."""
    return configuration.parse(f'site = "demo"\nenvironment = "demo"\n[places]\nroot = "{root}"\n{extra}'.encode())


@contextmanager
def gateway(
    folder: Path,
    *,
    limits: str = "",
    caches: str = "",
    more: str = "",
    mode: PhiMode = PhiMode.TOKENISE,
    detector: Detector | None = None,
) -> Iterator[Rig]:
    """Run a gateway in this process; `limits` and `caches` are the TOML of their sections."""
    logging.getLogger("sealift.gateway").setLevel(logging.INFO)
    create_missing(folder / "keys")
    keys = FileKeys(folder / "keys")
    api_keys = Keys(keys)
    key = api_keys.add(key_text(), mode=mode)
    config = site_file(folder, f"[limits]\n{limits}\n[caches]\n{caches}\n{more}")
    clock = FixedClock(NOW)
    ledger, metrics = MemoryLedger(clock, door="ledger-gateway"), Metrics()
    with fake_engine(folder / "engine.sock") as engine:
        routes = OneRoute(
            Route(
                name=MODEL,
                version="1.0.0",
                model_digest=MODEL_DIGEST,
                serial=1,
                release="2026.11",
                socket=engine.path,
                created=1_790_000_000,
                has_tools=True,
                embedding=EmbeddingProfile(pooling="mean", n_ctx=512, dimensions=DIMENSIONS, matryoshka=True),
            )
        )
        app = create_app(
            config,
            routes=routes,
            ledger=ledger,
            keys=keys,
            api_keys=api_keys,
            clock=clock,
            metrics=metrics,
            detector=detector,
        )
        yield Rig(
            app=app,
            config=config,
            engine=engine,
            ledger=ledger,
            keys=keys,
            api_keys=api_keys,
            routes=routes,
            clock=clock,
            metrics=metrics,
            key=key,
        )
        ledger.available = True
        running(app).close()
