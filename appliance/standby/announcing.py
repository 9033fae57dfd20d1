"""Tells the neighbours by ARP where the service address is: a process of its own, begun by whoever took the address.

Entry point of `sealift-announce`: ``python -I -m appliance.standby.announcing --config FILE``. systemd starts it when
the process of the lease connects to its socket; what comes over that is not read. Only packets of this one form leave,
from the interface of the site file, and only while this machine has the address.
Source: RFC 5227 section 2.3, announcing an address by ARP; RFC 826 for the packet; proc_pid_net(5) for the table of
local addresses. It takes CAP_NET_RAW.
"""

import argparse
import re
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Final

from appliance import config as configuration
from appliance import unit
from appliance.config import Config, Places
from media.errors import SealiftError

DOOR: Final = "announce"
_ARP: Final = 0x0806
_BROADCAST: Final = b"\xff" * 6
_SECONDS: Final = 1.0
# Not /proc/net: that is hidden where a unit sees processes alone (ProcSubset=pid).
_ADDRESSES: Final = Path("/proc/self/net/fib_trie")
_LOCAL: Final = re.compile(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL\b")


def ask(places: Places) -> None:
    """Have the service address announced; nothing where nobody does: neighbours ask by themselves in time."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.settimeout(_SECONDS)
        door.connect(str(places.socket(DOOR)))


def announce(config: Config, *, send: Callable[[str, IPv4Address], None], addresses: Path = _ADDRESSES) -> bool:
    """Announce the service address, and return whether it was announced.

    It is not where the site file names none, or one of IPv6, which the kernel announces by itself; nor while this
    machine does not have it, whoever asks.

    Args:
        config: The site file.
        send: Sends the packet, given interface and address; `broadcast` on a box.
        addresses: The kernel's table of local addresses.

    Raises:
        OSError: The table cannot be read, or the packet not be sent.
    """
    section = config.standby
    if not section.service_address or not section.interface:
        return False
    address = ip_address(section.service_address)
    if not isinstance(address, IPv4Address) or str(address) not in _LOCAL.findall(addresses.read_text("ascii")):
        return False
    send(section.interface, address)
    return True


def packet(hardware: bytes, address: IPv4Address) -> bytes:
    """Return the frame that says which card has an address now."""
    head = _BROADCAST + hardware + struct.pack("!HHHBBH", _ARP, 1, 0x0800, 6, 4, 1)
    return head + hardware + address.packed + bytes(6) + address.packed


def broadcast(interface: str, address: IPv4Address) -> None:
    """Send it.

    Raises:
        OSError: There is no such interface, or the right is missing.
    """
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP)) as raw:
        raw.bind((interface, _ARP))
        raw.send(packet(raw.getsockname()[4], address))


def answer(listener: socket.socket) -> None:
    """Take everybody who asked until now: one announcement is for all of them."""
    listener.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Announce once; returns the exit code."""
    parser = argparse.ArgumentParser(prog="sealift-announce")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    options = parser.parse_args(arguments)
    # Before anything can fail: systemd would start it again for whoever still waits.
    if (listener := unit.listening_sockets().get(DOOR)) is not None:
        answer(listener)
    try:
        announce(configuration.load(options.config), send=broadcast)
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"the service address was not announced: {error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
