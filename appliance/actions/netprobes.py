"""What the network's self-test tries and looks at, each a check with one of three results.

What is sent goes to addresses that belong to nobody (RFC 5737, RFC 3849), or to this machine itself.
"""

import errno
import ipaddress
import re
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from appliance.actions import listening
from appliance.actions.packetfilter import MARK
from appliance.config import Config

NOBODY: Final = (("ipv4", "192.0.2.1"), ("ipv6", "2001:db8::1"))
_DISCARD: Final = 9
_SECONDS: Final = 3.0
_NO_WAY: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETDOWN, errno.ENODEV}
)
_LINK_LOCAL: Final = "fe80::5ea1:5ea1:5ea1:5ea1"
_REFUSED: Final = frozenset({errno.EPERM, errno.EACCES})
_ANY: Final = frozenset({"0.0.0.0/0", "::/0"})
_FACING: Final = frozenset({"nginx.service", "sealift-network.service"})
_UNIT: Final = re.compile(r"(sealift[a-z-]*(@[a-z0-9-]+)?|prometheus[a-z-]*)\.service")
_SHOW: Final = ("systemctl", "show", "--property=Id,PrivateNetwork,IPAddressDeny,IPAddressAllow", "--")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was tried: its name, whether it holds (None: there was nothing to try), and what was found."""

    name: str
    holds: bool | None
    text: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {"name": self.name, "holds": self.holds, "text": self.text}


def refused(name: str, address: str) -> Check:
    """Try to send a datagram and to begin a connection to an address that nobody has and nobody named.

    Where no way leads there (an isolated box has often no gateway), each card is tried as if it lay on its cable.
    """
    title = f"refused to leave, {name}"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    said = _attempts(family, address)
    if said <= _NO_WAY:
        cards = [card for _, card in socket.if_nameindex() if card != "lo"]
        on_cable = _LINK_LOCAL if family == socket.AF_INET6 else address
        said = {one for card in cards for one in _attempts(family, on_cable, card)} or {errno.ENETUNREACH}
    if 0 in said:
        return Check(name=title, holds=False, text=f"a packet to {address} left this machine")
    if said <= _NO_WAY:
        return Check(name=title, holds=None, text="there is no way out to try")
    # A connection that was begun says nothing: its first packet is dropped on the way, and counted.
    if said - {errno.EINPROGRESS} <= _REFUSED | _NO_WAY:
        return Check(name=title, holds=True, text=f"to {address}")
    return Check(name=title, holds=False, text=", ".join(sorted(errno.errorcode.get(one, "?") for one in said)))


def _attempts(family: int, address: str, card: str = "") -> set[int]:
    """Return the error numbers of both attempts; 0 for one that was let go."""
    said = set()
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        try:
            with socket.socket(family, kind) as probe:
                with suppress(PermissionError):  # without the right to mark, the probe counts as anybody's attempt
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
                if card:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, card.encode())
                probe.setblocking(False)
                scope = socket.if_nametoindex(card) if card else 0
                place = (address, _DISCARD, 0, scope) if family == socket.AF_INET6 else (address, _DISCARD)
                if kind == socket.SOCK_DGRAM:
                    probe.sendto(b"", place)
                    said.add(0)
                else:
                    said.add(probe.connect_ex(place))
        except OSError as error:
            said.add(error.errno or -1)
    return said


def works(name: str, address: str) -> Check:
    """Speak to ourselves over loopback: a rule that cut it off would cut off half of the services."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    title = f"works on loopback, {name}"
    try:
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.settimeout(_SECONDS)
            listener.bind((address, 0))
            listener.listen(1)
            with socket.create_connection(listener.getsockname()[:2], timeout=_SECONDS) as caller:
                heard, _ = listener.accept()
                with heard:
                    heard.settimeout(_SECONDS)
                    caller.sendall(b"1")
                    answer = heard.recv(1)
    except OSError as error:
        if error.errno in _NO_WAY:
            return Check(name=title, holds=None, text="this machine has no such loopback")
        return Check(name=title, holds=False, text=type(error).__name__)
    return Check(name=title, holds=answer == b"1", text=address)


def doors(config: Config) -> Iterator[Check]:
    """Whether the web server's two doors can be reached from the machine itself."""
    if config.places.root != "/" or not config.service.tls:
        return
    for port in (443, 8443):
        title = f"answers at port {port}"
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS):
                yield Check(name=title, holds=True, text="connected")
        except OSError as error:
            yield Check(name=title, holds=False, text=type(error).__name__)


def listeners_in_place(config: Config) -> Iterator[Check]:
    """Whether nothing listens where the site file names nothing (A51)."""
    wrong = listening.misplaced(config, listening.listeners())
    yield Check(
        name="listeners",
        holds=not wrong,
        text=", ".join(map(str, wrong[:8])) or "only where the site file names an address",
    )


def units_shut(config: Config, ask: Callable[[Sequence[str]], bytes] | None = None) -> Iterator[Check]:
    """Whether every unit of ours that runs has no network, or may speak to named addresses only (H12)."""
    run_command = ask or _command
    try:
        listed = run_command(("systemctl", "list-units", "--type=service", "--state=running", "--plain", "--no-legend"))
        names = [line.split()[0] for line in listed.decode("utf-8", "replace").splitlines() if line.split()]
        names = [name for name in names if _UNIT.fullmatch(name) and name not in _FACING]
        shown = run_command((*_SHOW, *names)).decode("utf-8", "replace") if names else ""
    except (OSError, subprocess.SubprocessError) as error:
        yield Check(name="units", holds=None, text=f"systemd cannot be asked ({type(error).__name__})")
        return
    # A witness answers the boxes that it names, and calls none of them.
    speaking = (*(one.split()[1] for one in config.destinations), *config.standby.boxes)
    named = {ipaddress.ip_address(one) for one in speaking}
    wrong = [_open(dict(_properties(block)), named) for block in shown.split("\n\n")]
    found = sorted(one for one in wrong if one)
    yield Check(
        name="units",
        holds=not found,
        text=", ".join(found[:8]) or f"{len(names)} run, without a network or shut to all but named addresses",
    )


def _open(unit: Mapping[str, str], named: set[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> str:
    """Return the name of a unit that may speak to whom nobody named; empty for one that may not."""
    name = unit.get("Id", "")
    if not name or unit.get("PrivateNetwork") == "yes":
        return ""
    if not set(unit.get("IPAddressDeny", "").split()) >= _ANY:
        return name
    for text in unit.get("IPAddressAllow", "").split():
        network = ipaddress.ip_network(text, strict=False)
        if not network.is_loopback and not (network.num_addresses == 1 and network.network_address in named):
            return f"{name} ({text})"
    return ""


def _properties(block: str) -> Iterator[tuple[str, str]]:
    for line in block.splitlines():
        key, _, value = line.partition("=")
        yield key, value


def _command(words: Sequence[str]) -> bytes:
    return subprocess.run(words, capture_output=True, check=True, timeout=30).stdout
