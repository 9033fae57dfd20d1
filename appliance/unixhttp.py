"""HTTP by urllib3 over a Unix socket of this machine: to an engine, or to a gateway's door for the page."""

import socket
import time
from pathlib import Path
from typing import Any, Final

import urllib3
import urllib3.connection
from urllib3.exceptions import NewConnectionError

_FULL: Final = 2.0
"""Seconds that a full queue of connections is asked again."""


class UnixPool(urllib3.HTTPConnectionPool):
    """A pool of connections to one socket; never asks again by itself.

    Args:
        path: Where the service listens.
        size: How many idle connections are kept.
        timeout: Of connecting, and of each read.
    """

    def __init__(self, path: Path, *, size: int, timeout: urllib3.Timeout) -> None:
        super().__init__("localhost", maxsize=size, timeout=timeout, retries=False)
        self._path = path

    def _new_conn(self) -> "_UnixConnection":
        self.num_connections += 1
        return _UnixConnection(path=self._path, timeout=self.timeout.connect_timeout)


class _UnixConnection(urllib3.connection.HTTPConnection):
    def __init__(self, *, path: Path, timeout: Any = None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def _new_conn(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        if isinstance(self.timeout, int | float):
            connection.settimeout(self.timeout)
        until = time.monotonic() + min(self.timeout if isinstance(self.timeout, int | float) else _FULL, _FULL)
        while True:
            try:
                connection.connect(str(self._path))
            except OSError as error:
                # A Unix socket whose queue is full says so at once and does not wait.
                if isinstance(error, BlockingIOError) and time.monotonic() < until:
                    time.sleep(0.005)
                    continue
                connection.close()
                raise NewConnectionError(self, error.strerror or type(error).__name__) from error
            return connection
