"""The packet filter as the kernel holds it: its counters, whether it drops what nobody named, what it lets out.

Asked by nft(8) in JSON (libnftables-json(5)), which takes CAP_NET_ADMIN.
"""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
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
Ask = Callable[[Sequence[str]], bytes]
"""Runs a command and returns what it printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketFilter:
    """What is loaded.

    Attributes:
        dropping: The hooks whose chain ends in a drop, by policy.
        counters: Packets by the counter's name.
        let_out: ``PROTOCOL ADDRESS PORT`` of every new connection that may leave.
    """

    dropping: frozenset[str]
    counters: Mapping[str, int]
    let_out: frozenset[str]

    @classmethod
    def from_json(cls, untrusted: bytes) -> "PacketFilter":
        """Read what nft printed.

        Raises:
            ValueError, KeyError, TypeError: It is not in nft's form.
        """
        rows = json.loads(untrusted)["nftables"]
        chains = [one["chain"] for one in rows if "chain" in one]
        counters = {one["counter"]["name"]: int(one["counter"]["packets"]) for one in rows if "counter" in one}
        names = {chain["name"] for chain in chains if chain.get("hook") == "output"}
        rules = [one["rule"] for one in rows if "rule" in one and one["rule"]["chain"] in names]
        return cls(
            dropping=frozenset(chain["hook"] for chain in chains if chain.get("policy") == "drop"),
            counters={name: counters[name] for name in COUNTERS if name in counters},
            let_out=frozenset(found for rule in rules if (found := _destination(rule["expr"]))),
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


def _destination(expressions: Sequence[Mapping[str, Any]]) -> str:
    """Return where a rule lets new connections out to; empty for a rule that does not."""
    if not any("accept" in one for one in expressions):
        return ""
    address = port = protocol = ""
    for one in expressions:
        match = one.get("match")
        if match is None:
            continue
        payload = match["left"].get("payload") if isinstance(match["left"], dict) else None
        if payload is None:
            return ""  # loopback, or what belongs to a connection
        if payload["field"] == "daddr":
            address = str(match["right"])
        elif payload["field"] == "dport":
            port, protocol = str(match["right"]), str(payload["protocol"])
    if address and port:
        return f"{protocol} {address} {port}"
    # Neighbours find each other by it; anything else that is let out without an address is let out to anywhere.
    return "" if _is_neighbours(expressions) else "anything anywhere 0"


def _is_neighbours(expressions: Sequence[Mapping[str, Any]]) -> bool:
    fields = [one["match"]["left"]["payload"] for one in expressions if "match" in one]
    return [one["protocol"] for one in fields] == ["icmpv6"]


def _run(words: Sequence[str]) -> bytes:
    return subprocess.run(words, capture_output=True, check=True, timeout=_SECONDS).stdout
