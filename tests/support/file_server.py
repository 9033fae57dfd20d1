"""An HTTP server on the loopback that serves one folder's worth of files and misbehaves on request."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass(slots=True)
class FileServer:
    """What is served, and how badly. Change the fields while it runs."""

    files: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    cut_after: list[int] = field(default_factory=list)  # one for each answer to come; then whole answers
    statuses: list[int] = field(default_factory=list)  # likewise
    redirects: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)  # sent with every file, over our own
    etag: Callable[[bytes], str] = lambda content: f'"{sha256(content).hexdigest()}"'
    ignores_range: bool = False
    announced: int | None = None  # a lie about the length
    needs_token: str = ""
    asked: list[Asked] = field(default_factory=list)
    after: Callable[[int], None] = lambda number: None  # called behind each answer with its number

    def ranges(self) -> list[str]:
        """Return what each GET asked for."""
        return [request.headers.get("range", "") for request in self.asked if request.method == "GET"]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    script: FileServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_CONNECT(self) -> None:
        """Be a proxy that lets nobody through."""
        asked = {key.lower(): value for key, value in self.headers.items()}
        self.server.script.asked.append(Asked(method=self.command, path=self.path, headers=asked))
        self._plain(403)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""

    def _answer(self) -> None:
        script = self.server.script
        asked = {key.lower(): value for key, value in self.headers.items()}
        script.asked.append(Asked(method=self.command, path=self.path, headers=asked))
        path = self.path.partition("?")[0]
        content = script.files.get(path)
        if script.needs_token and asked.get("authorization") != f"Bearer {script.needs_token}":
            self._plain(401)
        elif script.statuses:
            self._plain(script.statuses.pop(0))
        elif path in script.redirects:
            self._plain(302, location=script.redirects[path])
        elif content is None:
            self._plain(404)
        else:
            self._file(content, asked)
        script.after(len(script.asked))

    def _plain(self, status: int, *, location: str = "") -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        if location:
            self.send_header("location", location)
        self.end_headers()

    def _file(self, content: bytes, asked: dict[str, str]) -> None:
        script = self.server.script
        etag = script.etag(content)
        first = self._first(asked, etag)
        if first >= len(content):
            self._plain(416)
            return
        length = len(content) - first if script.announced is None else script.announced
        self.send_response(206 if first else 200)
        own = {"content-length": str(length), "accept-ranges": "bytes", **({"etag": etag} if etag else {})}
        if first:
            own["content-range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        for name, value in (own | script.headers).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        upto = first + script.cut_after.pop(0) if script.cut_after else len(content)
        self.wfile.write(content[first:upto])
        if upto < len(content) or script.announced is not None:
            self.close_connection = True

    def _first(self, asked: dict[str, str], etag: str) -> int:
        found = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", asked.get("range", ""))
        if found is None or self.server.script.ignores_range or asked.get("if-range", etag) != etag:
            return 0
        return int(found[1])


@contextmanager
def file_server(files: dict[str, bytes]) -> Iterator[FileServer]:
    """Serve until the block ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.script = FileServer(files=files, url=f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.script
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
