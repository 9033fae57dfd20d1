"""A deterministic attached engine in llama-server's words, which can be told to misbehave; also a program by itself.

A token is a byte. It says the prompt again, from its end to its beginning. `python fake_peer.py --socket PATH …` serves
until it is ended.
"""

import json
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.support.unix_http import PeerServer, QuietHandler, peering, serve_until_ended

CONTROL = 300
"""The one control token, which is spelled ``<end>``."""


@dataclass(slots=True)
class FakePeer:
    """A running peer.

    Attributes:
        hold: Wait for this before the first token.
        events: Send these events, or bytes as they are, in place of an answer.
        status: Answer every question with this status.
        is_well: What it says when asked.
        is_biased: Count a bias in how likely a token was, as OpenAI does.
        reads: How many tokens more it says it read than it was given.
        writes: How many tokens more than asked for it writes.
        asked: Every question, oldest first.
        most: How many it answered at once at most.
        room: How many tokens each of its places holds, as it says; it refuses a prompt that fills one.
        tokens: What those it answers now may come to, prompts and answers.
        most_tokens: What that was at most.
        left: Set when a caller went before its answer was whole.
    """

    path: Path
    hold: threading.Event | None = None
    events: tuple[Any, ...] | None = None
    status: int = 200
    is_well: bool = True
    is_biased: bool = False
    reads: int = 0
    writes: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    running: int = 0
    most: int = 0
    room: int = 1 << 20
    tokens: int = 0
    most_tokens: int = 0
    left: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    server: PeerServer

    def address_string(self) -> str:
        return "peer"

    def do_GET(self) -> None:
        if self.path == "/props":
            self.send_json({"default_generation_settings": {"n_ctx": self.server.peer.room}}, 200)
            return
        self.send_json({"status": "ok"}, 200 if self.server.peer.is_well else 503)

    def do_POST(self) -> None:
        peer = self.server.peer
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/tokenize":
            self.send_json({"tokens": tokens(body["content"], special=body["parse_special"])})
            return
        with peer.lock:
            peer.asked.append(body)
            peer.running += 1
            peer.most = max(peer.most, peer.running)
            self._need = len(body["prompt"]) + body["max_tokens"]
            peer.tokens += self._need
            peer.most_tokens = max(peer.most_tokens, peer.tokens)
        self._is_counted = True
        try:
            if peer.status != 200:
                self.send_json({"error": {"message": "it quotes a prompt", "code": peer.status}}, peer.status)
            elif len(body["prompt"]) >= peer.room:
                self.send_json({"error": {"message": "exceeds the available context size", "code": 400}}, 400)
            elif body.get("stream"):
                self._stream(body, peer)
            else:
                self._forced(body, peer)
        except OSError:
            peer.left.set()
        finally:
            self._answered(peer)

    def _answered(self, peer: FakePeer) -> None:
        """Count this answer no more: before its end is written, since whoever reads that may ask for the next one."""
        with peer.lock:
            peer.running -= self._is_counted
            peer.tokens -= self._need * self._is_counted
            self._is_counted = False

    def _forced(self, body: dict[str, Any], peer: FakePeer) -> None:
        if "logit_bias" not in body:
            usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": 1}
            self._answered(peer)
            self.send_json({"choices": [{"index": 0, "text": ".", "finish_reason": "length"}], "usage": usage})
            return
        (token,) = map(int, body["logit_bias"])
        # What the prompt holds already is likelier.
        likely = 0.0 if peer.is_biased else -0.5 if token in body["prompt"] else -5.0
        entry = {"id": token, "token": chr(token), "bytes": [token], "logprob": likely, "top_logprobs": []}
        self._answered(peer)
        self.send_json({"choices": [{"index": 0, "text": chr(token), "logprobs": {"content": [entry]}}]})

    def _stream(self, body: dict[str, Any], peer: FakePeer) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        deadline = time.monotonic() + 20
        while peer.hold is not None and not peer.hold.wait(0.005) and time.monotonic() < deadline:
            self._require_caller()
        for event in _events(body, peer) if peer.events is None else peer.events:
            self._require_caller()
            data = event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() + b"\n\n"
            if b'"usage"' in data or b"[DONE]" in data:
                self._answered(peer)
            if data:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def _require_caller(self) -> None:
        poll = select.poll()
        poll.register(self.connection, select.POLLRDHUP)
        if poll.poll(0):
            raise BrokenPipeError


def tokens(text: str, *, special: bool) -> list[int]:
    """Return a text's bytes; the control token's name is one number where it is recognised."""
    if not special:
        return list(text.encode())
    first, *rest = text.split("<end>")
    return [*first.encode(), *(token for one in rest for token in (CONTROL, *one.encode()))]


def _events(body: dict[str, Any], peer: FakePeer) -> Iterator[Any]:
    prompt = body["prompt"]
    said = "".join(chr(token) if 32 <= token < 127 else " " for token in reversed(prompt)).strip() or "."
    cuts = [said.index(stop) for stop in body.get("stop", []) if stop in said]
    said = said[: min(cuts)] if cuts else said
    reason = "length" if len(said) > body["max_tokens"] else "stop"
    said = said[: body["max_tokens"]] + "!" * peer.writes
    for letter in said:
        choice: dict[str, Any] = {"index": 0, "text": letter, "finish_reason": None}
        if "logprobs" in body:
            entry = {"token": letter, "bytes": [ord(letter)], "logprob": -0.25}
            choice["logprobs"] = {"content": [{**entry, "top_logprobs": [entry]}]}
        yield {"choices": [choice]}
    counts = {"prompt_tokens": len(prompt) + peer.reads, "completion_tokens": len(said)}
    yield {"choices": [{"index": 0, "text": "", "finish_reason": reason}], "usage": counts}
    yield b"data: [DONE]\n\n"


@contextmanager
def fake_peer(path: Path, **settings: Any) -> Iterator[FakePeer]:
    """Run a peer on a Unix socket until the block ends."""
    with peering(FakePeer(path=path, **settings), _Handler) as peer:
        yield peer


def main() -> None:
    """Serve until this process is ended."""
    serve_until_ended(fake_peer)


if __name__ == "__main__":
    main()
