"""An HTTP/1.1 server on a Unix socket that answers from a table: for tests of clients, not of engines."""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.support.unix_http import QuietHandler, QuietServer, serving


@dataclass(slots=True)
class Reply:
    """What to answer: JSON, or pieces of a body sent as chunks, after which the connection may be torn."""

    status: int = 200
    body: Any = None
    pieces: tuple[bytes, ...] | None = None
    torn: bool = False


Answer = Reply | Callable[[Mapping[str, Any]], Reply]


@dataclass(slots=True)
class ScriptedServer:
    """A running server; `asked` holds every (route, body) in order, `hung_up` is set when a client left a stream."""

    path: Path
    replies: dict[str, Answer]
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)


class _Server(QuietServer):
    script: ScriptedServer


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            body = None
        if isinstance(body, dict):
            self._answer(body)
        else:
            self._reply(Reply(status=400, body={"error": {"code": "invalid_json"}}))

    def _answer(self, body: dict[str, Any]) -> None:
        script = self.server.script
        script.asked.append((self.path, body))
        answer = script.replies.get(self.path, Reply(status=404, body={"error": {"code": "not_found"}}))
        self._reply(answer(body) if callable(answer) else answer)

    def _reply(self, reply: Reply) -> None:
        script = self.server.script
        self.send_response(reply.status)
        if reply.pieces is None:
            content = json.dumps(reply.body).encode()
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for piece in reply.pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
            if not reply.torn:
                self.wfile.write(b"0\r\n\r\n")
        except OSError:
            script.hung_up.set()
            raise
        if reply.torn:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def scripted_server(path: Path, replies: dict[str, Answer]) -> Iterator[ScriptedServer]:
    """Serve until the block ends."""
    script = ScriptedServer(path=path, replies=replies)
    server = _Server(str(path), _Handler)
    server.script = script
    with serving(server):
        yield script
