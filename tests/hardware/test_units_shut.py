"""Whom a unit may speak to, on a kernel that keeps units to it: with the lines that the install adds for a site file.

In a container nothing enforces `IPAddressAllow=`. Each unit stands as it is, but that it runs a program which tries to
connect.
"""

from collections import defaultdict
from typing import Final

import pytest

from appliance import config as configuration
from appliance.install import dropins
from tests.box.checkout import CHECKOUT
from tests.hardware import tried
from tests.hardware.computer import Computer
from tests.support.others_units import drop_in

pytestmark = pytest.mark.hardware

NAMED: Final = "192.0.2.10"
OTHER: Final = "192.0.2.66"
_PORT: Final = 5432
# One of each kind: whoever sends, whoever is asked, and whoever has its records on a server.
_UNITS: Final = (
    *("sealift-siem.service", "sealift-standby.service", "sealift-standby-sync.service"),
    *("sealift-ledger.service", "sealift-gateway.service", "sealift-admin.service", "sealift-install@.service"),
    "sealift-alerts.service",
)
_ALERTS: Final = {"mail_relay": "", "syslog": f"tcp {NAMED} {_PORT}"}
_CLOSED: Final = "sealift-jobs.service"  # nothing is named for it
_SITE: Final = f"""
format = 1
site = "demo-clinic"
environment = "demo"
profile = "cpu"
[database]
kind = "postgresql"
server = "db.h"
address = "{NAMED}"
[siem]
server = "siem.h"
address = "{NAMED}"
[standby]
peer_address = "{NAMED}"
"""
_TRIES: Final = f"""
import socket
for address in ("{NAMED}", "{OTHER}"):
    try:
        socket.create_connection((address, {_PORT}), timeout=4).close()
        print(address, "connected", flush=True)
    except OSError:  # what a unit's list drops is not answered
        print(address, "refused", flush=True)
"""
_LISTENS: Final = f"""
import socket, time
listener = socket.create_server(("0.0.0.0", {_PORT}))
time.sleep(600)
"""
_NETWORK: Final = f"""
ip link add site type dummy && ip link set site up
ip address add {NAMED}/32 dev site && ip address add {OTHER}/32 dev site
systemd-run --unit=listens python3 -I /opt/sealift/listens.py
"""


def test_a_unit_reaches_the_addresses_that_the_site_file_names_for_it_and_no_other(computer: Computer) -> None:
    more: dict[str, list[str]] = defaultdict(list)
    for each in dropins.drop_ins(configuration.parse(_SITE.encode()), CHECKOUT / "systemd"):
        more[each.unit].append(each.text)
    # This one's is written beside those of Debian's watchers.
    more["sealift-alerts.service"].append(drop_in("sealift-alerts", sealift_alerts=_ALERTS))
    for name, text in {"tries": _TRIES, "listens": _LISTENS}.items():
        computer.shell(f"cat > /opt/sealift/{name}.py <<'EOF'\n{text}\nEOF")
    program = "/usr/bin/python3 -I /opt/sealift/tries.py"
    names = {
        unit: tried.lay(computer, unit, program, added=more[unit]).replace("@", "@x") for unit in [*_UNITS, _CLOSED]
    }
    made = computer.shell(_NETWORK)
    assert made.returncode == 0, made.stdout
    computer.until(f"ss -ltn | grep :{_PORT}")

    assert tried.start(computer, *names.values()) == 0

    said = {unit: tried.said(computer, name) for unit, name in names.items()}
    for unit in _UNITS:
        assert f"{NAMED} connected" in said[unit], (unit, said[unit])
        assert f"{OTHER} refused" in said[unit], (unit, said[unit])
    assert said[_CLOSED].count(" refused") == 2, said[_CLOSED]
    assert computer.shell(program).stdout.count(" connected") == 2, "both are there"
    computer.shell("systemctl stop listens; ip link delete site")
