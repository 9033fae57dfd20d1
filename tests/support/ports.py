"""Ports of loopback that are known before a server listens at them, and that nobody else is given meanwhile."""

import socket
from typing import Final

_HELD: Final[list[socket.socket]] = []


def held_port() -> int:
    """Return a port of loopback that nobody listens at, and that the kernel gives to nobody else in this run.

    Let go at once, it may be another process's before the server that it was chosen for listens there.
    """
    held = socket.socket()
    # Bound and not listening: who sets this too, as servers do, may listen there.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    _HELD.append(held)
    return int(held.getsockname()[1])
