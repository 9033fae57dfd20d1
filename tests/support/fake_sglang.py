"""A deterministic attached engine in SGLang's words, as its published sources read; also a program by itself.

A token is a byte (`tiny_tokenizer`). It says the prompt again, from its end to its beginning, several tokens at once in
an event. Fields that SGLang's own requests do not have, or of another type or range, are refused as it refuses values.
`python fake_sglang.py --socket PATH …` serves until it is ended.
"""

import json
import select
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.support.decoder import example_of
from tests.support.unix_http import PeerServer, QuietHandler, peering, serve_until_ended

_NUMBER = (int, float)
_COMPLETION: Mapping[str, Any] = {
    **dict.fromkeys(("model", "json_schema"), str),
    **dict.fromkeys(("n", "max_tokens", "min_tokens", "seed", "top_k", "logprobs"), int),
    **dict.fromkeys(("temperature", "top_p", "min_p"), _NUMBER),
    **dict.fromkeys(("repetition_penalty", "frequency_penalty", "presence_penalty"), _NUMBER),
    **dict.fromkeys(("echo", "ignore_eos", "skip_special_tokens", "no_stop_trim", "stream"), bool),
    **dict.fromkeys(("prompt", "stop"), list),
    **dict.fromkeys(("logit_bias", "stream_options"), dict),
}
_GENERATE: Mapping[str, Any] = {
    **dict.fromkeys(("logprob_start_len", "top_logprobs_num"), int),
    **dict.fromkeys(("return_logprob", "return_text_in_logprobs", "stream"), bool),
    "input_ids": list,
    "sampling_params": dict,
}
_SAMPLING: Mapping[str, Any] = {"max_new_tokens": int, "temperature": _NUMBER, "top_p": _NUMBER, "top_k": int}
_SETTINGS: Mapping[str, Any] = {
    "model_path": "/models/tiny",
    "context_length": None,
    "disable_radix_cache": True,
    "enable_deterministic_inference": True,
    "skip_tokenizer_init": False,
    "max_total_num_tokens": 65536,
    "max_req_input_len": 65530,
    "internal_states": [{}],
    "version": "0.5",
}


@dataclass(slots=True)
class FakeSglang:
    """A running peer.

    Attributes:
        path: Where it listens.
        settings: What it says of itself.
        is_old: Know the settings by their older name alone.
        hold: Wait for this before the first token.
        events: Send these events, or bytes as they are, in place of an answer.
        scored: Answer this, or bytes as they are, in place of a prompt's likelihoods.
        is_certain: Say of every token that it was certain.
        asked: Every question, oldest first: its route and its body.
        left: Set when a caller went before its answer was whole.
    """

    path: Path
    settings: dict[str, Any] = field(default_factory=lambda: dict(_SETTINGS))
    is_old: bool = False
    hold: threading.Event | None = None
    events: tuple[Any, ...] | None = None
    scored: Any = None
    is_certain: bool = False
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)


class Handler(QuietHandler, BaseHTTPRequestHandler):
    """Answers one connection."""

    server: PeerServer

    def address_string(self) -> str:
        return "peer"

    def do_GET(self) -> None:
        peer = self.server.peer
        if self.path == "/health":
            self.send_json(b"")
        elif self.path == ("/get_server_info" if peer.is_old else "/server_info"):
            self.send_json(peer.settings)
        else:
            self.send_json({"detail": "Not Found"}, 404)

    def do_POST(self) -> None:
        peer = self.server.peer
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        peer.asked.append((self.path, body))
        known = {"/v1/completions": _COMPLETION, "/generate": _GENERATE}.get(self.path)
        if body.get("min_p"):  # its sampler has an assertion against it, since it always has a seed
            self.close_connection = True
            return
        fault = "no such route" if known is None else next(_faults_of(body, known), "")
        try:
            if fault:
                self.send_json({"object": "error", "message": fault, "type": "BadRequest", "code": 400}, 400)
            elif self.path == "/generate":
                self.send_json(_scored(body, peer) if peer.scored is None else peer.scored)
            else:
                self.stream(body, peer)
        except OSError:
            peer.left.set()

    def stream(self, body: dict[str, Any], peer: Any) -> None:
        """Send an answer as events, or what the peer has in its place."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        deadline = time.monotonic() + 20
        while peer.hold is not None and not peer.hold.wait(0.005) and time.monotonic() < deadline:
            self._require_caller()
        for event in self.events(body) if peer.events is None else peer.events:
            self._require_caller()
            data = event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() + b"\n\n"
            if data:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def events(self, body: dict[str, Any]) -> Iterator[Any]:
        """Return what an answer is made of."""
        return events_of(body)

    def _require_caller(self) -> None:
        poll = select.poll()
        poll.register(self.connection, select.POLLRDHUP)
        if poll.poll(0):
            raise BrokenPipeError


def faults(body: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a server refuses that knows these fields alone, of these types."""
    for name, value in body.items():
        if name not in known:
            yield f"{name}: no such field"
        elif not isinstance(value, known[name]) or (isinstance(value, bool) and known[name] is not bool):
            yield f"{name}: of another type"
    if "prompt" in body and not (body["prompt"] and all(type(one) is int for one in body["prompt"])):
        yield "Prompt cannot be empty"
    if body.get("stream_options") and not body.get("stream"):
        yield "stream_options without stream"


