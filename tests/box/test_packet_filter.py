"""The site's packet filter in a real kernel: what it lets in and out, what it refuses and counts, and its self-test."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.config import Config
from tests.box.filtered import Call, Space, cable
from tests.support.packetfilter import rules

pytestmark = [
    pytest.mark.box,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("nft") is None or shutil.which("ip") is None, reason="needs root, nft and ip"
    ),
]
SITE = Config.model_validate(
    {
        "site": "north",
        "network": {
            "addresses": ["10.99.2.5", "fd99:2::5"],
            "clients": ["10.99.2.0/24", "fd99:2::/64"],
            "management": ["10.99.1.0/24", "fd99:1::/64"],
            "egress": ["tcp 10.99.9.9 514", "udp fd99:9::9 514"],
        },
        "time": {"servers": ["10.99.9.1"]},
        "monitoring": {"enabled": True, "networks": ["10.99.3.0/24"]},
    }
)
PORTS = (22, 443, 5432, 8443, 9090)
OPEN: list[Call] = [
    ("tcp", "10.99.2.1", "10.99.2.5", 443),
    ("tcp", "fd99:2::1", "fd99:2::5", 443),
    ("tcp", "10.99.1.1", "10.99.2.5", 22),
    ("tcp", "10.99.1.1", "10.99.2.5", 8443),
    ("tcp", "fd99:1::1", "fd99:2::5", 8443),
    ("tcp", "10.99.3.1", "10.99.2.5", 9090),
]
SHUT: list[Call] = [
    *[("tcp", "10.99.2.1", "10.99.2.5", port) for port in (22, 5432, 8443, 9090)],
    *[("tcp", "10.99.1.1", "10.99.2.5", port) for port in (443, 5432, 9090)],
    *[("tcp", "10.99.3.1", "10.99.2.5", port) for port in (22, 443, 8443)],
    *[("tcp", "198.51.100.1", "10.99.2.5", port) for port in PORTS],
    *[("tcp", "2001:db8:99::1", "fd99:2::5", port) for port in PORTS],
    *[("tcp", "fd99:2::1", "fd99:2::5", port) for port in (22, 5432, 8443, 9090)],
    # Addresses of this machine that the site file does not name (A51).
    ("tcp", "10.99.2.1", "10.99.2.6", 443),
    ("tcp", "10.99.1.1", "10.99.2.6", 22),
    ("tcp", "fd99:2::1", "fd99:2::6", 443),
]
NAMED: list[Call] = [
    ("tcp", "", "10.99.9.9", 514),
    ("udp", "", "fd99:9::9", 514),
    ("udp", "", "10.99.9.1", 123),
]
OTHERS: list[Call] = [
    ("tcp", "", "10.99.9.9", 515),
    ("udp", "", "10.99.9.9", 514),
    ("tcp", "", "10.99.9.8", 514),
    ("udp", "", "fd99:9::8", 514),
    ("tcp", "", "fd99:9::9", 514),
    ("tcp", "", "10.99.2.1", 443),
    ("udp", "", "10.99.2.1", 53),
]
_SELF_TEST = """
import json, sys
from appliance.actions import netprobes, nettest
from appliance.config import Config
from media.clock import SystemClock
config = Config.model_validate(json.loads(sys.argv[1]))
found = nettest.run(config, clock=SystemClock(), looks=[netprobes.listeners_in_place])
print(json.dumps({one.name: one.holds for one in found.checks}))
"""


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Space, Space]]:
    with cable() as (box, facility):
        yield box, facility


@pytest.fixture
def box(both: tuple[Space, Space]) -> Space:
    both[0].run("nft", "-f", "-", feed=rules(SITE))
    return both[0]


@pytest.fixture
def facility(both: tuple[Space, Space]) -> Space:
    return both[1]


@pytest.mark.parametrize("addresses", [[], ["10.99.2.5"], ["fd99:2::5"], ["10.99.2.5", "fd99:2::5"]])
def test_nft_accepts_the_rules_of_every_kind_of_site(
    both: tuple[Space, Space], tmp_path: Path, addresses: list[str]
) -> None:
    bare = {"site": "s", "network": {"addresses": addresses, "clients": [], "management": []}}
    for number, data in enumerate((bare, {"site": "s", "network": {"addresses": addresses}})):
        file = tmp_path / f"{number}.nft"
        file.write_text(rules(Config.model_validate(data)))
        both[0].run("nft", "--check", "--file", file)


def test_who_is_named_comes_in_and_nobody_else(box: Space, facility: Space) -> None:
    places = [(address, port) for address in ("0.0.0.0", "fd99:2::5", "fd99:2::6") for port in PORTS]  # noqa: S104
    with box.answering(tcp=places):
        answered = facility.calls(OPEN, patience=30) | facility.calls(SHUT, patience=1.5)

    assert [one for one in OPEN if not answered[one]] == []
    assert [one for one in SHUT if answered[one]] == []
    counted = box.counters()
    assert (counted["api_accepted"], counted["management_accepted"], counted["metrics_accepted"]) == (2, 3, 1)
    assert counted["input_refused"] >= len(SHUT)
    assert counted["egress_refused"] == 0, "answers are no attempts"


def test_named_destinations_are_reached_and_no_others(box: Space, facility: Space) -> None:
    tcp = [("10.99.9.9", 514), ("10.99.9.9", 515), ("10.99.9.8", 514), ("fd99:9::9", 514), ("10.99.2.1", 443)]
    udp = [("fd99:9::9", 514), ("10.99.9.1", 123), ("10.99.9.9", 514), ("fd99:9::8", 514), ("10.99.2.1", 53)]
    with facility.answering(tcp=tcp, udp=udp):
        answered = box.calls(NAMED, patience=30) | box.calls(OTHERS, patience=1.5)

    assert [one for one in NAMED if not answered[one]] == []
    assert [one for one in OTHERS if answered[one]] == []
    counted = box.counters()
    assert counted["egress_accepted"] == len(NAMED)
    assert counted["egress_refused"] >= len(OTHERS)


def test_without_the_rules_all_of_it_is_reached(both: tuple[Space, Space]) -> None:
    box, facility = both
    box.run("nft", "flush", "ruleset")
    inside = [(address, port) for address in ("0.0.0.0", "fd99:2::5", "fd99:2::6") for port in PORTS]  # noqa: S104
    outside = {kind: sorted({(one[2], one[3]) for one in NAMED + OTHERS if one[0] == kind}) for kind in ("tcp", "udp")}
    with box.answering(tcp=inside), facility.answering(tcp=outside["tcp"], udp=outside["udp"]):
        answered = facility.calls(OPEN + SHUT, patience=30) | box.calls(NAMED + OTHERS, patience=30)

    assert [one for one in answered if not answered[one]] == []


def self_test(box: Space) -> dict[str, bool | None]:
    found = json.loads(box.python(_SELF_TEST, SITE.model_dump_json()))
    assert isinstance(found, dict)
    return found


def test_the_self_test_holds_behind_the_rules_and_counts_apart(box: Space) -> None:
    assert set(self_test(box).values()) == {True}
    counted = box.counters()
    assert counted["egress_tested"] >= 2
    assert counted["egress_refused"] == 0


def test_without_a_gateway_each_cable_is_tried(both: tuple[Space, Space], box: Space) -> None:
    ways: tuple[tuple[str, ...], ...] = (("ip", "route"), ("ip", "-6", "route"))
    gateways = ("10.99.2.1", "fd99:2::1")
    for way in ways:
        box.run(*way, "delete", "default")
    try:
        assert set(self_test(box).values()) == {True}
        box.run("nft", "insert", "rule", "inet", "sealift", "output", "accept")
        let_out = self_test(box)
    finally:
        for way, gateway in zip(ways, gateways, strict=True):
            box.run(*way, "add", "default", "via", gateway)

    assert let_out["refused to leave, ipv4"] is let_out["refused to leave, ipv6"] is False


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        (("flush", "ruleset"), {"packet filter"}),
        (
            ("flush", "chain", "inet", "sealift", "output"),
            {"destinations", "counted", "works on loopback, ipv4", "works on loopback, ipv6"},
        ),
        (
            ("insert", "rule", "inet", "sealift", "output", "accept"),
            {"destinations", "refused to leave, ipv4", "refused to leave, ipv6", "counted"},
        ),
        (("add", "chain", "inet", "sealift", "input", "{ policy accept; }"), {"packet filter"}),
        (
            (
                "insert",
                "rule",
                "inet",
                "sealift",
                "output",
                "ip",
                "daddr",
                "10.99.9.8",
                "tcp",
                "dport",
                "514",
                "accept",
            ),
            {"destinations"},
        ),
        (("insert", "rule", "inet", "sealift", "output", "meta", "skuid", "0", "accept"), {"destinations"}),
        (("insert", "rule", "inet", "sealift", "input", "tcp", "dport", "22", "accept"), {"callers"}),
        (("insert", "rule", "inet", "sealift", "forward", "accept"), {"packet filter"}),
    ],
    ids=[
        *("no rules", "rules of output gone", "all let out", "all let in", "one more let out"),
        *("root let out", "one more let in", "all passed on"),
    ],
)
def test_a_filter_that_was_changed_fails_its_self_test(box: Space, change: tuple[str, ...], fails: set[str]) -> None:
    box.run("nft", *change)

    found = self_test(box)

    assert fails <= {name for name, holds in found.items() if holds is False}


def test_a_listener_on_an_address_that_nobody_named_fails_the_self_test(box: Space) -> None:
    with box.answering(tcp=[("10.99.2.6", 443)]):
        assert self_test(box)["listeners"] is False
    with box.answering(tcp=[("10.99.2.5", 443)]):
        assert self_test(box)["listeners"] is True
    with box.answering(tcp=[("10.99.2.5", 5432)]):
        assert self_test(box)["listeners"] is False
