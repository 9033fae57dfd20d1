"""The unit that tests the network, as it is: by a user of its own it reads rules, asks systemd, sees a listener."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import config as configuration
from tests.box.checkout import SEALIFT, booted, journal, lay_down, start
from tests.box.machine import Machine
from tests.support.packetfilter import rules

pytestmark = pytest.mark.box

SITE = 'format = 1\nsite = "demo"\n[network]\naddresses = ["10.0.0.7"]\n'
LISTENER = "systemd-run --quiet --unit=probe-listener --socket-property=ListenStream=0.0.0.0:8099 true"


@pytest.fixture(scope="module")
def box() -> Iterator[Machine]:
    with booted("slnet", lay) as machine:
        yield machine


def lay(root: Path) -> None:
    """Lay down an installation with rules, and the file without which nothing is tested."""
    lay_down(root, SITE)
    folder = root / "etc/systemd/system/nginx.service.d"
    folder.mkdir(parents=True)
    (folder / "packet-filter.conf").touch()
    (root / "etc/nftables.conf").write_text(rules(configuration.parse(SITE.encode())))


def checks(box: Machine) -> dict[str, bool | None]:
    """Let the unit run, and return what held."""
    box.shell("systemctl start sealift-network.service")
    told = json.loads(box.shell(f"{SEALIFT} network show").stdout)["tested"]
    return {one["name"]: one["holds"] for one in told["checks"]}


def test_the_self_test_sees_by_a_user_of_its_own_what_is_shut_and_what_is_not(box: Machine) -> None:
    start(box, "sealift-ledger.service")
    box.run("nft", "-f", "/etc/nftables.conf", shown=False)
    for words in ("link add d0 type veth peer name d1", "address add 10.0.0.7/24 dev d0", "link set d0 up"):
        box.run("ip", *words.split(), shown=False)

    shut = checks(box)

    assert not [name for name, holds in shut.items() if holds is False], journal(box, "sealift-network")
    for name in ("packet filter", "destinations", "listeners", "units"):
        assert shut[name] is True
    assert box.shell("stat -c %U /run/sealift/network/network.json").stdout.strip() == "sealift-network"

    assert box.shell(LISTENER).returncode == 0
    assert [name for name, holds in checks(box).items() if holds is False] == ["listeners"]
    records = json.loads(box.shell(f"{SEALIFT} audit list --kind network.tested --oldest").stdout)["leaves"]
    assert [one["body"]["ok"] for one in records] == [True, False]
