"""The protocol between our own processes: one JSON object per line, both ways, over a Unix stream socket.

A request is ``{"do": NAME, ...}``; the answer is ``{"ok": {...}}`` or ``{"error": {code, exit_code, what, why, fix}}``.
Which socket a peer connected to decides what it may ask; who it is comes from SO_PEERCRED, never from a message.
"""

import errno
import json
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.errors import ApplianceError, WireError
from media.errors import SealiftError

MAX_LINE_BYTES: Final = 4 * 1024 * 1024
MAX_CONVERSATIONS: Final = 64
"""How many connections one door keeps open at once; one more is closed without an answer."""
TURN_SECONDS: Final = 2.0
"""How long a door waits for a caller before its loop turns."""
_PAUSE_SECONDS: Final = 0.05
_PEERCRED = struct.Struct("3i")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who speaks, as the kernel says, and through which of our sockets."""

    door: str
    pid: int
    uid: int
    gid: int


Handler = Callable[[Peer, Mapping[str, Any]], Mapping[str, Any]]


class RemoteError(ApplianceError):
    """An error another of our processes answered with; carries that error's own code."""

    def __init__(self, *, what: str, why: str, fix: str, code: str, exit_code: int) -> None:
        super().__init__(what=what, why=why, fix=fix)
        self.remote_code = code
        self.remote_exit_code = exit_code

    def to_json(self) -> dict[str, str | int]:
        """Return the remote error's fields unchanged."""
        return {**super().to_json(), "code": self.remote_code, "exit_code": self.remote_exit_code}


def serve(
    doors: Mapping[str, socket.socket], handler: Handler, *, on_turn: Callable[[str], None] = lambda _door: None
) -> list[threading.Thread]:
    """Accept on every door in a thread of its own and answer each line by `handler`.

    A `SealiftError` from the handler becomes an error answer; anything else becomes ``internal`` without its text. A
    door goes on accepting until its listener is closed, whatever its callers do.

    Args:
        doors: Listening sockets by name.
        handler: Answers.
        on_turn: Told the door's name each time its loop turns, at least every `TURN_SECONDS`.
    """
    threads = []
    for door, listener in doors.items():
        thread = threading.Thread(
            target=_accept, args=(door, listener, handler, on_turn), name=f"door-{door}", daemon=True
        )
        thread.start()
        threads.append(thread)
    return threads


def _accept(door: str, listener: socket.socket, handler: Handler, on_turn: Callable[[str], None]) -> None:
    places = threading.BoundedSemaphore(MAX_CONVERSATIONS)
    while True:
        on_turn(door)
        try:
            if not _has_caller(listener):
                continue
            connection, _ = listener.accept()
        except OSError:
            if listener.fileno() < 0:
                return
            time.sleep(_PAUSE_SECONDS)  # out of descriptors or memory for the moment
            continue
        if not places.acquire(blocking=False):
            connection.close()
            continue
        try:
            threading.Thread(target=_hold, args=(door, connection, handler, places), daemon=True).start()
        except RuntimeError:  # no thread to be had
            connection.close()
            places.release()


def _has_caller(listener: socket.socket) -> bool:
    """Wait for a caller for one turn.

    Raises:
        OSError: The listener is closed.
    """
    poll = select.poll()
    try:
        poll.register(listener, select.POLLIN)
    except ValueError as error:
        raise OSError(errno.EBADF, "the listener is closed") from error
    return bool(poll.poll(TURN_SECONDS * 1000))


def _hold(door: str, connection: socket.socket, handler: Handler, places: threading.BoundedSemaphore) -> None:
    try:
        _converse(door, connection, handler)
    finally:
        places.release()


def _converse(door: str, connection: socket.socket, handler: Handler) -> None:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    pid, uid, gid = _PEERCRED.unpack(raw)
    peer = Peer(door=door, pid=pid, uid=uid, gid=gid)
    with connection, connection.makefile("rwb") as stream:
        while True:
            try:
                untrusted_line = stream.readline(MAX_LINE_BYTES + 1)
                if not untrusted_line:
                    return
                stream.write(_answer(peer, untrusted_line, handler))
                stream.flush()
            except (OSError, ValueError):
                return


def _answer(peer: Peer, untrusted_line: bytes, handler: Handler) -> bytes:
    try:
        if len(untrusted_line) > MAX_LINE_BYTES:
            raise WireError(what="a request is too long", why=f"the limit is {MAX_LINE_BYTES} bytes", fix="send less")
        answer: dict[str, Any] = {"ok": dict(handler(peer, _decode(untrusted_line)))}
    except SealiftError as error:
        answer = {"error": error.to_json()}
    except Exception as error:  # noqa: BLE001 - one bad request must not end the process; the text may hold content
        answer = {
            "error": {
                "code": "internal",
                "exit_code": 1,
                "what": f"the request failed ({type(error).__name__})",
                "why": "this is a fault of ours",
                "fix": "see the journal of the unit",
            }
        }
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"


def _decode(untrusted_line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(untrusted_line)
    except (ValueError, RecursionError) as error:
        raise WireError(
            what="a message is not JSON", why=type(error).__name__, fix="use the same release on both sides"
        ) from error
    if not isinstance(message, dict):
        raise WireError(
            what="a message is not a JSON object", why=type(message).__name__, fix="use the same release on both sides"
        )
    return message


class Line:
    """A client's connection, reused over calls and reopened once when the server went away between two of them.

    Safe for threads: one call at a time.
    """

    def __init__(self, path: Path, *, timeout_seconds: float = 30.0) -> None:
        self._path = path
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def call(self, do: str, **fields: Any) -> dict[str, Any]:
        """Ask and return the answer's ``ok`` object.

        Raises:
            WireError: Nobody listens, or the answer breaks the protocol.
            RemoteError: The other side refused; the error carries its fields.
        """
        line = json.dumps({"do": do, **fields}, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            reused = self._socket is not None
            try:
                untrusted_answer = self._exchange(line)
            except ConnectionError as error:
                self.close()
                if not reused:
                    raise self._unreachable(error) from error
                try:
                    untrusted_answer = self._exchange(line)
                except OSError as again:
                    self.close()
                    raise self._unreachable(again) from again
            except OSError as error:
                self.close()
                raise self._unreachable(error) from error
        return _open_answer(_decode(untrusted_answer))

    def close(self) -> None:
        """Drop the connection; the next call opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, line: bytes) -> bytes:
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            connection.settimeout(self._timeout_seconds)
            try:
                connection.connect(str(self._path))
            except OSError:
                connection.close()
                raise
            self._socket = connection
        self._socket.sendall(line)
        parts = []
        while True:
            part = self._socket.recv(65536)
            if not part:
                raise ConnectionResetError(104, "closed before the answer")
            parts.append(part)
            if part.endswith(b"\n"):
                return b"".join(parts)

    def _unreachable(self, error: OSError) -> WireError:
        return WireError(
            what=f"{self._path.name} does not answer",
            why=error.strerror or type(error).__name__,
            fix="check the unit with `sealift status`",
        )


def _open_answer(answer: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(ok := answer.get("ok"), dict):
        return ok
    error = answer.get("error")
    if not isinstance(error, dict):
        raise WireError(
            what="an answer has neither ok nor error", why="protocol", fix="use the same release on both sides"
        )
    raise RemoteError(
        what=str(error.get("what", "")),
        why=str(error.get("why", "")),
        fix=str(error.get("fix", "")),
        code=str(error.get("code", "internal")),
        exit_code=int(error.get("exit_code", 1)),
    )
