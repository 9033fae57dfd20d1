"""A deterministic attached engine in the words of TensorRT-LLM's `trtllm-serve`, as its published sources read.

A token is a byte (`tiny_tokenizer`), and it says the prompt again from its end to its beginning, as `fake_sglang`. Its
requests have the fields of `CompletionRequest` alone, others are refused; it names its model, says nothing of itself.
`python -m tests.support.fake_trtllm --socket PATH …` serves until it is ended.
"""

import argparse
import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.support.fake_sglang import Handler, events_of, faults
from tests.support.unix_http import peering

_NUMBER = (int, float)
_COMPLETION: Mapping[str, Any] = {
    "model": str,
    **dict.fromkeys(("n", "max_tokens", "min_tokens", "seed", "top_k", "logprobs"), int),
    **dict.fromkeys(("temperature", "top_p", "min_p"), _NUMBER),
    **dict.fromkeys(("repetition_penalty", "frequency_penalty", "presence_penalty"), _NUMBER),
    **dict.fromkeys(("echo", "ignore_eos", "skip_special_tokens", "stream"), bool),
    **dict.fromkeys(("prompt", "stop"), list),
    **dict.fromkeys(("logit_bias", "stream_options", "response_format"), dict),
}
_SHAPE = {"type", "schema", "json_schema", "regex", "ebnf", "format"}
_FORCED = 100


@dataclass(slots=True)
class FakeTrtllm:
    """A running peer.

    Attributes:
        path: Where it listens.
        models: The names that it has for what it serves.
        owner: Whom it names as their owner.
        room: Tokens of a prompt that it takes.
        keeps_prompts: Say the second time that it knew a prompt.
        tells_known: Say this of the tokens that it knew of a prompt, in place of their number.
        keeps_shapes: Whether it answers as a schema wants; None to refuse to be asked.
        minds_bias: Whether a bias decides what it says.
        is_certain: Say of every token that it was certain, as one does that counts the bias.
        told: Answer this in place of what a forced token's likelihood is.
        hold: Wait for this before the first token.
        events: Send these events, or bytes as they are, in place of a stream.
        asked: Every question, oldest first: its route and its body.
        left: Set when a caller went before its answer was whole.
    """

    path: Path
    models: tuple[Any, ...] = ("tiny",)
    owner: str = "tensorrt_llm"
    room: int = 65536
    keeps_prompts: bool = False
    keeps_shapes: bool | None = True
    tells_known: Any = None
    minds_bias: bool = True
    is_certain: bool = False
    told: Any = None
    hold: threading.Event | None = None
    events: tuple[Any, ...] | None = None
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)


class _Handler(Handler, BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        peer = self.server.peer
        if self.path == "/health":
            self.send_json(b"")
        elif self.path == "/v1/models":
            listed = [{"id": name, "object": "model", "owned_by": peer.owner} for name in peer.models]
            self.send_json({"object": "list", "data": listed})
        else:
            self.send_json({"detail": "Not Found"}, 404)

    def events(self, body: dict[str, Any]) -> Iterator[Any]:
        """Return what an answer is made of; see `events_of`."""
        if body.get("response_format") and self.server.peer.keeps_shapes:
            body = {**body, "json_schema": json.dumps(body["response_format"]["json_schema"]["schema"])}
        return events_of(body)

    def do_POST(self) -> None:
        peer, body = self.server.peer, json.loads(self.rfile.read(int(self.headers["content-length"])))
        peer.asked.append((self.path, body))
        fault = next(_faults_of(body, peer), "") if self.path == "/v1/completions" else "no such route"
        try:
            if fault:
                self.send_json({"object": "error", "message": fault, "type": "BadRequestError", "code": 400}, 400)
            elif body.get("stream"):
                self.stream(body, peer)
            else:
                self.send_json(_whole(body, peer))
        except OSError:
            peer.left.set()


def _faults_of(body: Mapping[str, Any], peer: FakeTrtllm) -> Iterator[str]:
    yield from faults(body, _COMPLETION)
    if len(body["prompt"]) + body.get("max_tokens", 1) > peer.room:
        yield "the prompt is longer than max_seq_len"
    shape = body.get("response_format")
    if shape is not None and (peer.keeps_shapes is None or not shape.keys() <= _SHAPE or "json_schema" not in shape):
        yield "guided decoding is not enabled"


def _whole(body: dict[str, Any], peer: FakeTrtllm) -> dict[str, Any]:
    *events, counted, _ = events_of({**body, "model": body.get("model", "")})
    text = "".join(event["choices"][0]["text"] for event in events)
    knew = sum(one["prompt"][: len(body["prompt"])] == body["prompt"] for _, one in peer.asked) > 1
    if body.get("response_format") and peer.keeps_shapes:
        (word,) = body["response_format"]["json_schema"]["schema"]["enum"]
        text = f'"{word}"'[: body["max_tokens"]]
    choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": "length", "logprobs": None}
    forced = [int(token) for token, bias in body.get("logit_bias", {}).items() if bias == _FORCED]
    if forced and peer.minds_bias:
        choice["text"] = bytes(forced).decode(errors="replace") if forced[0] < 256 else ""
    if body.get("logprobs"):
        likely = -0.5 if forced and forced[0] in body["prompt"] else -5.0
        said = {"tokens": [choice["text"]], "token_logprobs": [0.0 if peer.is_certain else likely], "text_offset": [0]}
        choice["logprobs"] = said if peer.told is None else peer.told
    known = len(body["prompt"]) if knew and peer.keeps_prompts else 0
    details = {"cached_tokens": known} if peer.tells_known is None else peer.tells_known
    usage = {**counted["usage"], "completion_tokens": 1, "prompt_tokens_details": details}
    return {"id": "cmpl-x", "object": "text_completion", "choices": [choice], "usage": usage}


@contextmanager
def fake_trtllm(path: Path, **settings: Any) -> Iterator[FakeTrtllm]:
    """Run a peer on a Unix socket until the block ends."""
    with peering(FakeTrtllm(path=path, **settings), _Handler) as peer:
        yield peer


def main() -> None:
    """Serve until this process is ended; `--busy` with a process of its own, and streams that never begin."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--busy", action="store_true")
    known, _ = parser.parse_known_args()
    if known.busy:
        subprocess.Popen(["sleep", "120"])
    with fake_trtllm(known.socket, hold=threading.Event() if known.busy else None):
        threading.Event().wait()


if __name__ == "__main__":
    main()
