"""The network's self-test, the packet filter's answers and the listeners that nobody named, without a network."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import listening, netprobes, nettest
from appliance.actions.listening import Listener
from appliance.actions.netprobes import Check
from appliance.actions.nettest import SelfTest
from appliance.actions.observed import observed
from appliance.actions.packetfilter import HOOKS, PacketFilter, loaded
from appliance.audit.memory import MemoryLedger
from appliance.config import Config, MonitoringSection, NetworkSection, PlacesSection, StandbySection
from appliance.errors import LedgerUnavailableError, NetworkOpenError, UnitError
from media.clock import FixedClock
from tests.support.clocks import TODAY

CLOCK = FixedClock(TODAY, 1000.0)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        site="s",
        environment="demo",
        places=PlacesSection(root=str(tmp_path)),
        network=NetworkSection(
            addresses=["10.0.2.5", "fd00::5"],
            clients=["10.0.2.0/24"],
            management=["10.0.3.7/32"],
            egress=["udp 10.0.9.9 514"],
        ),
    )


CALLERS = ("tcp 10.0.2.0/24 443", "tcp 10.0.3.7 22", "tcp 10.0.3.7 8443")


def filtered(
    *,
    dropping: Sequence[str] = HOOKS,
    let_in: Sequence[str] = CALLERS,
    let_out: Sequence[str] = ("udp 10.0.9.9 514",),
    passed_on: Sequence[str] = (),
) -> PacketFilter:
    return PacketFilter(
        dropping=frozenset(dropping),
        let_in=frozenset(let_in),
        let_out=frozenset(let_out),
        passed_on=frozenset(passed_on),
        counters={"egress_refused": 3, "egress_tested": 4},
    )


def read(hook: str, *expressions: dict[str, Any]) -> PacketFilter:
    """Return what is read where nft lists one chain with one rule."""
    chain = {"chain": {"name": hook, "hook": hook, "policy": "drop"}}
    rows = [chain, {"chain": {"name": "other"}}, {"rule": {"chain": hook, "expr": [*expressions, {"accept": None}]}}]
    return PacketFilter.from_json(json.dumps({"nftables": rows}).encode())


def match(kind: str, of: str, right: Any, *, op: str = "==") -> dict[str, Any]:
    left = {kind: {"key": of}} if kind in {"meta", "ct"} else {"payload": {"protocol": kind, "field": of}}
    return {"match": {"op": op, "left": left, "right": right}}


def result_of(*checks: Check) -> SelfTest:
    return SelfTest(at="2027-03-04T08:00:00Z", ticks=900, checks=checks, counters={"egress_refused": 3})


def holds(found: SelfTest) -> dict[str, bool | None]:
    return {one.name: one.holds for one in found.checks}


def test_a_filter_as_the_site_says_holds(config: Config) -> None:
    found = holds(nettest.run(config, clock=CLOCK, ask=filtered, nobody=(), looks=()))

    assert found["packet filter"] is found["destinations"] is found["callers"] is True
    assert found["works on loopback, ipv4"] is True


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"dropping": ("input", "forward")}, "packet filter"),
        ({"dropping": ("forward", "output")}, "packet filter"),
        ({"let_out": ()}, "destinations"),
        ({"let_out": ("udp 10.0.9.9 514", "tcp 203.0.113.7 443")}, "destinations"),
        ({"let_out": ("udp 10.0.9.9 514", "anything anywhere 0")}, "destinations"),
        ({"let_in": (*CALLERS, "tcp 10.0.2.0/24 22")}, "callers"),
        ({"let_in": CALLERS[:1]}, "callers"),
        ({"passed_on": ("tcp 10.0.9.9 514",)}, "packet filter"),
    ],
)
def test_a_filter_that_was_changed_is_seen(config: Config, changes: dict[str, Any], name: str) -> None:
    found = nettest.run(config, clock=CLOCK, ask=lambda: filtered(**changes), nobody=(), looks=())

    assert name in {one.name for one in found.failed}
    with pytest.raises(NetworkOpenError, match="not as the site file says"):
        nettest.require_shut(found)


@pytest.mark.parametrize(
    "expression",
    [
        match("meta", "skuid", 0),
        match("meta", "oifname", "eth0"),
        match("ct", "state", [2, 8], op="in"),
        match("ip", "daddr", "10.0.9.9"),
        match("udp", "dport", 514),
        match("icmpv6", "type", 128),
        {"vmap": {"key": {}, "data": {}}},
        {"jump": {"target": "other"}},
    ],
)
def test_whatever_names_no_address_and_port_lets_out_anything(expression: dict[str, Any]) -> None:
    assert read("output", expression).let_out == {"anything anywhere 0"}


def test_all_but_a_named_address_is_not_that_address() -> None:
    port = match("udp", "dport", 514)

    assert read("output", match("ip", "daddr", "10.0.9.9"), port).let_out == {"udp 10.0.9.9 514"}
    assert read("output", match("ip", "daddr", "10.0.9.9", op="!="), port).let_out == {"anything anywhere 0"}


@pytest.mark.parametrize("hook", ["input", "output"])
@pytest.mark.parametrize(
    "expression",
    [match("ct", "state", [2, 4], op="in"), match("icmpv6", "type", {"set": [135, 136]}), match("meta", "IF", "lo")],
)
def test_what_carries_no_new_connection_is_let_through_by_nobodys_name(hook: str, expression: dict[str, Any]) -> None:
    found = read(hook, json.loads(json.dumps(expression).replace("IF", "iif" if hook == "input" else "oif")))

    assert found.let_in | found.let_out == frozenset()


def test_who_may_come_in_is_read_by_network_and_port() -> None:
    network = match("ip", "saddr", {"prefix": {"addr": "10.0.3.0", "len": 24}})

    assert read("input", network, match("tcp", "dport", {"set": [22, 8443]})).let_in == {
        "tcp 10.0.3.0/24 22",
        "tcp 10.0.3.0/24 8443",
    }
    assert read("input", network, match("tcp", "dport", {"range": [1, 65535]})).let_in == {"tcp 10.0.3.0/24 1-65535"}
    assert read("input", match("tcp", "dport", 22)).let_in == {"anything anywhere 0"}
    assert read("forward", match("ip", "daddr", "10.0.9.9")).passed_on == {"anything anywhere 0"}


def test_a_filter_that_is_not_loaded_is_a_failure_and_not_silence(config: Config) -> None:
    def absent() -> PacketFilter:
        raise UnitError(what="the packet filter cannot be asked", why="absent")

    assert "packet filter" in {
        one.name for one in nettest.run(config, clock=CLOCK, ask=absent, nobody=(), looks=()).failed
    }
    for answer in (b"", b"{}", b'{"nftables": [{"counter": {}}]}', b"[]"):
        with pytest.raises(UnitError):
            loaded(lambda _, answer=answer: answer)  # type: ignore[misc]


def test_a_self_test_is_published_and_recorded_once_and_when_it_changes(config: Config) -> None:
    ledger, good = MemoryLedger(CLOCK), result_of(Check(name="packet filter", holds=True, text="x"))
    bad = result_of(Check(name="packet filter", holds=False, text="open: output"))

    assert [nettest.record(config, ledger, one) for one in (good, good, bad, bad, good)] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert nettest.published(config.at) == good
    assert [leaf.body["ok"] for leaf in ledger.find(kind="network.tested", newest_first=False)] == [True, False, True]
    assert ledger.find(kind="network.tested")[1].body["fails"] == ["packet filter"]


def test_what_could_not_be_recorded_is_tried_again(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, good = MemoryLedger(CLOCK), result_of(Check(name="packet filter", holds=True, text="x"))

    def refuse(*_: object, **__: object) -> None:
        raise LedgerUnavailableError(what="no ledger")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "append", refuse)
        with pytest.raises(LedgerUnavailableError):
            nettest.record(config, ledger, good)

    assert nettest.published(config.at) is None
    assert nettest.record(config, ledger, good)


def test_counters_and_failures_are_metrics(config: Config) -> None:
    for name in ("store", "spool", "trust"):
        (config.at.state / name).mkdir(parents=True)
    nettest.record(config, MemoryLedger(CLOCK), result_of(Check(name="listeners", holds=False, text="x")))

    found = {
        (one.name, *one.labels.values()): one.value
        for one in observed(config, ledger=MemoryLedger(CLOCK), supervisor=None, clock=CLOCK)
    }

    assert found["sealift_network_test_failed",] == 1
    assert found["sealift_network_test_age_seconds",] == 100
    assert found["sealift_network_packets_total", "egress_refused"] == 3


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format":1}', b"\xff"])
def test_a_file_that_is_no_result_is_none(config: Config, content: bytes) -> None:
    config.at.network_now.mkdir(parents=True)
    (config.at.network_now / nettest.FILE).write_bytes(content)

    assert nettest.published(config.at) is None


TABLE = """  sl  local_address rem_address   st
   0: 0100007F:1F91 00000000:0000 0A 0 0
   1: 00000000:01BB 00000000:0000 0A 0 0
   2: 0502000A:0016 00000000:0000 0A 0 0
   3: 0602000A:01BB 00000000:0000 0A 0 0
   4: 00000000:1538 00000000:0000 0A 0 0
   5: 00000000:1539 0A0A0A0A:0050 01 0 0
