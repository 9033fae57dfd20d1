"""The service address: on the box that serves and on no other, told to the neighbours when it comes.

Source: ip-address(8); RFC 5227 section 2.3, announcing an address by ARP; RFC 826 for the packet. It takes
CAP_NET_ADMIN and CAP_NET_RAW. An IPv6 address is put and taken alike; the kernel announces it by itself (ndisc_notify).
"""

import contextlib
import socket
import struct
import subprocess
from ipaddress import ip_address
from typing import Final, Protocol

_ARP: Final = 0x0806
_BROADCAST: Final = b"\xff" * 6
_SECONDS: Final = 5


class ServiceAddress(Protocol):
    """Where clients reach the service."""

    def put(self) -> None:
        """Take the address; again where it is there, to announce it."""
        ...

    def take_away(self) -> None:
        """Give it up; nothing where it is not there."""
        ...


class NoAddress:
    """Clients find the box by other means, e.g. a load balancer that asks /readyz."""

    def put(self) -> None:
        """Do nothing."""

    def take_away(self) -> None:
        """Do nothing."""


class InterfaceAddress:
    """An address that comes and goes on one network interface."""

    def __init__(self, address: str, interface: str) -> None:
        self._address = ip_address(address)
        self._interface = interface

    def put(self) -> None:
        """Add the address and announce it; see `ServiceAddress`."""
        self._ip("replace")
        if self._address.version == 4:
            with contextlib.suppress(OSError):
                self._announce()

    def take_away(self) -> None:
        """Remove the address; see `ServiceAddress`."""
        self._ip("delete")

    def _ip(self, verb: str) -> None:
        host = f"{self._address}/{self._address.max_prefixlen}"
        command = ["ip", "address", verb, host, "dev", self._interface]
        subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)

    def _announce(self) -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP)) as raw:
            raw.bind((self._interface, _ARP))
            hardware = raw.getsockname()[4]
            packed = self._address.packed
            frame = _BROADCAST + hardware + struct.pack("!HHHBBH", _ARP, 1, 0x0800, 6, 4, 1)
            raw.send(frame + hardware + packed + bytes(6) + packed)
