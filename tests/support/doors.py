"""A desk behind one door, without the socket: errors come back as they do over the wire."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from appliance.wire import Peer, RemoteError
from media.errors import SealiftError


class Door:
    """A desk behind one door."""

    def __init__(self, desk: Callable[[Peer, Mapping[str, Any]], Mapping[str, Any]], door: str) -> None:
        self._desk = desk
        self._peer = Peer(door=door, pid=os.getpid(), uid=os.getuid(), gid=os.getgid())

    def call(self, do: str, **fields: Any) -> dict[str, Any]:
        """Ask and return the answer."""
        try:
            return dict(self._desk(self._peer, {"do": do, **fields}))
        except SealiftError as error:
            told = error.to_json()
            raise RemoteError(
                what=error.what, why=error.why, fix=error.fix, code=str(told["code"]), exit_code=error.exit_code
            ) from error
