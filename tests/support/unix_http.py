"""What servers of tests on Unix sockets share: threads for each caller, silence, and serving until a block ends."""

import argparse
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, Protocol, TypeVar


class _Held(Protocol):
    path: Path
    hold: threading.Event | None


_Peer = TypeVar("_Peer", bound=_Held)


class QuietServer(ThreadingMixIn, UnixStreamServer):
    """An HTTP server that says nothing of callers who hang up: they are part of the tests."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet."""


class QuietHandler(BaseHTTPRequestHandler):
    """Answers in HTTP/1.1 and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""

    def send_json(self, body: Any, status: int = 200, *, keep: float = 1.0) -> None:
        """Answer with JSON, or with bytes as they are; of the content, only so great a part is sent."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: int(len(content) * keep)])


class PeerServer(QuietServer):
    """Has the peer whose words its handler speaks."""

    peer: Any


@contextmanager
def listening(path: Path, run: Callable[[socket.socket], None]) -> Iterator[None]:
    """Let a thread have a listening socket until the block ends, which shuts it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=run, args=(listener,), daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@contextmanager
def peering(peer: _Peer, handler: type[BaseHTTPRequestHandler]) -> Iterator[_Peer]:
    """Run a peer on its Unix socket until the block ends; who waits for its first token then waits no more."""
    server = PeerServer(str(peer.path), handler)
    server.peer = peer
    with serving(server):
        try:
            yield peer
        finally:
            if peer.hold is not None:
                peer.hold.set()


@contextmanager
def serving(server: QuietServer) -> Iterator[None]:
    """Serve until the block ends."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        Path(str(server.server_address)).unlink(missing_ok=True)
        thread.join(timeout=5)


def serve_until_ended(peer: Callable[[Path], AbstractContextManager[object]]) -> None:
    """Be a program: run a peer at the place behind `--socket` until this process is ended; other words are left."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=Path, required=True)
    known, _ = parser.parse_known_args()
    with peer(known.socket):
        threading.Event().wait()
