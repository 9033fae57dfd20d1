"""The network's self-test: what must be refused is refused, and what must work works; recorded, counted, published.

Entry point of `sealift-network`: ``python -I -m appliance.actions.nettest --config FILE``, at boot and every few
minutes. It sends four packets to addresses that belong to nobody (RFC 5737, RFC 3849), marked so that the rules count
them apart, and none to anybody else. Each check has one of three results: it holds, it does not, or there is nothing to
try. The first result of a boot is recorded, and each one that differs from the one before.
"""

import argparse
import ipaddress
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from appliance import config as configuration
from appliance.actions.netprobes import NOBODY, Check, doors, listeners_in_place, refused, units_shut, works
from appliance.actions.packetfilter import COUNTERS, HOOKS, PacketFilter, loaded
from appliance.audit.facts import Ledger
from appliance.audit.rights import ACTIONS
from appliance.audit.socket_ledger import SocketLedger
from appliance.config import Config, Places
from appliance.errors import NetworkOpenError
from media import canonical, durable
from media.clock import Clock, SystemClock, to_text
from media.errors import SealiftError

TESTED: Final = "network.tested"
FORMAT: Final = 1
FILE: Final = "network.json"
_MAX_BYTES: Final = 256 * 1024
_WHAT: Final = "The result of the network's self-test"
_MOST_SHOWN: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """One self-test: when, by clock and by monotonic seconds, what held and what the rules counted until then."""

    at: str
    ticks: int
    checks: tuple[Check, ...]
    counters: Mapping[str, int]

    @property
    def failed(self) -> tuple[Check, ...]:
        """What does not hold."""
        return tuple(one for one in self.checks if one.holds is False)

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        checks = [one.to_json() for one in self.checks]
        return {"at": self.at, "ticks": self.ticks, "checks": checks, "counters": dict(self.counters)}

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse what was published.

        Raises:
            MediaError: It is not in its form.
        """
        value = canonical.loads_canonical(untrusted, max_bytes=_MAX_BYTES)
        fields = canonical.exact_keys(value, ("format", "at", "ticks", "checks", "counters"), what=_WHAT)
        checks = [
            canonical.exact_keys(one, ("name", "holds", "text"), what=_WHAT)
            for one in canonical.array(fields["checks"], _WHAT, most=64)
        ]
        counters = canonical.mapping(fields["counters"], _WHAT)
        return cls(
            at=canonical.text(fields["at"], _WHAT),
            ticks=canonical.integer(fields["ticks"], _WHAT),
            checks=tuple(
                Check(
                    name=canonical.text(one["name"], _WHAT),
                    holds=None if one["holds"] is None else canonical.boolean(one["holds"], _WHAT),
                    text=canonical.text(one["text"], _WHAT),
                )
                for one in checks
            ),
            counters={name: canonical.integer(counters[name], _WHAT) for name in COUNTERS if name in counters},
        )


def published(places: Places) -> SelfTest | None:
    """Return the newest self-test of this boot; None where there was none."""
    try:
        with (places.network_now / FILE).open("rb") as file:
            return SelfTest.from_bytes(file.read(_MAX_BYTES + 1))
    except (OSError, SealiftError):
        return None


def run(
    config: Config,
    *,
    clock: Clock,
    ask: Callable[[], PacketFilter] = loaded,
    nobody: Sequence[tuple[str, str]] = NOBODY,
    looks: Sequence["Look"] | None = None,
) -> SelfTest:
    """Try everything, and return what held; changes nothing, records nothing.

    Args:
        config: The site file.
        clock: The machine's clock.
        ask: Reads the packet filter.
        nobody: Addresses that must not be reached, by the kind of address.
        looks: What is looked at besides; by default everything there is on a box.
    """
    checks: list[Check] = []
    counters: Mapping[str, int] = {}
    try:
        before = ask()
        checks += [*rules(config, before)]
        checks += [refused(name, address) for name, address in nobody]
        after = ask()
        counters = after.counters
        checks.append(_counted(before, after, checks))
    except SealiftError as error:
        checks.append(Check(name="packet filter", holds=False, text=f"{error.what}: {error.why}"))
    checks += [works(name, address) for name, address in (("ipv4", "127.0.0.1"), ("ipv6", "::1"))]
    for look in (doors, listeners_in_place, units_shut) if looks is None else looks:
        checks += look(config)
    return SelfTest(at=to_text(clock.now()), ticks=int(clock.monotonic()), checks=tuple(checks), counters=counters)


Look = Callable[[Config], Iterable[Check]]


def record(config: Config, ledger: Ledger, tested: SelfTest) -> bool:
    """Publish a self-test, and record it when it is the first of this boot or differs; return whether it was recorded.

    Raises:
        LedgerUnavailableError: It could not be recorded; it was not published either, so the next one is the first.
        OSError: It could not be published.
    """
    before = published(config.at)
    is_new = before is None or [(one.name, one.holds) for one in before.checks] != [
        (one.name, one.holds) for one in tested.checks
    ]
    if is_new:
        ledger.append(
            TESTED,
            {
                "ok": not tested.failed,
                "holds": [one.name for one in tested.checks if one.holds],
                "fails": [one.name for one in tested.failed],
                "not_tried": [one.name for one in tested.checks if one.holds is None],
                "counters": dict(tested.counters),
            },
        )
    folder = config.at.network_now
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    durable.replace(folder / FILE, canonical.dumps({"format": FORMAT, **tested.to_json()}), mode=0o644)
    return is_new


def rules(config: Config, found: PacketFilter) -> Iterator[Check]:
    """Compare the packet filter with the site file: it drops, lets out and in what is named, and passes nothing on."""
    open_hooks = [hook for hook in HOOKS if hook not in found.dropping]
    wrong = [f"open: {', '.join(open_hooks)}"] if open_hooks else []
    wrong += [f"passed on: {', '.join(sorted(found.passed_on)[:_MOST_SHOWN])}"] if found.passed_on else []
    yield Check(
        name="packet filter",
        holds=not wrong,
        text="; ".join(wrong) or "drops what nobody named, in, through and out",
    )
    yield _compared("destinations", config.destinations, found.let_out)
    yield _compared("callers", _callers(config), found.let_in)


def _compared(name: str, named: Iterable[str], let_through: Iterable[str]) -> Check:
    meant = {_plain(one) for one in named}
    differ = sorted(meant ^ {_plain(one) for one in let_through})
    return Check(
        name=name,
        holds=not differ,
        text=f"rules and site file differ: {', '.join(differ[:_MOST_SHOWN])}"
        if differ
        else f"{len(meant)} named, and no others",
    )


def _callers(config: Config) -> Iterator[str]:
    """Yield ``PROTOCOL NETWORK PORT`` of who may call this box."""
    network, monitoring = config.network, config.monitoring
    operations = monitoring.networks if monitoring.enabled else []
    for networks, ports in ((network.clients, (443,)), (network.management, (22, 8443)), (operations, (9090,))):
        yield from (f"tcp {one} {port}" for one in networks for port in ports)
    yield from (f"tcp {one}" for one in config.standby.callers)


def _plain(let_through: str) -> str:
    protocol, address, port = let_through.split()
    with suppress(ValueError):
        network = ipaddress.ip_network(address)
        address = str(network.network_address) if network.num_addresses == 1 else str(network)
    return f"{protocol} {address} {port}"


def _counted(before: PacketFilter, after: PacketFilter, checks: Sequence[Check]) -> Check:
    tried = [one for one in checks if one.name.startswith("refused") and one.holds is not None]
    more = sum(
        after.counters.get(name, 0) - before.counters.get(name, 0) for name in ("egress_tested", "egress_refused")
    )
    return Check(
        name="counted",
        holds=None if not tried else more >= len(tried),
        text=f"{more} packets of the test were counted as refused" if tried else "nothing could be tried",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Test, record, publish; returns 79 when something is open that should be shut or shut that should be open."""
    parser = argparse.ArgumentParser(prog="sealift-network")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    options = parser.parse_args(arguments)
    try:
        config = configuration.load(options.config)
        tested = run(config, clock=SystemClock())
        ledger = SocketLedger(config.at.socket(ACTIONS))
        try:
            record(config, ledger, tested)
        finally:
            ledger.close()
        require_shut(tested)
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return error.exit_code
    return 0


def require_shut(tested: SelfTest) -> SelfTest:
    """Return a self-test in which everything held.

    Raises:
        NetworkOpenError: Something did not.
    """
    if tested.failed:
        raise NetworkOpenError(
            what="the network is not as the site file says",
            why="; ".join(f"{one.name}: {one.text}" for one in tested.failed)[:900],
            fix="see `sealift network show`; install the release again to write the rules anew",
        )
    return tested


if __name__ == "__main__":
    raise SystemExit(main())
