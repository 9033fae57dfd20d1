"""The test stage's gateway beside production's: gunicorn as its unit runs it, with its own four keys as credentials."""

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

import httpx

from appliance.keys.files import FileKeys
from appliance.keys.stages import OWN
from tests.support.engine import FakeEngine, fake_engine
from tests.support.gateway import DEPARTMENT, MODEL
from tests.support.gateway_server import Server
from tests.support.ledger import ROOT, bodies

CANDIDATE = "ef" * 32
PERSON = "iris"


@dataclass(slots=True, kw_only=True)
class StageServer:
    """A running gateway of the test stage beside production's, and the version that is loaded there."""

    server: Server
    engine: FakeEngine
    url: str
    key: str
    stderr: Path
    process: subprocess.Popen[bytes]

    @property
    def socket(self) -> Path:
        """Its own socket, which the web server speaks to."""
        return self.server.site.places.socket("gateway-test")

    def load(self) -> None:
        """Load the candidate, as the action records it."""
        self.server.happen("stage.loaded", {"model_digest": CANDIDATE, "person": PERSON})

    def unload(self) -> None:
        """Take it away."""
        self.server.happen("stage.unloaded", {"model_digest": CANDIDATE, "person": PERSON})

    def add_key(self, text: str, **changes: str) -> str:
        """Make a test key known; return it."""
        secret = FileKeys(self.server.site.places.key_files).hmac("test-api-key-pepper", text.encode()).hex()
        known = {"key_id": text.split("-")[2], "secret_hmac": secret, "department": DEPARTMENT, "tier": "basic"}
        self.server.happen("key.created", {**bodies()["key.created"], **known, "stage": "test", **changes})
        return text

    def ask(self, *, key: str = "", model: str = MODEL, at: str = "", **body: Any) -> httpx.Response:
        """Ask one question at a stage, the test stage's by itself."""
        asked = {"model": model, "messages": [{"role": "user", "content": "hello"}], **body}
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx.post(f"{at or self.url}/v1/chat/completions", json=asked, headers=headers, timeout=20)

    def wait_for(self, status: int) -> httpx.Response:
        """Ask until the answer has this status; what changes is in force within a second."""
        deadline = time.monotonic() + 20
        while (found := self.ask()).status_code != status:
            assert time.monotonic() < deadline, found.text
            time.sleep(0.1)
        return found


def developer_key(key_id: str) -> str:
    """Return a well-formed test key."""
    return f"sl-test-{key_id}-{'t' * 43}"


@contextmanager
def stage_server(server: Server) -> Iterator[StageServer]:
    """Run the test stage's gateway of a site until the block ends."""
    places = server.site.places
    credentials = places.run / "credentials"
    credentials.mkdir(mode=0o700)
    for name in OWN:
        shutil.copy(places.key_files / f"test-{name}.v1", credentials / f"test-{name}")
    with (
        fake_engine(places.socket(f"engine-test-{CANDIDATE[:12]}"), model_digest=CANDIDATE) as engine,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unix,
    ):
        unix.bind(str(places.socket("gateway-test")))
        unix.listen(128)
        log = server.stderr.with_name("gateway-test.log")
        staged = StageServer(
            server=server,
            engine=engine,
            url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            key="",
            stderr=log,
            process=start(server, log, (listener, unix), {"CREDENTIALS_DIRECTORY": str(credentials)}),
        )
        try:
            registered = bodies(CANDIDATE)["model.registered"]
            server.happen("model.registered", registered | {"name": MODEL, "version": "2.0.0"})
            # Of the highest tier, so that one test does not use up the minute of another.
            staged.key = staged.add_key(developer_key("testkey234"), tier="premium")
            wait_alive(staged)
            yield staged
        finally:
            staged.process.send_signal(signal.SIGTERM)
            staged.process.wait(timeout=20)


def start(
    server: Server,
    log: Path,
    listeners: Sequence[socket.socket],
    environment: Mapping[str, str],
    *,
    stage: str = "test",
) -> subprocess.Popen[bytes]:
    """Start gunicorn as the unit does; the site's folder of keys is not given to it."""
    command = [sys.executable, "-m", "gunicorn", "--config", "python:appliance.gateway.gunicorn_conf"]
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    told = {"SEALIFT_CONFIG": str(server.site.config_file), "SEALIFT_STAGE": stage}
    arguments = " ".join(f"--bind fd://{one.fileno()}" for one in listeners)
    with log.open("wb") as stderr:
        return subprocess.Popen(
            [*command, "appliance.gateway.wsgi:app"],
            cwd=ROOT,
            pass_fds=[one.fileno() for one in listeners],
            stderr=stderr,
            env={**kept, "PYTHONPATH": str(ROOT), **told, "GUNICORN_CMD_ARGS": arguments, **environment},
        )


def wait_alive(staged: StageServer) -> None:
    """Return when it answers."""
    deadline = time.monotonic() + 60
    while True:
        assert staged.process.poll() is None, staged.stderr.read_text()
        assert time.monotonic() < deadline, "the test stage's gateway does not answer"
        try:
            if httpx.get(f"{staged.url}/livez", timeout=1).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
