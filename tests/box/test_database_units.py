"""Ledger and gateway under systemd with their records on a PostgreSQL server, over TLS; and a second node that waits.

Boxes, server and cables are those of `tests.box.wired`; both nodes have the same site file and the same keys.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.install.dropins import ROLES as UNITS
from tests.box.checkout import journal
from tests.box.wired import ADDRESSES, SECRETS, SERVER, Node, lay, nodes_booted, server, wait_until
from tests.interop.test_postgresql_tls import NAME, SECRET
from tests.support.postgres import PostgresServer

__all__ = ["server"]  # a fixture
pytestmark = [pytest.mark.box, pytest.mark.timeout(1140)]


@pytest.fixture
def nodes(server: PostgresServer, tmp_path: Path) -> Iterator[dict[str, Node]]:
    site = (
        f'format = 1\nsite = "demo"\n[database]\nkind = "postgresql"\nserver = "{NAME}"\n'
        f'address = "{SERVER}"\nport = {server.port}\nname = "{server.database()}"\n'
    )
    with nodes_booted("sldb", lay, lambda _: site, tmp_path) as made:
        yield made


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
