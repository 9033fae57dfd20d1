"""Speaking with paired boxes: one JSON object per line, both ways, over TLS 1.3 with the certificates of the pairings.

Who speaks follows from the certificate alone. A line is short, a connection idles for some seconds at most, and few are
open at once, so that a box that is not paired costs little.
"""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from appliance.errors import WireError
from appliance.standby import channel
from media import canonical, endings
from media.errors import SealiftError

MAX_LINE_BYTES: Final = 2 * 1024 * 1024
_MOST_CONNECTIONS: Final = 16
_IDLE_SECONDS: Final = 30.0
_HANDSHAKE_SECONDS: Final = 5.0
_MOST_SHOWN: Final = 200

Handler = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]


class Listener:
    """Answers paired boxes, each connection in a thread of its own."""

    def __init__(self, listener: socket.socket, *, own: Path, known: Mapping[str, str], handler: Handler) -> None:
        """Begin to listen.

        Args:
            listener: A bound TCP socket that listens.
            own: The file with this box's channel key and certificate.
            known: Certificates of the paired boxes as PEM, by name.
            handler: Gets the name of who speaks and the message.

        Raises:
            KeyMissingError: The key cannot be read.
        """
        self._context = channel.context(own, list(known.values()), server=True)
        self._known = {ssl.PEM_cert_to_DER_cert(pem): name for name, pem in known.items()}
        self._handler = handler
        self._listener = listener
        self._places = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        threading.Thread(target=self._accept, name="peers", daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if not self._places.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._hold, args=(connection,), daemon=True).start()

    def _hold(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError, ValueError, SealiftError):
                connection.settimeout(_HANDSHAKE_SECONDS)
                with self._context.wrap_socket(connection, server_side=True) as secured:
                    name = channel.require_peer(secured, self._known)
                    secured.settimeout(_IDLE_SECONDS)
                    self._converse(name, secured)
        finally:
            self._places.release()

    def _converse(self, name: str, secured: ssl.SSLSocket) -> None:
        with secured.makefile("rwb") as stream:
            while untrusted_line := stream.readline(MAX_LINE_BYTES + 1):
                try:
                    answer: dict[str, Any] = {"ok": dict(self._handler(name, _decode(untrusted_line)))}
                except SealiftError as error:
                    answer = {"error": error.to_json()}
                stream.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
                stream.flush()


class PeerRefusedError(WireError):
    """The other box answered, and does not do what it was asked."""


class PeerLine:
    """A connection to one paired box, opened at the first call and again after it broke. One call at a time."""

    def __init__(
        self, address: str, port: int, *, own: Path, name: str, certificate: str, timeout_seconds: float
    ) -> None:
        self._address = (address, port)
        self._context = channel.context(own, [certificate], server=False)
        self._known = {ssl.PEM_cert_to_DER_cert(certificate): name}
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._twin = partial(
            PeerLine, address, port, own=own, name=name, certificate=certificate, timeout_seconds=timeout_seconds
        )
        self._lock = threading.Lock()
        self._socket: ssl.SSLSocket | None = None

    def call(self, do: str, **fields: Any) -> Mapping[str, Any]:
        """Ask and return the answer's ``ok`` object.

        Raises:
            PairingRefusedError: Another box answers at this address.
            PeerRefusedError: The box refused.
            WireError: Nobody answers in time, or not by the protocol.
        """
        line = json.dumps({"do": do, **fields}, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            try:
                untrusted = self._exchange(line)
            except (OSError, ValueError) as error:
                self._drop()
                raise WireError(
                    what=f"the box {self._name} does not answer",
                    why=type(error).__name__,
                    fix="check the cable, and `systemctl status sealift-standby` there",
                ) from error
            except SealiftError:
                self._drop()
                raise
        answer = _decode(untrusted)
        if not isinstance(answer.get("ok"), dict):
            refusal = canonical.mapping(answer.get("error", {}), "error")
            raise PeerRefusedError(
                what=f"the box {self._name} refused",
                why=": ".join(said for part in ("what", "why") if (said := _shown(refusal.get(part)))),
                fix="mend what it says, there or here: docs/operator/standby.md",
            )
        return canonical.mapping(answer["ok"], "ok")

    def twin(self) -> "PeerLine":
        """Return another line to the same box: what is asked on it holds nothing up here."""
        return self._twin()

    def close(self) -> None:
        """Drop the connection."""
        with self._lock:
            self._drop()

    def _exchange(self, line: bytes) -> bytes:
        if self._socket is None:
            plain = socket.create_connection(self._address, timeout=self._timeout_seconds)
            try:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._socket = self._context.wrap_socket(plain)
            except BaseException:
                plain.close()
                raise
            channel.require_peer(self._socket, self._known)
        self._socket.sendall(line)
        parts: list[bytes] = []
        while not parts or not parts[-1].endswith(b"\n"):
            part = self._socket.recv(65536)
            if not part or sum(map(len, parts)) > MAX_LINE_BYTES:
                raise ConnectionResetError(104, "closed before the answer")
            parts.append(part)
        return b"".join(parts)

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _shown(untrusted: object) -> str:
    """Return a text of the other box as it may be shown: short, and nothing in it that a terminal obeys."""
    return endings.one_line(untrusted or "", _MOST_SHOWN).strip()


def _decode(untrusted_line: bytes) -> dict[str, Any]:
    try:
        return canonical.mapping(canonical.loads(untrusted_line, max_bytes=MAX_LINE_BYTES + 1), "message")
    except SealiftError as error:
        raise WireError(what="a box sent what is no message", why=error.what, fix="use the same release") from error
