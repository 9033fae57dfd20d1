"""A deterministic attached engine in the words of Hugging Face's TGI, as its published sources (3.3) read.

A token is a byte (`tiny_tokenizer`); it takes prompts as texts alone, finds control tokens in them by their names, and
says a prompt again from its end to its beginning. Words that it does not know it passes over, as TGI does; what it is
to know besides, `knows` says. `python -m tests.support.fake_tgi --socket PATH …` serves until it is ended.
"""

import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final

from tests.support.fake_sglang import Handler
from tests.support.tiny_tokenizer import CONTROL, library, tokenizer
from tests.support.unix_http import peering, serve_until_ended

TGIS: Final = frozenset({"top_p", "repetition_penalty", "frequency_penalty", "seed"})
"""Of the words for how a token is drawn those that TGI's completions have."""
ALL: Final = TGIS | {"top_k", "min_p", "presence_penalty", "logit_bias", "response_format", "logprobs", "echo"}
_END: Final = "<end>"
_FORCED: Final = 100


@dataclass(slots=True)
class FakeTgi:
    """A running peer.

    Attributes:
        path: Where it listens.
        knows: The words that it does not pass over.
        puts: The text of what it puts before each prompt by itself.
        room: Tokens of a prompt that it takes.
        stops: What becomes of a stop text: it is ``kept`` at the end of the answer, left ``out``, or ``passed`` over.
        reads_names: Whether it finds control tokens by their names.
        reads: Whether it has TGI's own route, which tells of a prompt.
        counts: Whether it says how many tokens there were in a stream.
        tells_known: What it says that it knew of a prompt that came again; None to say nothing.
        token_seconds: How long it reads a token for.
        keeps: Whether it reads a prompt that came before in no time.
        takes_neutral: Whether it takes a `top_p` of 1, which TGI does not.
        status: What it answers with where it is not 200.
        slips: How many of the answers of 48 tokens it gives otherwise, as one that rounds otherwise now and then.
        is_old: Whether it has no route for its health.
        told: Answer this in place of a prompt's likelihoods.
        hold: Wait for this before the first token.
        events: Send these events, or bytes as they are, in place of a stream.
        asked: Every question, oldest first: its route and its body.
        left: Set when a caller went before its answer was whole.
    """

    path: Path
    knows: frozenset[str] = TGIS
    puts: str = ""
    room: int = 65536
    stops: str = "kept"
    reads_names: bool = True
    reads: bool = True
    counts: bool = True
    tells_known: int | None = None
    token_seconds: float = 0.0
    keeps: bool = False
    takes_neutral: bool = False
    is_old: bool = False
    status: int = 200
    slips: int = 0
    told: Any = None
    hold: threading.Event | None = None
    events: tuple[Any, ...] | None = None
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)
    seen: set[str] = field(default_factory=set)


