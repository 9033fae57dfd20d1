"""The packet filter as the kernel holds it: its counters, whether it drops what nobody named, what it lets in and out.

Asked by nft(8) in JSON (libnftables-json(5)), which takes CAP_NET_ADMIN.
"""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from appliance.errors import UnitError

HOOKS: Final = ("input", "forward", "output")
COUNTERS: Final = (
    *("api_accepted", "management_accepted", "metrics_accepted", "input_refused", "forward_refused"),
    *("egress_accepted", "egress_refused", "egress_tested"),
)
"""Every counter by its name in the rules."""
MARK: Final = 0x5EA1
"""On what the self-test sends, so that it is counted apart, after every rule that would have let it out."""
_NFT: Final = ("nft", "--json", "--numeric", "list", "table", "inet", "sealift")
_SECONDS: Final = 10
ANYTHING: Final = "anything anywhere 0"
"""What stands for a rule that lets through what has no address or no port, or of which that cannot be told."""
_ELSEWHERE: Final = frozenset({"vmap", "jump", "goto", "map"})
_HARMLESS: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("meta", "iif"): frozenset({"lo"}),
    ("meta", "oif"): frozenset({"lo"}),
    ("ct", "state"): frozenset({"2", "4", "established", "related"}),
    # How neighbours find each other, and echo requests, which input answers; as numbers, which nft is asked for.
    ("icmpv6", "type"): frozenset({"134", "135", "136", "128"}),
    ("icmp", "type"): frozenset({"8"}),
}
"""What carries no new connection: a rule that demands one of these may let it through. Out goes less, see `_OUT`."""
_OUT: Final = {**_HARMLESS, ("icmpv6", "type"): frozenset({"135", "136"}), ("icmp", "type"): frozenset[str]()}
Ask = Callable[[Sequence[str]], bytes]
"""Runs a command and returns what it printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketFilter:
    """What is loaded.

    Attributes:
        dropping: The hooks whose chain ends in a drop, by policy.
        counters: Packets by the counter's name.
        let_in: ``PROTOCOL NETWORK PORT`` of every new connection that may come in.
        let_out: ``PROTOCOL ADDRESS PORT`` of every new connection that may leave.
        passed_on: The same of what may go through this machine.
    """

    dropping: frozenset[str]
    counters: Mapping[str, int]
    let_in: frozenset[str]
    let_out: frozenset[str]
    passed_on: frozenset[str]

    @classmethod
    def from_json(cls, untrusted: bytes) -> "PacketFilter":
        """Read what nft printed.

        Raises:
            ValueError, KeyError, TypeError: It is not in nft's form.
        """
        rows = json.loads(untrusted)["nftables"]
        chains = [one["chain"] for one in rows if "chain" in one]
        counters = {one["counter"]["name"]: int(one["counter"]["packets"]) for one in rows if "counter" in one}
        hooks = {chain["name"]: chain["hook"] for chain in chains if "hook" in chain}
        rules = [(hooks.get(one["rule"]["chain"]), one["rule"]["expr"]) for one in rows if "rule" in one]

        def through(hook: str, field: str) -> frozenset[str]:
            return frozenset(each for of, rule in rules if of == hook for each in _let_through(rule, field))

        return cls(
            dropping=frozenset(chain["hook"] for chain in chains if chain.get("policy") == "drop"),
            counters={name: counters[name] for name in COUNTERS if name in counters},
            let_in=through("input", "saddr"),
            let_out=through("output", "daddr"),
            passed_on=through("forward", "daddr"),
        )


def loaded(ask: Ask | None = None) -> PacketFilter:
    """Return the packet filter of this machine.

    Raises:
        UnitError: It is not loaded, or may not be asked.
    """
    try:
        return PacketFilter.from_json((ask or _run)(_NFT))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        raise UnitError(
            what="the packet filter cannot be asked",
            why=type(error).__name__,
            fix="as root: `systemctl status nftables`",
        ) from error


def _let_through(expressions: Sequence[Mapping[str, Any]], field: str) -> Iterator[str]:
    """Yield what new connections a rule lets through, by the address in a field; nothing for one that lets none.

    All matches of a rule have to hold, so each narrows it: one that demands what is harmless, or address and port, says
    enough. Whatever does not say so lets through anything, also what is judged in another chain.
    """
    if any(word in one for one in expressions for word in _ELSEWHERE):
        yield ANYTHING
    if not any("accept" in one for one in expressions):
        return
    harmless = _HARMLESS if field == "saddr" else _OUT
    addresses: list[str] = []
    ports: list[tuple[str, str]] = []
    for match in (one["match"] for one in expressions if "match" in one):
        what, values = _subject(match["left"]), list(_values(match["right"]))
        if match["op"] not in {"==", "in"}:
            continue
        if values and what in harmless and harmless[what].issuperset(values):
            return
        if what in {("ip", field), ("ip6", field)}:
            addresses += values
        elif what in {("tcp", "dport"), ("udp", "dport")}:
            ports += [(what[0], port) for port in values]
    if not addresses or not ports:
        yield ANYTHING
    yield from (f"{protocol} {address} {port}" for protocol, port in ports for address in addresses)


def _subject(left: Any) -> tuple[str, str]:
    """Return what a match looks at: `tcp` and `dport`, `ct` and `state`; nothing that anybody asks for otherwise."""
    kind, of = next(iter(left.items())) if isinstance(left, dict) else ("", None)
    if not isinstance(of, dict):
        return "", ""
    return (str(of.get("protocol")), str(of.get("field"))) if kind == "payload" else (kind, str(of.get("key")))


def _values(right: Any) -> Iterator[str]:
    """Yield what a match compares with, one by one: of sets and lists of flags each, networks as ``ADDRESS/LENGTH``."""
    if isinstance(right, dict) and "prefix" in right:
        yield f"{right['prefix']['addr']}/{right['prefix']['len']}"
    elif isinstance(right, dict) and "range" in right:
        yield "-".join(map(str, right["range"]))
    elif isinstance(right, dict) and ("set" in right or "|" in right):
        yield from _values(right.get("set", right.get("|")))
    elif isinstance(right, list):
        for each in right:
            yield from _values(each)
    else:
        yield "".join(str(right).split())


def _run(words: Sequence[str]) -> bytes:
    return subprocess.run(words, capture_output=True, check=True, timeout=_SECONDS).stdout
