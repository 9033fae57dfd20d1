"""A site on which rollouts can be tried: ledger, promoter and gateway as processes, two versions behind fake engines.

Callers ask over HTTP, as many at once as asked for; what each got is kept.
"""

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from appliance.errors import UnitError
from appliance.registry.descriptor import ModelDescriptor
from appliance.unit import CORE
from tests.support.commands import Ended, Run, as_json, exit_code
from tests.support.engine import FakeEngine, Script, fake_engine
from tests.support.ledger import ROOT
from tests.support.promoting import bring, enrol_all, medium_of, serve
from tests.support.running_site import COMMANDS, RunningSite, running_site
from tests.support.versions import EngineSupervisor

POLICY = '[policy]\nrequest = "release"\n'


class RolloutSupervisor(EngineSupervisor):
    """Starts an engine that speaks the whole contract behind each production unit; the test stage as before.

    `scripts` says how the engine of a version answers, by digest.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.known: dict[str, ModelDescriptor] = {}
        self.scripts: dict[str, Script] = {}
        self.engines: dict[str, FakeEngine] = {}
        self._open: dict[str, ExitStack] = {}

    def know(self, descriptor: ModelDescriptor, **more: Any) -> None:
        super().know(descriptor, **more)
        self.known[descriptor.model_digest[:12]] = descriptor

    def start(self, unit: str) -> None:
        if "@" not in unit or "-production@" not in unit:
            super().start(unit)
            return
        super(EngineSupervisor, self).start(unit)
        digest = unit.partition("@")[2].removesuffix(".service")
        if digest in self._open:
            return
        if digest not in self.known:
            raise UnitError(what=f"{unit} did not start", why="the test knows no such version", fix="")
        known = self.known[digest]
        stack = self._open[digest] = ExitStack()
        engine = stack.enter_context(
            fake_engine(
                self._config.at.socket(f"engine-production-{digest}"),
                model_digest=known.model_digest,
                weights_digest=known.weights_digest,
                script=self.scripts.get(known.model_digest, Script(text="fine")),
            )
        )
        self.engines[known.model_digest] = engine

    def stop(self, unit: str) -> None:
        digest = unit.partition("@")[2].removesuffix(".service")
        if "-production@" not in unit:
            super().stop(unit)
            return
        super(EngineSupervisor, self).stop(unit)
        stack = self._open.pop(digest, None)
        if stack is not None:
            stack.close()

    def close(self) -> None:
        super().close()
        for digest in list(self._open):
            self._open.pop(digest).close()


@dataclass(frozen=True, slots=True)
class Got:
    """What one request got: when it began and ended, its status, and the version that answered."""

    began: float
    ended: float
    status: int
    version: str
    whole: bool


@dataclass(slots=True)
class Load:
    """Callers that ask one after another until they are told to end."""

    port: int
    key: str
    think_seconds: float = 0.02
    got: list[Got] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, callers: int) -> None:
        """Begin."""
        for number in range(callers):
            thread = threading.Thread(target=self._ask, args=(number, bool(number % 2)))
            thread.start()
            self._threads.append(thread)

    def end(self) -> None:
        """Let every caller finish its request."""
        self._done.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, holds: Callable[[Sequence[Got]], bool], *, seconds: float = 120) -> None:
        """Return once the answers so far fulfil something."""
        deadline = time.monotonic() + seconds
        while not holds(self.got):
            assert time.monotonic() < deadline, f"after {len(self.got)} answers"
            time.sleep(0.02)

    @property
    def lost(self) -> list[Got]:
        """The requests that were not answered whole."""
        return [one for one in self.got if one.status != 200 or not one.whole]

    def _ask(self, number: int, stream: bool) -> None:  # noqa: FBT001 - a thread's argument
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        messages = [{"role": "user", "content": "hello there"}]
        asked = {"model": "production", "messages": messages, "stream": stream}
        # A canary's share is drawn by user: with one user for each of few callers, all could be on one side.
        bodies = cycle([json.dumps(asked | {"user": f"user-{number}-{of}"}) for of in range(8)])
        headers = {"Authorization": f"Bearer {self.key}", "content-type": "application/json"}
        while not self._done.is_set():
            began = time.monotonic()
            try:
                connection.request("POST", "/v1/chat/completions", body=next(bodies), headers=headers)
                response = connection.getresponse()
                content, status = response.read(), response.status
                version = response.headers.get("x-model-version", "")
            except (OSError, http.client.HTTPException):
                connection.close()
                content, status, version = b"", 0, ""
            whole = content.endswith(b"data: [DONE]\n\n") if stream else content.startswith(b'{"id"')
            self.got.append(Got(began, time.monotonic(), status, version, whole))
            self._done.wait(self.think_seconds)
        connection.close()


@contextmanager
def running_gateway(site: RunningSite, *, core: int | None = None) -> Iterator[int]:
    """Run the gateway of a site as its unit does, on one `core` where that is named; yield its port on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        metrics: int = listener.getsockname()[1]
    with site.config.at.config_file.open("a") as stream:
        stream.write(f"[service]\nmetrics_port = {metrics}\n[limits]\nrequests_per_minute = 1000000\n")
    with socket.create_server(("127.0.0.1", 0)) as listener, (site.root / "gateway.log").open("wb") as log:
        binds = f"--bind fd://{listener.fileno()}"
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "SEALIFT_CONFIG": str(site.config.at.config_file),
            "GUNICORN_CMD_ARGS": binds,
            **({} if core is None else {CORE: str(core)}),
        }
        command = [sys.executable, "-m", "gunicorn", "--config", "python:appliance.gateway.gunicorn_conf"]
        process = subprocess.Popen(
            [*command, "appliance.gateway.wsgi:app"],
            cwd=ROOT,
            pass_fds=[listener.fileno()],
            stderr=log,
            env=environment,
        )
        port: int = listener.getsockname()[1]
        try:
            _wait_until_alive(port, process, site.root / "gateway.log")
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def by_process(site: RunningSite) -> Run:
    """Return a function that runs `sealift` as a process of its own, as a person does."""

    def run(*arguments: str, stdin: str | None = None) -> Ended:
        config = str(site.config.at.config_file)
        done = subprocess.run(
            [sys.executable, "-m", "appliance.cli.main", "--config", config, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            input=stdin,
        )
        return Ended(code=done.returncode, out=done.stdout, err=done.stderr)

    return run


def in_process(site: RunningSite) -> Run:
    """Return a function that runs `sealift` in this process, without a test's fixtures."""

    def run(*arguments: str, stdin: str | None = None) -> Ended:
        del stdin
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = exit_code(site.config.at.config_file, COMMANDS, arguments)
        return Ended(code=code, out=out.getvalue(), err=err.getvalue())

    return run


@contextmanager
def rollout_site(root: Path, homes: Mapping[str, Path]) -> Iterator[tuple[RunningSite, Run, str, str]]:
    """Yield a site with one version in production and another that two people approved, not started yet."""
    with running_site(root, medium_of(1), engines=RolloutSupervisor, more=POLICY) as site:
        run = in_process(site)
        enrol_all(site, run, dict(homes))
        first, second = bring(site, 1), bring(site, 2)
        serve(run, first, dict(homes))
        approve(run, second, homes)
        yield site, run, first, second


def approve(run: Run, digest: str, homes: Mapping[str, Path]) -> None:
    """Validate a version, ask for approvals and give them."""
    as_json(run, "validate", digest)
    as_json(run, "promote", digest, "--as", "eva-rossi")
    for person, home in homes.items():
        as_json(run, "approve", digest, "--as", person, "--gnupg-home", str(home), "--yes")


@contextmanager
def load_on(site: RunningSite, run: Run, *, callers: int) -> Iterator[Load]:
    """Run the gateway and callers on it until the block ends."""
    key = as_json(run, "keys", "create", "--department", "radiology", "--owner", "test")["key"]
    with running_gateway(site) as port:
        load = Load(port=port, key=str(key))
        load.start(callers)
        try:
            load.wait_for(lambda got: len(got) >= 4 * callers)
            yield load
        finally:
            load.end()


def _wait_until_alive(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        # Closed also where a busy machine answers too late, or it would be told of long after, in another test.
        with suppress(OSError), closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", "/livez")
            response = connection.getresponse()
            response.read()
            if response.status == 200:
                return
        time.sleep(0.05)
    raise AssertionError(log.read_text())