"""
TABLE6 = """  sl  local_address rem_address   st
   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0 0
   1: 00000000000000000000000000000000:20FB 00000000000000000000000000000000:0000 0A 0 0
   2: 000000FD000000000000000005000000:01BB 00000000000000000000000000000000:0000 0A 0 0
   3: 000000FD000000000000000006000000:01BB 00000000000000000000000000000000:0000 0A 0 0
"""
UDP = """  sl  local_address rem_address   st
   0: 00000000:0044 00000000:0000 07 0 0
   1: 00000000:14E9 00000000:0000 07 0 0
"""


@pytest.fixture
def tables(tmp_path: Path) -> list[tuple[str, Path]]:
    found = []
    for name, protocol, text in (("tcp", "tcp", TABLE), ("tcp6", "tcp", TABLE6), ("udp", "udp", UDP)):
        (tmp_path / name).write_text(text)
        found.append((protocol, tmp_path / name))
    return [*found, ("udp", tmp_path / "absent")]


def test_only_listeners_that_the_site_names_are_in_place(config: Config, tables: list[tuple[str, Path]]) -> None:
    assert [str(one) for one in listening.misplaced(config, listening.listeners(tables))] == [
        "tcp 0.0.0.0:5432",
        "tcp 10.0.2.6:443",
        "tcp [fd00::6]:443",
        "udp 0.0.0.0:5353",
    ]


def test_where_no_address_is_named_the_ports_count_alone(tables: list[tuple[str, Path]]) -> None:
    found = listening.misplaced(Config(site="s"), listening.listeners(tables))

    assert [str(one) for one in found] == ["tcp 0.0.0.0:5432", "udp 0.0.0.0:5353"]


def test_metrics_are_open_only_where_monitoring_is_on() -> None:
    listener = [Listener(protocol="tcp", address="0.0.0.0", port=9090)]  # noqa: S104

    assert listening.misplaced(Config(site="s"), listener)
    assert not listening.misplaced(Config(site="s", monitoring=MonitoringSection(enabled=True)), listener)


def units(**properties: str) -> bytes:
    return "\n".join(f"{key}={value}" for key, value in properties.items()).encode()


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        ({"PrivateNetwork": "yes"}, True),
        ({"PrivateNetwork": "no", "IPAddressDeny": "::/0 0.0.0.0/0", "IPAddressAllow": "127.0.0.0/8 ::1/128"}, True),
        ({"PrivateNetwork": "no", "IPAddressDeny": "::/0 0.0.0.0/0", "IPAddressAllow": "10.0.9.9/32"}, True),
        ({"PrivateNetwork": "no", "IPAddressDeny": "::/0 0.0.0.0/0", "IPAddressAllow": "10.0.9.10/32"}, False),
        ({"PrivateNetwork": "no", "IPAddressDeny": "::/0 0.0.0.0/0", "IPAddressAllow": "10.0.9.0/24"}, False),
        ({"PrivateNetwork": "no", "IPAddressDeny": "0.0.0.0/0", "IPAddressAllow": ""}, False),
        ({"PrivateNetwork": "no", "IPAddressDeny": "", "IPAddressAllow": ""}, False),
    ],
)
def test_a_unit_may_speak_to_named_addresses_only(config: Config, shown: dict[str, str], *, found: bool) -> None:
    def ask(words: Sequence[str]) -> bytes:
        if "list-units" in words:
            return b"sealift-alerts.service loaded active running x\nssh.service loaded active running x\n"
        assert words[-1] == "sealift-alerts.service"
        return units(Id="sealift-alerts.service", **shown)

    (check,) = netprobes.units_shut(config, ask)

    assert check.holds is found


@pytest.mark.parametrize(("boxes", "holds"), [(["10.0.9.10"], True), ([], False)])
def test_a_witness_may_answer_the_boxes_that_its_site_file_names(
    config: Config, boxes: list[str], *, holds: bool
) -> None:
    def ask(words: Sequence[str]) -> bytes:
        if "list-units" in words:
            return b"sealift-standby.service loaded active running x\n"
        return units(Id="sealift-standby.service", IPAddressDeny="::/0 0.0.0.0/0", IPAddressAllow="10.0.9.10/32")

    witness = config.model_copy(update={"standby": StandbySection(listen="10.0.9.3", boxes=boxes)})
    (check,) = netprobes.units_shut(witness, ask)

    assert check.holds is holds


def test_without_systemd_nothing_is_said_of_units(config: Config) -> None:
    def absent(_: Sequence[str]) -> bytes:
        raise FileNotFoundError

    assert [one.holds for one in netprobes.units_shut(config, absent)] == [None]


def test_results_read_back_as_they_were_written() -> None:
    found = result_of(Check(name="a", holds=None, text="b"))

    assert json.loads(json.dumps(found.to_json()))["checks"] == [{"name": "a", "holds": None, "text": "b"}]


def test_the_lease_of_two_boxes_listens_where_the_site_file_says_and_nowhere_else() -> None:
    config = Config.model_validate({"site": "s", "standby": {"listen": "10.0.0.7"}})
    port = config.standby.port
    found = [Listener(protocol="tcp", address=address, port=port) for address in ("10.0.0.7", "10.0.0.8", "0.0.0.0")]  # noqa: S104 - looked at, not opened

    assert not listening.misplaced(config, found[:1])
    assert listening.misplaced(config, found) == sorted(found[1:])
    assert listening.misplaced(Config(site="s"), found) == sorted(found)
