"""A site of real processes: ledger and promoter as their own, engines of a few lines behind a real control socket."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from appliance import config as configuration
from appliance import wire
from appliance.audit.socket_ledger import SocketLedger
from appliance.cli import (
    affected,
    approve,
    canary,
    clock,
    history,
    keys,
    network,
    people,
    policy,
    promote,
    prove,
    report,
    review,
    rollback,
    standby,
    stop,
    validate,
    versions,
)
from appliance.config import Config
from appliance.install.supervisor import CONTROL
from appliance.keys.files import create_missing
from appliance.registry import carriers, catalog
from appliance.state.database import open_state
from appliance.store.content import ContentStore, StoredRelease
from appliance.verify import trust
from tests.support.commands import Ended, Run, as_json, typed
from tests.support.medium import SimulatedMedium
from tests.support.versions import EngineSupervisor

COMMANDS = (
    affected,
    approve,
    canary,
    clock,
    history,
    keys,
    network,
    people,
    policy,
    promote,
    prove,
    report,
    review,
    rollback,
    standby,
    stop,
    validate,
    versions,
)


@dataclass(slots=True)
class RunningSite:
    """A folder, its site file, and what runs over it."""

    root: Path
    config: Config
    supervisor: EngineSupervisor
    notices: socket.socket
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start the ledger or the promoter and wait until it is ready."""
        module = "appliance.audit.service" if name == "ledger" else "appliance.promote.service"
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-I", "-m", module, "--config", str(self.config.at.config_file)],
            env={**os.environ, "NOTIFY_SOCKET": str(self.notices.getsockname())},
            stderr=subprocess.DEVNULL,
        )
        while b"READY=1" not in self.notices.recv(4096):
            pass

    def end(self, name: str, number: int = signal.SIGTERM) -> int:
        """End one of them and return its exit code."""
        process = self.processes.pop(name)
        process.send_signal(number)
        return process.wait(timeout=20)

    def gateway(self) -> SocketLedger:
        """The ledger's door of the gateway; close it."""
        return SocketLedger(self.config.at.socket("ledger-gateway"))

    def register(self, serial: int) -> tuple[str, ...]:
        """Register what a received release brings, and be able to start it."""
        stored = StoredRelease.load(ContentStore(self.config.at.store), serial)
        ledger = SocketLedger(self.config.at.socket("ledger-actions"))
        state = open_state(self.config.at)
        try:
            digests = catalog.register(ledger, state, stored)
        finally:
            ledger.close()
            state.dispose()
        for digest in digests:
            _, descriptor, _ = carriers.carrier(ContentStore(self.config.at.store), digest)
            self.supervisor.know(descriptor)
        return digests


def runner(site: RunningSite, capture: pytest.CaptureFixture[str], *, more: Iterable[ModuleType] = ()) -> Run:
    """Return a function that runs `sealift` with arguments, in this process; `more` are further commands."""
    return typed(site.config.at.config_file, (*COMMANDS, *more), capture)


@contextmanager
def running_site(
    root: Path,
    medium: SimulatedMedium,
    *,
    engines: Callable[[Config], EngineSupervisor] = EngineSupervisor,
    more: str = "",
) -> Iterator[RunningSite]:
    """Yield a site that has the medium's root pinned and whose ledger and promoter run.

    Args:
        root: The site's folder.
        medium: Whose root is pinned.
        engines: Starts its engines.
        more: Further lines of the site file.
    """
    # Two people run this site, whatever its profile: who requests approves as well.
    policy = "" if "[policy]" in more else 'policy.request = "release"\n'
    head = f'format = 1\nsite = "demo-clinic"\nenvironment = "demo"\nprofile = "cpu"\n{policy}'
    text = f'{head}[places]\nroot = "{root}"\n{more}'
    config = configuration.parse(text.encode())
    places = config.at
    places.pinned_trust.mkdir(parents=True)
    places.run.mkdir(parents=True)
    places.config_file.write_text(text)
    (places.pinned_trust / trust.PINNED_ROOT).write_bytes(medium.root_json)
    create_missing(places.key_files)
    with ExitStack() as stack:
        notices = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        notices.bind(str(root / "notify"))
        notices.settimeout(100)
        site = RunningSite(root=root, config=config, supervisor=engines(config), notices=notices)
        stack.enter_context(_control(site))
        try:
            site.start("ledger")
            site.start("promoter")
            yield site
        finally:
            site.supervisor.close()
            for name in list(site.processes):
                site.end(name, signal.SIGKILL)
            shutil.rmtree(places.run, ignore_errors=True)


@contextmanager
def _control(site: RunningSite) -> Iterator[None]:
    def answer(_: wire.Peer, message: Mapping[str, Any]) -> Mapping[str, Any]:
        do, unit = message.get("do"), str(message.get("unit", ""))
        if do == "start":
            site.supervisor.start(unit)
        elif do == "stop":
            site.supervisor.stop(unit)
        elif do == "kill":
            site.supervisor.kill(unit)
        elif do == "status":
            return {"state": str(site.supervisor.state(unit))}
        return {"units": [{"unit": one.name, "state": str(one.state)} for one in site.supervisor.units()]}

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(site.config.at.socket(CONTROL)))
        listener.listen(8)
        wire.serve({CONTROL: listener}, answer)
        yield
        listener.shutdown(socket.SHUT_RDWR)


__all__: Sequence[str] = ["Ended", "Run", "RunningSite", "as_json", "runner", "running_site"]
