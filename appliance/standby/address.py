"""The service address: on the box that serves and on no other, told to the neighbours when it comes.

Source: ip-address(8). It takes CAP_NET_ADMIN. A process of its own tells it by ARP (`appliance.standby.announcing`). An
IPv6 address is put and taken alike; the kernel announces it by itself (ndisc_notify).

An interface may come late at a boot, and whoever configures it anew takes addresses that others put there. So the box
that serves looks for its address again and again: nothing else would notice, since the lease goes on without it.
"""

import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from typing import Final, Protocol

_SECONDS: Final = 5
_LOOK_SECONDS: Final = 5.0
_PATIENCE_SECONDS: Final = 60.0
"""For so long nothing is asked of an `ip` that did not end: whoever waits for it keeps no lease meanwhile."""


class ServiceAddress(Protocol):
    """Where clients reach the service."""

    def put(self) -> None:
        """Take the address; again where it is there, to announce it. One that cannot be taken yet `keep` tries again.

        Raises:
            OSError: It could not be done in time; again in the next turn.
        """
        ...

    def keep(self, now: float) -> None:
        """Take it again where it is not there any more, or not yet; asked in each turn in which this box serves."""
        ...

    def take_away(self) -> None:
        """Give it up; nothing where it is not there.

        Raises:
            OSError: As `put`.
        """
        ...


class NoAddress:
    """Clients find the box by other means, e.g. a load balancer that asks /readyz."""

    def put(self) -> None:
        """Do nothing."""

    def keep(self, now: float) -> None:
        """Do nothing."""

    def take_away(self) -> None:
        """Do nothing."""


class InterfaceAddress:
    """An address that comes and goes on one network interface.

    Args:
        address: The address.
        interface: The interface's name.
        announce: Has it told to the neighbours.
    """

    def __init__(self, address: str, interface: str, *, announce: Callable[[], None]) -> None:
        self._address = ip_address(address)
        self._interface = interface
        self._announce = announce
        self._look_from = 0.0
        self._is_told = False

    def put(self) -> None:
        """Add the address and announce it; see `ServiceAddress`."""
        is_there = self._ip("replace") == 0
        if is_there:
            self._announce()
        elif not self._is_told:
            with suppress(OSError):
                sys.stderr.write("<3>the service address cannot be taken: standby.interface is not there, or refuses\n")
        self._is_told = not is_there

    def keep(self, now: float) -> None:
        """Put it where this machine does not have it; see `ServiceAddress`."""
        if now < self._look_from:
            return
        self._look_from = now + _LOOK_SECONDS
        if not self._is_here():
            try:
                self.put()
            except OSError:
                self._look_from = now + _PATIENCE_SECONDS

    def take_away(self) -> None:
        """Remove the address; see `ServiceAddress`."""
        self._ip("delete")

    def _is_here(self) -> bool:
        """Tell whether this machine has the address; one of IPv6 not before the kernel found it on no other."""
        family = socket.AF_INET6 if isinstance(self._address, IPv6Address) else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind((str(self._address), 0))
        except OSError:
            return False
        return True

    def _ip(self, verb: str) -> int:
        host = f"{self._address}/{self._address.max_prefixlen}"
        command = ["ip", "address", verb, host, "dev", self._interface]
        try:
            return subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False).returncode
        except subprocess.TimeoutExpired as error:
            message = "ip(8) did not end"
            raise TimeoutError(message) from error
