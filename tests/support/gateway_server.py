"""A real gateway: gunicorn as its unit runs it, over a real ledger and state, and a fake engine on its socket."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from appliance.audit.client import SocketLedger
from appliance.audit.facts import EVERY
from appliance.config import DatabaseSection
from appliance.keys.files import FileKeys
from appliance.state.database import open_state
from appliance.unit import CORE
from media.embedding import EmbeddingProfile
from tests.support.engine import DIMENSIONS, EMBEDDED_TOKENS, MODEL_DIGEST, FakeEngine, fake_engine
from tests.support.gateway import DEPARTMENT, MODEL, key_text
from tests.support.ledger import ROOT, LedgerSite, approval, bodies, ledger_site, tell_all


@dataclass(slots=True, kw_only=True)
class Server:
    """A running gateway; `url` is its loopback address, `stderr` its log."""

    site: LedgerSite
    engine: FakeEngine
    doors: tuple[SocketLedger, SocketLedger]
    state: Engine
    url: str
    metrics_port: int
    key: str
    stderr: Path
    process: subprocess.Popen[bytes]
    listeners: tuple[socket.socket, ...] = ()
    ledger: subprocess.Popen[bytes] | None = None

    def restart(self) -> None:
        """Stop the gateway and start it on the same sockets, as systemd does when its socket unit stays."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=40)
        self.start_again()

    def start_again(self) -> None:
        """Start the gateway, which has ended, on the same sockets."""
        self.process = _start(self.site, self.listeners, self.stderr.with_name("restarted.log"))
        _wait_until_it_answers(self)

    def happen(self, kind: str, body: Mapping[str, Any]) -> None:
        """Record something and bring the state up to date, as an action does."""
        actions, promoter = self.doors
        (promoter if kind.startswith(("promotion.", "stop.")) else actions).append(kind, body)
        tell_all(self.state, actions)

    def add_key(self, text: str, **changes: str) -> str:
        """Make a key known; return it."""
        secret = FileKeys(self.site.places.key_files).hmac("api-key-pepper", text.encode()).hex()
        known = {"key_id": text.split("-")[1], "secret_hmac": secret, "department": DEPARTMENT, "tier": "standard"}
        self.happen("key.created", {**bodies()["key.created"], **known, **changes})
        return text

    def promote(self) -> None:
        """Promote the one model."""
        self.happen("promotion.made", bodies(MODEL_DIGEST)["promotion.made"])

    def outcomes(self) -> list[dict[str, Any]]:
        """Return how answers ended, newest first."""
        return [dict(leaf.body) for leaf in self.doors[0].find(kind="request.outcome", limit=EVERY)]

    def wait_for_outcome(self, request_count: int) -> dict[str, Any]:
        """Return the newest outcome once there are so many."""
        deadline = time.monotonic() + 60
        while len(found := self.outcomes()) < request_count:
            assert time.monotonic() < deadline, "no outcome was recorded"
            time.sleep(0.01)
        return found[0]


@contextmanager
def gateway_server(
    folder: Path,
    *,
    limits: str = "",
    ledger_apart: bool = False,
    gateways: int = 1,
    database: DatabaseSection | None = None,
    beside: Server | None = None,
    core: int | None = None,
    graceful_seconds: int | None = None,
    threads: int | None = None,
) -> Iterator[Server]:
    """Run everything until the block ends: the first of the site's gateways, the ledger apart where that is wanted.

    `beside` names another node of the same site, whose keys and whose database this one has. On its box the unit
    keeps a gateway to one `core`; without, it runs where there is room. It waits for its answers when it stops for
    `graceful_seconds`, or as its configuration says, which also tells how many `threads` it has by itself.
    """
    with ledger_site(folder, database=database) as site, free_port() as metrics_port:
        if beside is not None:
            shutil.copytree(beside.site.places.key_files, site.places.key_files, dirs_exist_ok=True)
        with site.config_file.open("a") as stream:
            stream.write(f"[service]\nmetrics_port = {metrics_port}\ngateways = {gateways}\n[limits]\n{limits}\n")
        with (
            site.process() if ledger_apart else site.running() as ledger,
            fake_engine(site.places.socket(f"engine-production-{MODEL_DIGEST[:12]}")) as engine,
            socket.create_server(("127.0.0.1", 0)) as listener,
            _unix_listener(site.places.socket("gateway")) as unix,
            _unix_listener(site.places.socket("gateway-admin")) as of_page,
        ):
            doors = (site.door("ledger-actions"), site.door("ledger-promoter"))
            server = Server(
                site=site,
                engine=engine,
                doors=doors,
                state=open_state(site.places),
                url=f"http://127.0.0.1:{listener.getsockname()[1]}",
                metrics_port=metrics_port,
                key=beside.key if beside is not None else "",
                stderr=folder / "gateway.log",
                process=_start(
                    site,
                    (listener, unix, of_page),
                    folder / "gateway.log",
                    core=core,
                    arguments=_arguments(graceful_timeout=graceful_seconds, threads=threads),
                ),
                listeners=(listener, unix, of_page),
                ledger=ledger if isinstance(ledger, subprocess.Popen) else None,
            )
            try:
                if beside is None:
                    _furnish(server)
                _wait_until_it_answers(server)
                yield server
            finally:
                server.process.send_signal(signal.SIGTERM)
                server.process.wait(timeout=20)
                for door in doors:
                    door.close()


