"""Speaks HTTP to an attached engine: a Unix socket, or a port of this machine's own loopback; nothing beyond.

Whatever it says is untrusted: sizes are capped, events must be JSON objects, a stream that stops without `[DONE]` is an
error. Nothing of a prompt or an answer gets into an error's text. Each question has a connection of its own, which any
thread may break: that is how a generation is cancelled, also before its first byte.
"""

import http.client
import json
import math
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Self

from appliance.errors import EngineProtocolError, EngineUnavailableError
from appliance.serve.events import DONE, EventReader, broken, json_object, refused, unreachable

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
MAX_STREAM_BYTES: Final = 256 * 1024 * 1024
_READ_BYTES: Final = 65536
_UNIX: Final = re.compile(r"unix:(/[^\x00\s]{1,106})")
_LOOPBACK: Final = re.compile(r"(?:(127\.[0-9.]{5,11})|\[(::1)\]):([0-9]{1,5})")
_JSON: Final = {"content-type": "application/json"}
_FAULTS: Final = (http.client.HTTPException, OSError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where an attached engine listens: a Unix socket's path, or an address of loopback and a port."""

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``unix:/run/…/engine.sock``, ``127.0.0.1:8000`` or ``[::1]:8000``.

        Raises:
            ValueError: It is none of these: a name, or an address that is not this machine's own.
        """
        if unix := _UNIX.fullmatch(text):
            return cls(path=unix[1])
        found = _LOOPBACK.fullmatch(text)
        if found is None or not 1 <= int(found[3]) <= 65535 or not ip_address(found[1] or found[2]).is_loopback:
            message = "expected unix:PATH, 127.0.0.1:PORT or [::1]:PORT; an engine elsewhere is not attached"
            raise ValueError(message)
        return cls(host=found[1] or found[2], port=int(found[3]))

    @property
    def name(self) -> str:
        """What errors call it."""
        return Path(self.path).name if self.path else f"port {self.port}"


class _Connection(http.client.HTTPConnection):
    """One connection; `close` leaves its socket to the answer, so it is kept for whoever has to break it."""

    def __init__(self, address: Address, *, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._address = address
        self._seconds = seconds
        self.line: socket.socket | None = None

    def connect(self) -> None:
        address = self._address
        family = socket.AF_UNIX if address.path else (socket.AF_INET6 if ":" in address.host else socket.AF_INET)
        line = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        line.settimeout(self._seconds)
        try:
            line.connect(address.path or (address.host, address.port))
        except OSError:
            line.close()
            raise
        self.sock = self.line = line


class PeerStream:
    """A question on its way. `events` belongs to one thread; `abort` to any."""

    def __init__(self, address: Address, route: str, body: Mapping[str, Any], *, seconds: float) -> None:
        self._name = address.name
        self._route = route
        self._body = _encoded(body)
        self._connection = _Connection(address, seconds=seconds)
        self._aborted = False

    @property
    def is_aborted(self) -> bool:
        """Whether `abort` was called."""
        return self._aborted

    def abort(self) -> None:
        """Break the connection, whatever it is at; safe at any time and more than once."""
        self._aborted = True
        line = self._connection.line
        if line is not None:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def events(self) -> Iterator[dict[str, Any]]:
        """Ask, and yield the events of the answer; returns after `[DONE]`.

        Raises:
            EngineRefusedError: It answered with another status than 200.
            EngineProtocolError: It broke off, or what it says is no stream of events.
            EngineUnavailableError: It does not answer, or is silent for too long.
        """
        with closing(self._connection):
            response = _sent(self._connection, "POST", self._route, self._body, name=self._name)
            # Asked to stop before there was a connection to break.
            if self._aborted:
                raise broken(self._name, "it is asked no more")
            with closing(response):
                if response.status != 200:
                    raise refused(self._name, response.status, _whole(response, self._name))
                yield from self._events(response)

    def _events(self, response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
        reader, size = EventReader(name=self._name), 0
        while untrusted := _some(response, self._name):
            size += len(untrusted)
            if size > MAX_STREAM_BYTES:
                raise broken(self._name, f"a stream is longer than {MAX_STREAM_BYTES} bytes")
            for event in reader.feed(untrusted):
                if event is DONE:
                    return
                yield event
        raise broken(self._name, "a stream ended before [DONE]")


class Peer:
    """An attached engine; safe for threads.

    Args:
        address: Where it listens.
        silence_seconds: The longest silence of an answer; whether it is well meanwhile is for others to ask.
        look_seconds: How long it may take to say that it is well.
        whole_seconds: How long a whole answer may take, from the question to its last byte.
    """

    def __init__(
        self,
        address: Address,
        *,
        silence_seconds: float = 3600.0,
        look_seconds: float = 5.0,
        whole_seconds: float = 300.0,
    ) -> None:
        self._address = address
        self._whole_seconds = min(silence_seconds, whole_seconds)
        self._silence_seconds = silence_seconds
        self._look_seconds = look_seconds

    @property
    def name(self) -> str:
        """What errors call it."""
        return self._address.name

    def is_well(self) -> bool:
        """Return whether it answers and says that it is ready; where it has no route for that, that it names models."""
        try:
            found = self._status("/health")
            return (self._status("/v1/models") if found == 404 else found) == 200
        except (EngineUnavailableError, EngineProtocolError):
            return False

    def _status(self, route: str) -> int:
        with closing(_Connection(self._address, seconds=self._look_seconds)) as connection:
            response = _sent(connection, "GET", route, None, name=self.name)
            with closing(response):
                _whole(response, self.name, until=time.monotonic() + self._look_seconds)
                return response.status

    def ask(self, route: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return one whole answer.

        Raises:
            EngineRefusedError, EngineProtocolError, EngineUnavailableError: As `PeerStream.events`.
        """
        return self._whole("POST", route, _encoded(body))

    def look(self, route: str) -> dict[str, Any]:
        """Return what it says of itself.

        Raises:
            EngineRefusedError, EngineProtocolError, EngineUnavailableError: As `PeerStream.events`.
        """
        return self._whole("GET", route, None)

    def stream(self, route: str, body: Mapping[str, Any]) -> PeerStream:
        """Return a question that is not asked yet."""
        return PeerStream(self._address, route, body, seconds=self._silence_seconds)

    def _whole(self, method: str, route: str, body: bytes | None) -> dict[str, Any]:
        until = time.monotonic() + self._whole_seconds
        with closing(_Connection(self._address, seconds=self._whole_seconds)) as connection:
            response = _sent(connection, method, route, body, name=self.name)
            with closing(response):
                untrusted = _whole(response, self.name, until=until)
                if response.status != 200:
                    raise refused(self.name, response.status, untrusted)
        return json_object(untrusted, name=self.name)


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _sent(
    connection: _Connection, method: str, route: str, body: bytes | None, *, name: str
) -> http.client.HTTPResponse:
    try:
        connection.request(method, route, body=body, headers=_JSON)
        return connection.getresponse()
    except _FAULTS as error:
        raise unreachable(name, error) from error


def _whole(response: http.client.HTTPResponse, name: str, *, until: float = math.inf) -> bytes:
    parts, size = [], 0
    while part := _some(response, name):
        if time.monotonic() > until:
            raise unreachable(name, TimeoutError("an answer does not end"))
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise broken(name, f"an answer is longer than {MAX_ANSWER_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _some(response: http.client.HTTPResponse, name: str) -> bytes:
    try:
        return response.read1(_READ_BYTES)
    except TimeoutError as error:
        raise unreachable(name, error) from error
    except _FAULTS as error:
        raise broken(name, f"it went away in the middle of an answer ({type(error).__name__})") from error
