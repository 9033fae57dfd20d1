"""Whether this machine is off every network, as the kernel says: what a ceremony may demand before a key is used.

It cannot see a radio that the kernel has no driver for, nor a machine beside this one: people look at cables too.
"""

import fcntl
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bundler.errors import CeremonyError

_ROUTES: Final = Path("/proc/self/net")
_SIOCGIFFLAGS: Final = 0x8913
_UP, _LOOPBACK, _RUNNING = 0x1, 0x8, 0x40
_ROUTE_UP, _ROUTE_REJECT = 0x1, 0x200
_NAME_BYTES: Final = 16
_IPV6_FIELDS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """What connects this machine: interfaces that are up and have a carrier, and interfaces of default routes."""

    live: tuple[str, ...]
    default_routes: tuple[str, ...]


def links(net: Path | None = None) -> Links:
    """Return the network links of this process's network namespace.

    Args:
        net: Where the kernel shows routes, if not in its usual place.
    """
    net = net or _ROUTES
    return Links(live=_live(), default_routes=(*_ipv4(_lines(net / "route")), *_ipv6(_lines(net / "ipv6_route"))))


def require_offline(found: Links | None = None) -> None:
    """Pass only when no network is connected.

    Raises:
        CeremonyError: An interface is up with a carrier, or a default route exists.
    """
    found = found or links()
    if not found.live and not found.default_routes:
        return
    said = [f"{name} is up" for name in found.live] + [
        f"a default route leads to {name}" for name in dict.fromkeys(found.default_routes)
    ]
    raise CeremonyError(
        what="this machine is connected to a network",
        why=", ".join(said),
        fix="pull the cable and switch radios off (ip link set NAME down), then run the command again",
    )


def _live() -> tuple[str, ...]:
    found = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            request = struct.pack(f"{_NAME_BYTES}sH14x", name.encode()[: _NAME_BYTES - 1], 0)
            try:
                answer = fcntl.ioctl(asking.fileno(), _SIOCGIFFLAGS, request)
            except OSError:
                continue  # gone since it was listed
            (flags,) = struct.unpack_from("H", answer, _NAME_BYTES)
            if flags & _UP and flags & _RUNNING and not flags & _LOOPBACK:
                found.append(name)
    return tuple(found)


def _lines(file: Path) -> list[list[str]]:
    try:
        return [line.split() for line in file.read_text("ascii").splitlines()]
    except FileNotFoundError:
        return []  # a kernel without this protocol


def _ipv4(rows: list[list[str]]) -> list[str]:
    is_default = "00000000"
    return [row[0] for row in rows[1:] if len(row) > 7 and row[1] == row[7] == is_default and _leads(row[3])]


def _ipv6(rows: list[list[str]]) -> list[str]:
    """Return interfaces of default routes; the kernel always has a rejecting one on loopback."""
    return [
        row[9]
        for row in rows
        if len(row) == _IPV6_FIELDS and row[0] == "0" * 32 and row[1] == "00" and row[9] != "lo" and _leads(row[8])
    ]


def _leads(flags: str) -> bool:
    number = int(flags, 16)
    return bool(number & _ROUTE_UP) and not number & _ROUTE_REJECT