@contextmanager
def further_gateway(server: Server, number: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run one more gateway of the same site, on the socket that its unit has; killed at the end."""
    path = server.site.places.socket(f"gateway-{number}")
    path.unlink(missing_ok=True)
    with _unix_listener(path) as listener:
        process = _start(server.site, (listener,), server.stderr.with_name(f"gateway-{number}.log"))
    # Its own alone now: nobody holds the socket when it is killed, as when systemd has given a unit up.
    try:
        _wait_until_alive(path, process)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
        path.unlink(missing_ok=True)


def _furnish(server: Server) -> None:
    history = bodies(MODEL_DIGEST)
    server.happen("release.received", history["release.received"])
    embedding = EmbeddingProfile(pooling="mean", n_ctx=EMBEDDED_TOKENS, dimensions=DIMENSIONS).to_json()
    defaults = {"temperature": "0.25", "top_p": "0.9"}
    runtime = {"n_ctx": 4096, "defaults": defaults, "embedding": embedding}
    descriptor = {"format": 1, "engine": "llama.cpp", "runtime": runtime}
    server.happen("model.registered", history["model.registered"] | {"name": MODEL, "descriptor": descriptor})
    server.happen("promotion.made", history["promotion.made"] | {"approvals": [approval("ada"), approval("bo")]})
    server.key = server.add_key(key_text())


# What systemd does between fork and exec (sd_listen_fds(3)): the sockets from 3 on, and for whom they are.
ACTIVATE = """
import fcntl, os, sys
high = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 100) for one in sys.argv[1].split(",")]
for place, number in enumerate(high):
    os.dup2(number, 3 + place, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(high))}
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def _start(
    site: LedgerSite,
    listeners: Sequence[socket.socket],
    log: Path,
    *,
    core: int | None = None,
    arguments: str = "",
) -> subprocess.Popen[bytes]:
    numbers = ",".join(str(one.fileno()) for one in listeners)
    gunicorn = ["-m", "gunicorn", "--config", "python:appliance.gateway.gunicorn_conf", "appliance.gateway.wsgi:app"]
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    if core is not None:
        kept[CORE] = str(core)
    if arguments:
        kept["GUNICORN_CMD_ARGS"] = arguments
    with log.open("wb") as stderr:
        return subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, numbers, *gunicorn],
            cwd=ROOT,
            pass_fds=[one.fileno() for one in listeners],
            stderr=stderr,
            env={**kept, "PYTHONPATH": str(ROOT), "SEALIFT_CONFIG": str(site.config_file)},
        )


def _arguments(**values: int | None) -> str:
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in values.items() if value is not None)


def _wait_until_it_answers(server: Server) -> None:
    _wait_until_alive(server.site.places.socket("gateway"), server.process)


def _wait_until_alive(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{path.name} ended"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
                probe.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                if probe.recv(15).startswith(b"HTTP/1.1 200"):
                    return
            except OSError:
                pass
        time.sleep(0.02)
    raise AssertionError(f"{path.name} does not answer")


@contextmanager
def _unix_listener(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(128)
        yield listener


@contextmanager
def free_port() -> Iterator[int]:
    """Lend a port of loopback that nobody listens on, and that the kernel gives to nobody else meanwhile."""
    with socket.socket() as held:
        # Bound and not listening: who sets this too, as servers do, may listen there.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