def _faults_of(body: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[str]:
    yield from faults(body, known)
    yield from _of_sampling(body)
    if "sampling_params" in body:
        yield from faults(body["sampling_params"], _SAMPLING)


def _of_sampling(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield what `SamplingParams.verify` refuses."""
    if body.get("temperature", 1) < 0:
        yield "temperature must be a non-negative finite number"
    if not 0 < body.get("top_p", 1) <= 1:
        yield "top_p must be in (0, 1]"
    if body.get("top_k", -1) < 1 and body.get("top_k", -1) != -1:
        yield "top_k must be -1 (disable) or at least 1"
    for name in ("frequency_penalty", "presence_penalty"):
        if not -2 <= body.get(name, 0) <= 2:
            yield f"{name} must be in [-2, 2]"
    if not 0 < body.get("repetition_penalty", 1) <= 2:
        yield "repetition_penalty must be in (0, 2]"
    if body.get("max_tokens", 16) <= 0:
        yield "max_tokens must be positive"


def _scored(body: dict[str, Any], peer: FakeSglang) -> dict[str, Any]:
    tokens, start = body["input_ids"], body["logprob_start_len"]
    likely = [0.0 if peer.is_certain else -0.5 if token in tokens[:at] else -5.0 for at, token in enumerate(tokens)]
    told = [[None if at == start else likely[at], tokens[at], None] for at in range(start, len(tokens))]
    meta = {"id": "x", "finish_reason": {"type": "length", "length": 0}, "prompt_tokens": len(tokens)}
    return {"text": "", "output_ids": [], "meta_info": {**meta, "completion_tokens": 0, "input_token_logprobs": told}}


def events_of(body: dict[str, Any]) -> Iterator[Any]:
    """Yield the events of an answer: the prompt from its end to its beginning, or JSON that a schema takes."""
    prompt = body["prompt"]
    said = "".join(chr(token) if 32 <= token < 127 else " " for token in reversed(prompt)).strip() or "."
    if "json_schema" in body:
        said = json.dumps(example_of(json.loads(body["json_schema"]), {}))
    cuts = [said.index(stop) for stop in body.get("stop", []) if stop in said]
    said = said[: min(cuts)] if cuts else said
    reason = "length" if len(said) > body["max_tokens"] else "stop"
    said = said[: body["max_tokens"]]
    about = {"id": "cmpl-x", "object": "text_completion", "created": 1, "model": body["model"]}
    # What several steps made comes in one event, the reason with the last text; text may be empty.
    parts = ["", *(said[at : at + 3] for at in range(0, len(said), 3))]
    for at, part in enumerate(parts):
        choice: dict[str, Any] = {"index": 0, "text": part, "logprobs": None, "matched_stop": None}
        if "logprobs" in body and part:
            choice["logprobs"] = {
                "text_offset": [-1] * len(part),
                "token_logprobs": [-0.25] * len(part),
                "tokens": list(part),
                "top_logprobs": [{letter: -0.25, "~": -3.5} for letter in part] if body["logprobs"] else [],
            }
        choice["finish_reason"] = reason if at == len(parts) - 1 else None
        yield {**about, "choices": [choice], "usage": None}
    counts = {"prompt_tokens": len(prompt), "completion_tokens": len(said), "total_tokens": len(prompt) + len(said)}
    yield {**about, "choices": [], "usage": counts}
    yield b"data: [DONE]\n\n"


@contextmanager
def fake_sglang(path: Path, **settings: Any) -> Iterator[FakeSglang]:
    """Run a peer on a Unix socket until the block ends."""
    with peering(FakeSglang(path=path, **settings), Handler) as peer:
        yield peer


def main() -> None:
    """Serve until this process is ended."""
    serve_until_ended(fake_sglang)


if __name__ == "__main__":
    main()
