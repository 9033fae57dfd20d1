"""A program of a few lines in the place of a version's engine, on boxes that have none.

The engine's unit and socket are started, watched and stopped as they are; what it answers is always the same.
"""

import json
from pathlib import Path

from appliance.install.releases import InstalledRelease, InstalledReleases
from appliance.registry.descriptor import ModelDescriptor
from tests.box.checkout import SERVER as ENVIRONMENT
from tests.box.wired import Node, lay
from tests.support.installable import places_below, store_release
from tests.support.versions import version_files

FILES = version_files()
VERSION = ModelDescriptor.from_bytes(FILES["data/models/tiny/descriptor.json"])
ENGINE = "opt/sealift/engine.py"
ENGINES = "etc/systemd/system/sealift-engine-production@.service.d"
STAND_IN = f"""[Service]
Type=simple
WatchdogSec=0
ExecStart=
ExecStart=/{ENVIRONMENT}/bin/python -I /{ENGINE}
"""
STATUS = {
    "model_digest": VERSION.model_digest,
    "weights_digest": VERSION.weights_digest,
    "stage": "production",
    "state": "ready",
    "n_ctx": VERSION.runtime.n_ctx,
}
PROGRAM = f"""
import json, socket, time
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
SECONDS = 0.0
STATUS = json.loads({json.dumps(STATUS)!r})
MESSAGE = {{"role": "assistant", "content": "Blue."}}
SAID = {{"id": "x", "choices": [{{"index": 0, "message": MESSAGE, "finish_reason": "stop"}}],
        "usage": {{"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}}}
class Server(ThreadingMixIn, HTTPServer):
    address_family = socket.AF_UNIX
    def get_request(self):
        return self.socket.accept()[0], ("engine", 0)
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, body):
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def do_GET(self):
        self.answer(STATUS if self.path.endswith("status") else {{}})
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        if self.path.endswith("tokenize"):
            self.answer({{"tokens": [1, 2, 3]}})
        else:
            time.sleep(SECONDS)
            self.answer(SAID)
    def log_message(self, *_):
        pass
server = Server(("", 0), Handler, bind_and_activate=False)
server.socket = socket.socket(fileno=3)
server.serve_forever()
"""


def lay_installed(root: Path, *, site: str, authority: Path, keys: Path) -> None:
    """Lay down a node with the release's environment of engines, and a program in their place; its store is empty."""
    lay(root, site=site, authority=authority, keys=keys)
    lay_engine(root)


def lay_engine(root: Path, *, seconds: float = 0.0) -> None:
    """Lay down the release's environment of engines, and in their place a program that takes a time for an answer."""
    releases = InstalledReleases(places_below(root))
    (releases.folder(1) / "engine-llama-cpp").mkdir(parents=True)
    releases.write(
        InstalledRelease(
            serial=1, release="r1", environments={"engine-llama-cpp": VERSION.environment}, host_files="0" * 64
        )
    )
    (root / ENGINE).write_text(PROGRAM.replace("SECONDS = 0.0", f"SECONDS = {seconds}"))
    (root / ENGINES).mkdir(parents=True)
    (root / ENGINES / "stand-in.conf").write_text(STAND_IN)


def receive(node: Node) -> None:
    """Lay the version's release into a node's store, with the owners that a receive gives it."""
    store_release(places_below(node.machine.root), FILES)
    node.machine.run("systemd-tmpfiles", "--create", "sealift.conf", shown=False)


def asks(node: Node, key: str) -> int:
    """Ask a node a question as a caller would; return the status of its answer."""
    body = json.dumps({"model": "production", "messages": [{"role": "user", "content": "Which?"}], "max_tokens": 4})
    done = node.machine.shell(
        f"curl -s -o /dev/null -w '%{{http_code}}' -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json'"
        f" -d '{body}' --unix-socket /run/sealift/gateway.sock http://x/v1/chat/completions"
    )
    return int(done.stdout or 0)
