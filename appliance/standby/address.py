"""The service address: on the box that serves and on no other, told to the neighbours when it comes.

Source: ip-address(8). It takes CAP_NET_ADMIN. A process of its own tells it by ARP (`appliance.standby.announcing`). An
IPv6 address is put and taken alike; the kernel announces it by itself (ndisc_notify).
"""

import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, Protocol

_SECONDS: Final = 5


class ServiceAddress(Protocol):
    """Where clients reach the service."""

    def put(self) -> None:
        """Take the address; again where it is there, to announce it.

        Raises:
            OSError: It could not be done in time; again in the next turn.
        """
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

    def put(self) -> None:
        """Add the address and announce it; see `ServiceAddress`."""
        self._ip("replace")
        self._announce()

    def take_away(self) -> None:
        """Remove the address; see `ServiceAddress`."""
        self._ip("delete")

    def _ip(self, verb: str) -> None:
        host = f"{self._address}/{self._address.max_prefixlen}"
        command = ["ip", "address", verb, host, "dev", self._interface]
        try:
            subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            message = "ip(8) did not end"
            raise TimeoutError(message) from error
