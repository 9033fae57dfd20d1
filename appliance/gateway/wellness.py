"""Asks an engine a short question: whether it is well.

The question goes out on a connection of its own, and whoever waits for the answer looks at its caller several times a
second: one who left holds no thread for as long as an engine may be silent.
"""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from appliance.boundedsocket import BoundedSocket
from appliance.gateway.response import BROKEN, EngineResponse

LOOK_SECONDS: Final = 0.2
"""How long anything waits between two looks at a caller."""
_QUESTION: Final = b"GET /health HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
_OK: Final = 200


def never() -> bool:
    """Tell that a caller is there: of those whom nobody can look at."""
    return False


def says_it_is_well(path: Path, *, seconds: float, left: Callable[[], bool] = never) -> bool:
    """Return whether an engine answers that it is ready.

    Args:
        path: Where it listens.
        seconds: How long it may say nothing.
        left: Whether the caller for whom it is asked has left: then nobody waits for the answer, which is no.
    """
    until = time.monotonic() + seconds

    def goes_on() -> bool:
        return time.monotonic() < until and not left()

    try:
        with closing(BoundedSocket(min(LOOK_SECONDS, seconds))) as connection:
            _connect(connection, path, goes_on)
            connection.sendall(_QUESTION)
            connection.wait_at_most(min(LOOK_SECONDS, seconds), goes_on=goes_on)
            return EngineResponse(connection).status == _OK
    except BROKEN:
        return False


def _connect(connection: BoundedSocket, path: Path, goes_on: Callable[[], bool]) -> None:
    """Connect; where the queue of connections is full, a place in it is waited for."""
    while True:
        try:
            connection.connect(str(path))
        except TimeoutError:
            if not goes_on():
                raise
        else:
            return