class _Handler(Handler, BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/health" and not self.server.peer.is_old:
            self.send_json(b"")
        elif self.path == "/v1/models":
            self.send_json({"object": "list", "data": [{"id": "tiny", "object": "model"}]})
        else:
            self.send_json({"error": "not found"}, 404)

    def do_POST(self) -> None:
        peer, body = self.server.peer, json.loads(self.rfile.read(int(self.headers["content-length"])))
        peer.asked.append((self.path, body))
        routes = {"/v1/completions", *(["/generate"] if peer.reads else [])}
        fault = next(_faults_of(body, peer), "") if self.path in routes else "no such route"
        try:
            if peer.status != 200:
                self.send_json({"error": "busy", "error_type": "overloaded"}, peer.status)
            elif fault:
                self.send_json({"error": fault, "error_type": "validation"}, 404 if "route" in fault else 422)
            elif self.path == "/generate":
                self.send_json(_read(body, peer) if peer.told is None else peer.told)
            elif body.get("stream"):
                self.stream(body, peer)
            else:
                self.send_json(_whole(body, peer))
        except OSError:
            peer.left.set()

    def events(self, body: dict[str, Any]) -> Iterator[Any]:
        return _events(body, self.server.peer)


def _faults_of(body: Mapping[str, Any], peer: FakeTgi) -> Iterator[str]:
    text = body.get("prompt", body.get("inputs"))
    if not isinstance(text, str) or not text:
        yield "inputs cannot be empty"
    elif len(_tokens(text, peer)) + body.get("max_tokens", 1) > peer.room:
        yield "inputs must have fewer tokens"
    if not 0 < body.get("top_p", 0.5) < 1 and not (peer.takes_neutral and body["top_p"] == 1):
        yield "top_p must be > 0.0 and < 1.0"


def _tokens(text: str, peer: FakeTgi) -> list[int]:
    """Return what it reads: what it puts there itself, then the text."""
    found = list(_VOCABULARY.encode(peer.puts, add_special_tokens=False).ids)
    if peer.reads_names:
        return found + list(_VOCABULARY.encode(text, add_special_tokens=False).ids)
    return found + list(text.encode())


_FIELDS: Final = json.loads(tokenizer()) | {"truncation": None, "padding": None, "post_processor": None}
_VOCABULARY: Final = library().Tokenizer.from_str(json.dumps(_FIELDS))


def _said(body: Mapping[str, Any], peer: FakeTgi) -> tuple[str, str]:
    """Return an answer and why it ended."""
    prompt = _tokens(body["prompt"], peer)
    if not (peer.keeps and body["prompt"] in peer.seen):
        time.sleep(peer.token_seconds * len(prompt))
    peer.seen.add(body["prompt"])
    wanted = {name: value for name, value in body.items() if name in peer.knows}
    letters = [chr(one) if 32 <= one < 127 else " " for one in reversed(prompt)]
    is_likeliest = wanted.get("top_k") == 1 or wanted.get("min_p") == 1 or wanted.get("top_p", 1) < 0.01
    if body.get("temperature") and not is_likeliest:
        random.Random(wanted.get("seed", len(peer.asked))).shuffle(letters)
    said = "".join(letters).strip() or "."
    if wanted.get("repetition_penalty", 1) != 1:
        said = said.upper()
    if any(wanted.get(name) for name in ("frequency_penalty", "presence_penalty")):
        said = said.swapcase()
    if wanted.get("response_format"):
        said = json.dumps(wanted["response_format"]["json_schema"]["schema"]["enum"][0])
    for token, bias in wanted.get("logit_bias", {}).items():
        if bias == _FORCED:
            said = chr(int(token)) + said
    if body["max_tokens"] == 48 and peer.slips:
        peer.slips -= 1
        said = "~" + said
    said, reason = (said, "eos_token") if len(said) < body["max_tokens"] else (said[: body["max_tokens"]], "length")
    ends = [said.index(stop) + len(stop) * (peer.stops == "kept") for stop in body.get("stop", []) if stop in said]
    if ends and peer.stops != "passed":
        return said[: min(ends)], "stop_sequence"
    return said, reason


def _usage(body: Mapping[str, Any], peer: FakeTgi, said: str, reason: str) -> dict[str, Any]:
    count = len(said) + (reason == "eos_token")
    prompt = len(_tokens(body["prompt"], peer))
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count}
    if peer.tells_known is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": peer.tells_known}
    return usage


def _likelihoods(tokens: list[int]) -> list[float | None]:
    return [None if not at else -0.5 if token in tokens[:at] else -5.0 for at, token in enumerate(tokens)]


def _whole(body: dict[str, Any], peer: FakeTgi) -> dict[str, Any]:
    said, reason = _said(body, peer)
    choice: dict[str, Any] = {"index": 0, "text": said, "logprobs": None}
    choice["finish_reason"] = "stop" if reason == "eos_token" else reason
    if "logprobs" in body and "logprobs" in peer.knows:
        tokens = [*said.encode()]
        likely: list[float | None] = [-0.25] * len(tokens)
        if body.get("logit_bias"):
            likely = [-0.5 if tokens[0] in _tokens(body["prompt"], peer) else -5.0]
        if body.get("echo") and "echo" in peer.knows:
            read = _tokens(body["prompt"], peer)
            tokens, likely = read + tokens, _likelihoods(read) + likely
            choice["text"] = body["prompt"] + said
        texts = [_END if one == CONTROL else bytes([one]).decode(errors="replace") for one in tokens]
        choice["logprobs"] = {"tokens": texts, "token_logprobs": likely, "top_logprobs": []}
        if body.get("echo") and peer.told is not None:
            choice["logprobs"] = peer.told
    return {"id": "", "object": "text_completion", "choices": [choice], "usage": _usage(body, peer, said, reason)}


def _events(body: dict[str, Any], peer: FakeTgi) -> Iterator[Any]:
    said, reason = _said(body, peer)
    texts = [*said, *([_END] if reason == "eos_token" else [])] or [""]
    for at, text in enumerate(texts):
        is_last = at == len(texts) - 1
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason if is_last else ""}
        usage = {"usage": _usage(body, peer, said, reason)} if is_last and peer.counts else {}
        yield {"id": "", "object": "text_completion", "model": "tiny", "choices": [choice], **usage}
    yield b"data: [DONE]\n\n"


def _read(body: dict[str, Any], peer: FakeTgi) -> dict[str, Any]:
    tokens = _tokens(body["inputs"], peer)
    prefill = [
        {"id": one, "text": "", "logprob": likely} for one, likely in zip(tokens, _likelihoods(tokens), strict=True)
    ]
    return {"generated_text": "x", "details": {"generated_tokens": 1, "prefill": prefill, "tokens": []}}


@contextmanager
def fake_tgi(path: Path, **settings: Any) -> Iterator[FakeTgi]:
    """Run a peer on a Unix socket until the block ends."""
    with peering(FakeTgi(path=path, **settings), _Handler) as peer:
        yield peer


def main() -> None:
    """Serve until this process is ended."""
    serve_until_ended(partial(fake_tgi, token_seconds=0.0001))


if __name__ == "__main__":
    main()
