"""A box that serves gets the page's sockets by an upgrade as the install does it: units copied, the target restarted.

As in test_token_units, the box is a bare Debian 12 with this machine's /usr. systemd refuses to start a socket whose
service runs already; what is tested is that the restart stops the gateways before it starts their new sockets.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box.checkout import CHECKOUT, booted, journal, lay_down, lay_program, start
from tests.box.machine import Machine

pytestmark = [pytest.mark.box, pytest.mark.timeout(840)]

UNITS = "etc/systemd/system"
GATEWAYS = ("sealift-gateway", "sealift-gateway-test")


@pytest.fixture
def box() -> Iterator[Machine]:
    with booted("sldoor", lay) as machine:
        yield machine


def lay(root: Path) -> None:
    """Lay down a release whose gateways have no sockets for the page."""
    lay_down(root, 'format = 1\nsite = "demo"\n')
    lay_program(root, "gunicorn", "from gunicorn.app.wsgiapp import run\nrun()\n")
    for gateway in GATEWAYS:
        (root / UNITS / f"{gateway}-admin.socket").unlink()
        service = root / UNITS / f"{gateway}.service"
        service.write_text(service.read_text().replace(f" {gateway}-admin.socket", ""))
    target = root / UNITS / "sealift.target"
    lines = target.read_text().splitlines(keepends=True)
    few = "Wants=sealift-ledger.service sealift-gateway.service sealift-gateway-test.service\n"
    target.write_text("[Unit]\n" + few + "".join(one for one in lines[-3:]))


def test_an_upgrade_of_a_box_that_serves_ends_with_the_pages_sockets_listening(box: Machine) -> None:
    start(box, "sealift.target")
    assert [lives(box, one) for one in GATEWAYS] == ["200", "200"], journal(box, "sealift-gateway")
    assert [lives(box, f"{one}-admin") for one in GATEWAYS] == ["000", "000"]

    for gateway in GATEWAYS:
        for unit in (f"{gateway}.service", f"{gateway}-admin.socket"):
            (box.root / UNITS / unit).write_text((CHECKOUT / "systemd" / unit).read_text())
    box.run("systemctl", "daemon-reload", shown=False)
    assert box.shell("systemctl start sealift-gateway-admin.socket").returncode != 0
    restarted = box.shell("systemctl restart sealift.target")

    assert restarted.returncode == 0, restarted.stderr
    every = [*GATEWAYS, *(f"{one}-admin" for one in GATEWAYS)]
    assert [lives(box, one) for one in every] == ["200"] * 4, journal(box, "sealift-gateway-admin.socket")


def lives(box: Machine, gateway: str) -> str:
    """Return the status that a gateway answers with over one of its sockets; 000 where nothing listens."""
    socket = f"/run/sealift/{gateway.removeprefix('sealift-')}.sock"
    asked = f"for i in $(seq 50); do [ -S {socket} ] && break; sleep 0.02; done; "
    return box.shell(f"{asked}curl -s -o /dev/null -w '%{{http_code}}' --unix-socket {socket} http://x/livez").stdout
