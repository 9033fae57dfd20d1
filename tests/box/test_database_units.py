"""Ledger and gateway under systemd with their records on a PostgreSQL server, over TLS; and a second node that waits.

As in test_token_units, the boxes are a bare Debian 12 with this machine's /usr, and the units are as they are, with the
drop-ins that the install writes: one allowed destination, the authority and one role's password as credentials. The
server runs in a network of its own; both nodes have the same site file and the same keys.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from appliance.install.dropins import ROLES as UNITS
from appliance.postgres.connecting import AUTHORITY, ROLES
from tests.box.checkout import SEALIFT, booted, journal, lay_down, lay_drop_ins, lay_program, require_debian
from tests.box.machine import Machine
from tests.box.test_two_boxes import run
from tests.interop.test_postgresql_tls import NAME, SECRET, Authority
from tests.support.postgres import PostgresServer, postgres_server

pytestmark = [pytest.mark.box, pytest.mark.timeout(1140)]

NETWORK = "sldb"
SERVER = "10.78.0.1"
ADDRESSES = {"one": "10.78.0.2", "two": "10.78.0.3"}
SECRETS = "etc/sealift/database"


@dataclass(slots=True, kw_only=True)
class Node:
    """A booted node; `cut` and `mend` are its cable."""

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


@pytest.fixture
def nodes(server: PostgresServer, tmp_path: Path) -> Iterator[dict[str, Node]]:
    site = (
        f'format = 1\nsite = "demo"\n[database]\nkind = "postgresql"\nserver = "{NAME}"\n'
        f'address = "{SERVER}"\nport = {server.port}\nname = "{server.database()}"\n'
    )
    keys = tmp_path / "keys"
    with contextlib.ExitStack() as stack:
        made: dict[str, Node] = {}
        for name, address in ADDRESSES.items():
            lay_node = partial(lay, site=site, authority=tmp_path / AUTHORITY, keys=keys)
            machine = stack.enter_context(booted(f"sldb{name}", lay_node))
            run(
                "ip",
                "link",
                "add",
                name,
                "netns",
                NETWORK,
                "type",
                "veth",
                "peer",
                "cable0",
                "netns",
                str(machine.leader),
            )
            run("ip", "-n", NETWORK, "link", "set", name, "master", "bridge0", "up")
            machine.run("ip", "address", "add", f"{address}/24", "dev", "cable0", shown=False)
            machine.run("ip", "link", "set", "cable0", "up", shown=False)
            made[name] = Node(name=name, machine=machine)
        yield made


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


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 150) -> float:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, what
        time.sleep(0.3)
    return time.monotonic() - began


def test_units_reach_the_server_over_tls_and_a_second_node_takes_over_when_the_first_is_cut_off(
    nodes: dict[str, Node], server: PostgresServer
) -> None:
    one, two = nodes["one"], nodes["two"]
    assert one.sealift("db migrate up")["changes"]
    for node in nodes.values():  # a person migrates; no service has the owner's password
        (node.machine.root / SECRETS / "database-owner").unlink()

    one.begin()
    wait_until(lambda: one.state() == "running", journal(one.machine, "sealift-ledger"))
    key = str(one.sealift("keys create --department radiology --owner box")["key"])
    assert one.asked("/v1/models", key)[0] == 200
    shown = server.admin(
        "SELECT usename, ssl, version, host(client_addr) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
        " WHERE usename LIKE 'sealift%'"
    )
    assert shown
    assert all(row[1] and row[2] == "TLSv1.3" and row[3] == ADDRESSES["one"] for row in shown), shown
    secrets_are_where_they_belong(one)
    units_may_reach_one_address(one)

    two.begin()
    wait_until(two.lacks_ledger, "the second node does not say what it lacks")
    told = two.sealift("status")["ledger"]
    assert isinstance(told, dict)
    assert told["waits"], told
    assert one.state() == "running"

    one.plug(is_in=False)
    took = wait_until(lambda: two.state() == "running", journal(two.machine, "sealift-ledger"))
    wait_until(lambda: not two.lacks_ledger(), "the second node's gateway does not see its ledger")
    assert two.asked("/v1/models", key)[0] == 200
    assert took < 100
    wait_until(one.lacks_ledger, "the first node still believes that it records")

    one.plug(is_in=True)
    two.sealift("keys create --department surgery --owner box")
    assert one.lacks_ledger()
    two.machine.cut_power()
    wait_until(lambda: not one.lacks_ledger(), journal(one.machine, "sealift-ledger"))
    assert len(one.sealift("keys list")["keys"]) == 2  # type: ignore[arg-type]
    assert one.sealift("audit verify")


def secrets_are_where_they_belong(node: Node) -> None:
    """Each unit holds its own role's password, as a credential; nobody's environment, argument or journal has one."""
    seen = node.machine.shell(
        "journalctl --no-pager -o cat; systemctl show sealift-ledger sealift-gateway;"
        " for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; tr '\\0' ' ' <$p/environ; done 2>/dev/null"
    ).stdout
    assert len(seen) > 10_000
    assert SECRET not in seen
    held = set(node.machine.shell("ls /run/credentials/*/database-*").stdout.split())
    assert held == {
        f"/run/credentials/{unit}/database-{UNITS[unit]}"
        for unit in ("sealift-ledger.service", "sealift-gateway.service")
    }


def units_may_reach_one_address(node: Node) -> None:
    """What systemd says each unit may reach: the server alone. A kernel without cgroup v2 does not enforce it here."""
    for unit in ("sealift-ledger.service", "sealift-gateway.service"):
        lines = node.machine.shell(f"systemctl show -p IPAddressAllow -p IPAddressDeny {unit}").stdout.splitlines()
        # systemd keeps addresses as a set, and says them in another order each time.
        shown = {name: set(value.split()) for name, _, value in (line.partition("=") for line in lines)}
        assert shown == {"IPAddressAllow": {f"{SERVER}/32"}, "IPAddressDeny": {"0.0.0.0/0", "::/0"}}, (unit, shown)
