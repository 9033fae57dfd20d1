"""Boxes whose records are on one PostgreSQL server: it runs in a network of its own, each box has a cable to it.

As in test_token_units, the boxes are a bare Debian 12 with this machine's /usr, and the units are as they are, with the
drop-ins that the install writes: one allowed destination, the authority and one role's password as credentials.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from appliance.postgres.connecting import AUTHORITY, ROLES
from tests.box.checkout import SEALIFT, booted, journal, lay_down, lay_drop_ins, lay_program, require_debian
from tests.box.machine import Machine
from tests.box.pair import run
from tests.interop.test_postgresql_tls import NAME, SECRET, Authority
from tests.support.postgres import PostgresServer, postgres_server

# By process, so that what a run left that was killed is in nobody's way.
NETWORK = f"sldb{os.getpid()}"
SERVER = "10.78.0.1"
ADDRESSES = {"one": "10.78.0.2", "two": "10.78.0.3"}
SECRETS = "etc/sealift/database"


@dataclass(slots=True, kw_only=True)
class Node:
    """A booted node; `plug` is its cable."""

    name: str
    machine: Machine

    def sealift(self, words: str) -> dict[str, object]:
        done = self.machine.shell(f"{SEALIFT} {words}")
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, object] = json.loads(done.stdout[done.stdout.index("{") :])
        return found

    def begin(self) -> None:
        """Start ledger and gateway; a ledger that waits is not ready, so nobody waits for it."""
        units = ("sealift-ledger.service", "sealift-gateway.service")
        self.machine.run("systemctl", "start", "--no-block", *units, shown=False)
        wait_until(lambda: self.asked("/livez")[0] == 200, journal(self.machine, "sealift-gateway"))

    def state(self, unit: str = "sealift-ledger") -> str:
        return self.machine.shell(f"systemctl show -P SubState {unit}").stdout.strip()

    def asked(self, path: str, key: str = "") -> tuple[int, str]:
        done = self.machine.shell(
            f"curl -s -w '\\n%{{http_code}}' -H 'Authorization: Bearer {key}'"
            f" --unix-socket /run/sealift/gateway.sock http://x{path}"
        )
        text, _, status = done.stdout.rpartition("\n")
        return int(status or 0), text

    def lacks_ledger(self) -> bool:
        return "ledger" in self.asked("/readyz")[1]

    def plug(self, *, is_in: bool) -> None:
        run("ip", "-n", NETWORK, "link", "set", self.name, "up" if is_in else "down")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgresServer]:
    """A server that takes passwords by SCRAM over TLS only, in a network that a bridge makes."""
    require_debian()
    authority = Authority.make()
    with contextlib.ExitStack() as stack:
        run("ip", "netns", "add", NETWORK)
        stack.callback(run, "ip", "netns", "delete", NETWORK)
        for words in (
            ("link", "set", "lo", "up"),
            ("link", "add", "bridge0", "type", "bridge"),
            ("address", "add", f"{SERVER}/24", "dev", "bridge0"),
            ("link", "set", "bridge0", "up"),
        ):
            run("ip", "-n", NETWORK, *words)
        made = stack.enter_context(postgres_server())
        made.network = NETWORK
        issued, rule = authority.issue(NAME, made.folder), "hostssl all all 10.78.0.0/24"
        made.serve_over_tls(*issued, address=SERVER, rule=rule, password=SECRET)
        (tmp_path / AUTHORITY).write_bytes(authority.pem())
        yield made


def wire(machine: Machine, name: str) -> None:
    """Plug a cable into a box that just booted, with the address that goes by this name."""
    cable = ("link", "add", name, "netns", NETWORK, "type", "veth", "peer", "cable0", "netns", str(machine.leader))
    run("ip", *cable)
    run("ip", "-n", NETWORK, "link", "set", name, "master", "bridge0", "up")
    machine.run("ip", "address", "add", f"{ADDRESSES[name]}/24", "dev", "cable0", shown=False)
    machine.run("ip", "link", "set", "cable0", "up", shown=False)


def lay(root: Path, *, site: str, authority: Path, keys: Path) -> None:
    """Lay down an installation whose records are on the server; the second node takes the first one's keys."""
    lay_down(root, site, has_keys=not keys.exists())
    lay_drop_ins(root, site)
    lay_program(root, "gunicorn", "from gunicorn.app.wsgiapp import run\nrun()\n")
    own = root / "etc/sealift/keys"
    shutil.copytree(own, keys) if not keys.exists() else shutil.copytree(keys, own)
    folder = root / SECRETS
    folder.mkdir(mode=0o700)
    shutil.copy(authority, folder)
    for role in ROLES:
        (folder / f"database-{role}").write_text(f"{SECRET}\n")
        (folder / f"database-{role}").chmod(0o400)


@contextlib.contextmanager
def nodes_booted(
    prefix: str, lay_node: Callable[..., None], site: Callable[[str], str], folder: Path
) -> Iterator[dict[str, Node]]:
    """Boot a node for each address, wired.

    Args:
        prefix: Of the machines' names.
        lay_node: Lays an installation down, as `lay` does.
        site: Returns the site file of the node of a name.
        folder: Where `server` put the authority, and where the first node's keys are kept for the others.
    """
    with contextlib.ExitStack() as stack:
        made: dict[str, Node] = {}
        for name in ADDRESSES:
            laid = partial(lay_node, site=site(name), authority=folder / AUTHORITY, keys=folder / "keys")
            machine = stack.enter_context(booted(f"{prefix}{name}", laid))
            wire(machine, name)
            made[name] = Node(name=name, machine=machine)
        yield made


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 150) -> float:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, what
        time.sleep(0.3)
    return time.monotonic() - began
