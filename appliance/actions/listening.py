"""Who listens on this machine's network addresses, as the kernel's tables tell it, and who should not (A51).

A listener is where it should be on loopback, or on one of the site's few ports: there at an address that the site file
names, or at every address, since the packet filter answers at the named ones only. Everything else is misplaced.
"""

import ipaddress
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.config import Config

# Not /proc/net: that is hidden where a unit sees processes alone (ProcSubset=pid).
TABLES: Final = (
    ("tcp", Path("/proc/self/net/tcp")),
    ("tcp", Path("/proc/self/net/tcp6")),
    ("udp", Path("/proc/self/net/udp")),
    ("udp", Path("/proc/self/net/udp6")),
)
_STATES: Final = {"tcp": "0A", "udp": "07"}  # listening; not connected
PORTS: Final = frozenset({("tcp", 22), ("tcp", 443), ("tcp", 8443)})
_OPERATIONS: Final = ("tcp", 9090)
_CLIENTS: Final = frozenset({("udp", 68), ("udp", 546)})  # how a machine asks for its own address (DHCP)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Listener:
    """One socket that takes what comes from others."""

    protocol: str
    address: str
    port: int

    @property
    def is_everywhere(self) -> bool:
        """Whether it takes what comes to any address of this machine."""
        return ipaddress.ip_address(self.address).is_unspecified

    def __str__(self) -> str:
        shown = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.protocol} {shown}:{self.port}"


def listeners(tables: Iterable[tuple[str, Path]] = TABLES) -> Iterator[Listener]:
    """Yield every listener that the kernel's tables name; a table that is not there names none."""
    for protocol, path in tables:
        try:
            lines = path.read_text("ascii", "replace").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if len(words) > 3 and words[3] == _STATES[protocol]:
                address, _, port = words[1].partition(":")
                yield Listener(protocol=protocol, address=_address(address), port=int(port, 16))


def misplaced(config: Config, found: Iterable[Listener]) -> list[Listener]:
    """Return the listeners that the site file gives no reason for."""
    ports = PORTS | ({_OPERATIONS} if config.monitoring.enabled else set())
    named = {ipaddress.ip_address(address) for address in config.network.addresses}
    # Where the other boxes of the site reach the lease: there, and nowhere else.
    lease = (ipaddress.ip_address(config.standby.listen), config.standby.port) if config.standby.listen else None
    wrong = set()
    for one in found:
        address = ipaddress.ip_address(one.address)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        if address.is_loopback or (mapped is not None and mapped.is_loopback):
            continue
        what = (one.protocol, one.port)
        if one.protocol == "tcp" and (address, one.port) == lease:
            continue
        is_there = one.is_everywhere or address in named or mapped in named or not named
        if what in _CLIENTS or (what in ports and is_there):
            continue
        wrong.add(one)
    return sorted(wrong)


def _address(hexadecimal: str) -> str:
    """Return an address of the kernel's tables: words of 32 bits in the machine's own byte order."""
    words = [hexadecimal[at : at + 8] for at in range(0, len(hexadecimal), 8)]
    raw = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    return str(ipaddress.ip_address(raw))
