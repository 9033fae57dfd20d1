"""One call to an engine, whose sending and reading are apart and which another thread may cancel at any moment.

The gateway sends a request, has the intent recorded while the engine begins, and only then reads. When a caller leaves,
the watcher of its socket shuts the engine's connection down, which ends whatever read is going on
(`appliance.serve.client` does neither). What comes back is untrusted: sizes are capped, a stream without `[DONE]` is
an error.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.errors import EngineProtocolError, EngineRefusedError, EngineUnavailableError
from appliance.gateway.connections import EngineConnection, EngineConnections, says_unread
from appliance.gateway.response import BROKEN, EngineResponse
from appliance.gateway.wellness import never, says_it_is_well
from appliance.serve.client import MAX_ANSWER_BYTES, EngineClient
from appliance.serve.events import DONE, EventReader, broken, json_object, refused, too_long, unreachable

FAILURES: Final = (EngineUnavailableError, EngineProtocolError, EngineRefusedError)
_BUSY: Final = frozenset({429, 503})
_MOST_AFTER_DONE: Final = 65536
# Several answers with the likelihoods of their tokens: see `appliance.gateway.formats.require_told`.
_ANSWERS: Final = 2
_MAX_STREAM_BYTES: Final = 4 * MAX_ANSWER_BYTES
_SILENT_SECONDS: Final = 300.0
_DRAIN_SECONDS: Final = 0.2
_WELL_SECONDS: Final = 1.0
_STILL_SECONDS: Final = 5.0
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)
_HEADERS: Final = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


class Upstream:
    """One engine: `client` for short questions, `start` for answers.

    Args:
        path: Where it listens.
        connect_seconds: How long a connection may take.
        read_seconds: How long it may be silent in an answer until it is asked whether it is well. While it is, it is
            waited for: a whole answer comes in one piece at its end, which takes a slow processor many minutes.
    """

    def __init__(self, path: Path, *, connect_seconds: float = 5.0, read_seconds: float = _SILENT_SECONDS) -> None:
        self.name = path.name
        self.client = EngineClient(path, connect_seconds=connect_seconds, read_seconds=connect_seconds, connections=2)
        self._path = path
        self._connections = EngineConnections(
            path,
            connect_seconds=connect_seconds,
            read_seconds=read_seconds,
            goes_on=lambda is_over: says_it_is_well(path, seconds=connect_seconds, left=is_over),
        )

    def is_well(self, left: Callable[[], bool] = never) -> bool:
        """Return whether it answers a short question at once: a socket alone takes calls in for a dead engine, too.

        Args:
            left: Whether the caller for whom it is asked has left, so that the answer says nothing.
        """
        return says_it_is_well(self._path, seconds=_WELL_SECONDS, left=left)

    def stands_still(self) -> bool:
        """Tell whether it answers no short question, where it is given longer than a busy engine takes (RTE-8)."""
        return not says_it_is_well(self._path, seconds=_STILL_SECONDS)

    def start(self, route: str, body: Mapping[str, Any], *, again: bool = True) -> "Call":
        """Send a request without waiting for its answer.

        Args:
            route: Of the engine.
            body: What it is asked.
            again: Whether the request goes out once more where a kept connection turns out to be closed.

        Raises:
            EngineUnavailableError: Nobody listens.
        """
        content = _ENCODER.encode(body).encode()
        return Call(self.name, self._connections, route=route, content=content, again=again)

    def close(self) -> None:
        """Drop the idle connections."""
        self._connections.close()
        self.client.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """An instance that is to be asked; `is_trial` where the call finds out whether it is well again."""

    upstream: Upstream
    is_trial: bool

    @property
    def name(self) -> str:
        """Of the instance."""
        return self.upstream.name


class Call:
    """One request and its answer. Use it in one thread; only `cancel` is for others."""

    def __init__(
        self, name: str, connections: EngineConnections, *, route: str, content: bytes, again: bool = True
    ) -> None:
        self._name = name
        self._again = again
        self._connections = connections
        self._route = route
        self._content = content
        self._lock = threading.Lock()
        self._cancelled = self._is_broken_off = self._has_begun = self._is_unread = False
        self._response: EngineResponse | None = None
        self._connection: EngineConnection | None = connections.take()
        self._send(self._connection)

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody cancelled; then whatever was read is worth nothing."""
        return self._cancelled

    @property
    def was_kept(self) -> bool:
        """Whether it went out just now on a connection that had been idle, which the engine may have closed by then."""
        connection = self._connection
        return self._was_kept and connection is not None and connection.was_idle()

    @property
    def is_unread(self) -> bool:
        """Whether the engine went before it had read the whole request: it did not die of it."""
        return self._is_unread

    def cancel(self) -> None:
        """End the call: the engine sees its caller leave, and a read that waits returns at once."""
        with self._lock:
            self._cancelled = True
            if self._connection is not None:
                self._connection.shut_down()

    def break_off(self) -> None:
        """Let a read that waits fail as if the engine had gone: another one is to be asked, unless this one `began`."""
        with self._lock:
            if self._connection is not None and not self._has_begun:
                self._is_broken_off = True
                self._is_unread = self._connection.is_queued()
                self._connection.shut_down()

    def began(self) -> None:
        """Note that the caller gets a word of it, so that it is broken off for nobody else.

        Raises:
            EngineUnavailableError: It was broken off just now.
        """
        with self._lock:
            if self._is_broken_off:
                raise unreachable(self._name, ConnectionAbortedError("another one is to be asked"))
            self._has_begun = True

    def close(self) -> None:
        """Give up what was not read; the engine stops when it notices. Does nothing after a whole answer."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.shut_down()
            connection.close()
            if self._response is not None:
                self._response.close()

    def fileno(self) -> int:
        """Return what can be read when the engine answers; -1 where the call is over."""
        connection = self._connection
        return -1 if connection is None else connection.fileno()

    def opened(self) -> None:
        """Wait until the engine accepts the request.

        Raises:
            EngineRefusedError: It does not.
            EngineUnavailableError: It went away or stayed silent for too long.
            EngineProtocolError: It does not speak HTTP.
        """
        if self._response is not None:
            return
        self._response = response = self._first_words()
        if response.status != 200:
            untrusted = b"".join(self._pieces(response, limit=MAX_ANSWER_BYTES))
            self._finished(response)
            raise refused(self._name, response.status, untrusted)

    def answer(self) -> dict[str, Any]:
        """Return the whole answer.

        Raises:
            EngineRefusedError: As `opened`.
            EngineUnavailableError: As `opened`.
            EngineProtocolError: As `opened`, or the answer is no JSON object of ordinary size.
        """
        self.opened()
        response = self._opened_response()
        untrusted = b"".join(self._pieces(response, limit=_ANSWERS * MAX_ANSWER_BYTES))
        self._finished(response)
        return json_object(untrusted, name=self._name)

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream; returns after `[DONE]`.

        Raises:
            EngineRefusedError: As `opened`.
            EngineUnavailableError: As `opened`.
            EngineProtocolError: As `opened`, or the stream breaks off.
        """
        self.opened()
        response = self._opened_response()
        reader = EventReader(name=self._name)
        for untrusted in self._pieces(response, limit=_MAX_STREAM_BYTES):
            for event in reader.feed(untrusted):
                if event is DONE:
                    self._drain(response)
                    return
                yield event
        raise broken(self._name, "a stream ended before [DONE]")

    def misspoke(self) -> None:
        """Nobody counts one engine's faults; see `appliance.gateway.fleetcall.FleetCall.misspoke`."""

    def _send(self, connection: EngineConnection) -> None:
        self._was_kept = connection.kept
        try:
            connection.ask("POST", self._route, headers=_HEADERS, body=self._content)
        except OSError as error:
            if not connection.kept or not self._again or isinstance(error, TimeoutError):
                connection.close()
                raise unreachable(self._name, error) from error
            self._send_again(connection)

    def _send_again(self, stale: EngineConnection) -> None:
        with self._lock:
            stale.close()
            if self._cancelled:  # its caller left just now, and cancels nothing once more
                raise unreachable(self._name, ConnectionAbortedError("the caller left"))
            self._connection = connection = self._connections.fresh()
        self._send(connection)

    def _first_words(self) -> EngineResponse:
        connection = self._connection
        if connection is None:
            raise broken(self._name, "the call was closed")
        try:
            return connection.respond()
        except (ConnectionResetError, BrokenPipeError) as error:
            # An idle connection may be closed by the engine in the moment it is used again: nothing was answered, so
            # the request goes out once more.
            if not connection.was_idle() or not self._again:
                self._is_unread = self._is_unread or says_unread(error)
                connection.close()
                raise self._gone(error) from error
            self._send_again(connection)
            return self._first_words()
        except BROKEN as error:
            raise self._gone(error) from error

    def _pieces(self, response: EngineResponse, *, limit: int) -> Iterator[bytes]:
        size = 0
        while True:
            try:
                untrusted = response.read()
            except BROKEN as error:
                raise self._gone(error) from error
            if not untrusted:
                return
            size += len(untrusted)
            if size > limit:
                raise too_long(self._name, limit)
            yield untrusted

    def _drain(self, response: EngineResponse) -> None:
        """Read the few bytes after `[DONE]`, so that the connection can be kept; the answer does not wait for them."""
        if self._connection is None:
            return
        self._connection.wait_at_most(_DRAIN_SECONDS)
        try:
            for _ in self._pieces(response, limit=_MOST_AFTER_DONE):
                pass
        except (EngineProtocolError, EngineUnavailableError):
            self.close()
            return
        self._connection.wait_at_most(None)
        self._finished(response)

    def _finished(self, response: EngineResponse) -> None:
        with self._lock:
            # From here on the connection may carry another request: a late `cancel` must not reach it.
            connection, self._connection = self._connection, None
        if connection is None:
            return
        if response.is_whole and response.goes_on and not self._cancelled:
            self._connections.keep(connection)
        else:
            response.close()
            connection.close()

    def _opened_response(self) -> EngineResponse:
        if self._response is None:
            raise broken(self._name, "nothing was asked")
        return self._response

    def _gone(self, error: Exception) -> EngineProtocolError | EngineUnavailableError:
        if self._response is None or isinstance(error, TimeoutError):
            return unreachable(self._name, error)
        return broken(self._name, f"it went away in the middle of an answer ({type(error).__name__})")


def is_of_request(error: Exception) -> bool:
    """Tell whether an engine refused a request for what is in it, so that another one would do the same."""
    return isinstance(error, EngineRefusedError) and error.http_status < 500 and error.http_status not in _BUSY


def is_unread(error: EngineRefusedError) -> bool:
    """Tell whether an engine refused a request before the model read it: for what it asks, or because it is busy."""
    return is_of_request(error) or error.http_status in _BUSY
