"""The door before vLLM's own server: ASGI middleware that vLLM loads by name (`--middleware`), in vLLM's process.

Nothing of vLLM is changed or called. What comes in is rewritten (`vllm_requests`); what goes out of a good answer is
passed on as it is, so that a token costs nothing here; errors are told in our words, because vLLM's may quote a prompt.

Rules:
    DOOR-1 Only the routes that the gateway uses are open; vLLM has others that pause it or change its weights.
    DOOR-2 Callers come to the socket that systemd listens on, once the model is loaded.
    DOOR-3 A caller that hangs up ends its generation: vLLM hears it on the same connection.
    DOOR-4 Told to stop (SIGUSR1), it takes nothing new and lets what runs come to its end.
"""

import asyncio
import json
import math
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from appliance.serve import vllm_requests as requests
from appliance.serve.engine import BEYOND_OPENAI, THOUGHTS
from appliance.serve.vllm_requests import Facts, RefusedRequestError

FACTS: Final = "SEALIFT_VLLM_FACTS"
MAX_BODY_BYTES: Final = 32 * 1024 * 1024
_PASSED: Final = frozenset({("GET", "/health"), ("GET", "/metrics"), ("GET", "/v1/models")})


def opened() -> bool:
    """Return whether callers can come to the door of this process's server, or nobody here can say."""
    facts = os.environ.get(FACTS)
    return facts is None or _mark(facts).exists()


def _mark(facts: str) -> Path:
    return Path(facts).with_name("opened")


Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Door:
    """One per vLLM server."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._facts = Facts.from_bytes(Path(os.environ[FACTS]).read_bytes())
        self._running = 0
        self._closing = False
        self._server: Any = None
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope (ASGI 3.0)."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._opening(scope["app"], send))
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        # A web socket is left without an answer, which refuses it.

    def _opening(self, whole: App, send: Send) -> Send:
        async def told(message: Message) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self._open(whole)

        return told

    def _open(self, whole: App) -> None:
        """Listen where callers come to, in vLLM's own loop, for the whole application that this door is part of."""
        import uvicorn

        _mark(os.environ[FACTS]).touch()

        class Quiet(uvicorn.Server):  # type: ignore[misc] # uvicorn comes with vLLM alone
            """A second server in a process whose first one has the signals."""

            @contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield

        loop = asyncio.get_running_loop()
        config = uvicorn.Config(whole, lifespan="off", access_log=False, log_config=None, timeout_keep_alive=300)
        self._server = Quiet(config)
        listener = socket.socket(fileno=self._facts.listener)
        self._task = loop.create_task(self._server.serve(sockets=[listener]))
        loop.add_signal_handler(signal.SIGUSR1, self._close)

    def _close(self) -> None:
        self._closing = True
        self._server.should_exit = True

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        what = (scope["method"], scope["path"])
        try:
            if what == ("GET", "/sealift/v1/status"):
                await _answer(send, 200, self._status())
            elif what in _PASSED:
                await self._app(scope, receive, send)
            elif scope["method"] == "POST" and scope["path"] in _ROUTES:
                await self._counted(_ROUTES[scope["path"]], scope, receive, send)
            elif what == ("POST", "/v1/embeddings"):
                await _answer(send, 404, _error("unsupported_model", "this version makes no embeddings"))
            else:
                await _answer(send, 404, _error("not_found", "there is no such route"))
        except RefusedRequestError as error:
            await _answer(send, 400, _error(error.code, error.message, error.param))
        except RecursionError:  # read, and yet too deep to be written for vLLM; nothing was answered before
            await _answer(send, 400, _error("invalid_json", "the body is nested too deeply"))

    async def _counted(self, route: "Route", scope: Scope, receive: Receive, send: Send) -> None:
        if self._closing:
            await _answer(send, 503, _error("stopping", "the engine is stopping"))
            return
        untrusted = requests.body_of(await _whole(receive))
        self._running += 1
        try:
            await route(self, untrusted, scope, receive, send)
        finally:
            self._running -= 1

    def _status(self) -> dict[str, Any]:
        facts = self._facts
        return {
            "model_digest": facts.model_digest,
            "weights_digest": facts.weights_digest,
            "stage": facts.stage,
            "state": "stopping" if self._closing else "ready",
            "n_ctx": facts.n_ctx,
            "takes": [*BEYOND_OPENAI, *([THOUGHTS] if facts.thinks else [])],
            "model": dict(facts.model),
            "running": self._running,
            "waiting": 0,
        }

    async def chat(self, untrusted: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a chat on."""
        await self._pass(requests.chat(untrusted, self._facts), scope, receive, send)

    async def complete(self, untrusted: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a completion on."""
        await self._pass(requests.completion(untrusted, self._facts), scope, receive, send)

    async def tokenize(self, untrusted: dict[str, Any], scope: Scope, _: Receive, send: Send) -> None:
        """Say how many tokens a conversation or a text becomes."""
        if "messages" in untrusted:
            tokens = await self._tokens(requests.conversation(untrusted, self._facts), scope)
        else:
            tokens = await self._text_tokens(requests.text_of(untrusted, "prompt"), scope, begins=True)
        # The numbers themselves are for the gate that looks whether user text became control tokens.
        await _answer(send, 200, {"tokens": tokens if untrusted.get("ids") is True else len(tokens)})

    async def score(self, untrusted: dict[str, Any], scope: Scope, _: Receive, send: Send) -> None:
        """Say how likely each continuation is: natural logarithms, summed over its tokens."""
        prompt = await self._text_tokens(requests.text_of(untrusted, "prompt"), scope, begins=True)
        texts = untrusted.get("continuations")
        if not isinstance(texts, list) or not all(isinstance(one, str) and one for one in texts) or not prompt:
            raise RefusedRequestError("invalid_value", "a prompt and continuations are texts")
        continuations = [await self._text_tokens(one, scope) for one in texts]
        sums = await asyncio.gather(*(self._likelihood(prompt, tokens, scope) for tokens in continuations))
        await _answer(send, 200, {"log_likelihoods": sums, "tokens": [len(tokens) for tokens in continuations]})

    async def _likelihood(self, prompt: list[int], continuation: list[int], scope: Scope) -> float:
        tokens = [*prompt, *continuation]
        body = {"prompt": tokens, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        told = await self._ask("/v1/completions", {**body, "model": self._facts.model_digest}, scope)
        listed = told["choices"][0]["prompt_logprobs"]
        places = range(len(prompt), len(tokens))
        return math.fsum(float(listed[place][str(tokens[place])]["logprob"]) for place in places)

    async def _text_tokens(self, text: str, scope: Scope, *, begins: bool = False) -> list[int]:
        """Return a text's tokens, with what the model's tokenizer puts before one that begins, as vLLM completes it."""
        prompt = requests.harmless(text, self._facts.controls)
        return await self._tokens({"prompt": prompt, "add_special_tokens": begins}, scope)

    async def _tokens(self, asked: dict[str, Any], scope: Scope) -> list[int]:
        told = await self._ask("/tokenize", {**asked, "model": self._facts.model_digest}, scope)
        return [int(token) for token in told["tokens"]]

    async def _pass(self, body: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        """Ask vLLM in the caller's place; a good answer goes out as it comes."""
        status, parts = 200, bytearray()

        async def passed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            if status == 200:
                await send(message)
            elif message["type"] == "http.response.body":
                parts.extend(message.get("body", b"")[:MAX_BODY_BYTES])
                if not message.get("more_body", False):
                    await _answer(send, *_told(status, bytes(parts)))

        await self._app(*_inner(scope, scope["path"], body), _then(body, receive), passed)

    async def _ask(self, path: str, body: dict[str, Any], scope: Scope) -> dict[str, Any]:
        """Ask vLLM something of our own and return its whole answer.

        Raises:
            RefusedRequestError: It refused.
        """
        status, parts = 500, bytearray()

        async def kept(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            else:
                parts.extend(message.get("body", b""))

        async def never() -> Message:
            await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        await self._app(*_inner(scope, path, body), _then(body, never), kept)
        if status != 200:
            _, told = _told(status, bytes(parts))
            raise RefusedRequestError(told["error"]["code"], told["error"]["message"])
        found: dict[str, Any] = json.loads(parts)
        return found


Route = Callable[[Door, dict[str, Any], Scope, Receive, Send], Awaitable[None]]
_ROUTES: Final[dict[str, Route]] = {
    "/v1/chat/completions": Door.chat,
    "/v1/completions": Door.complete,
    "/sealift/v1/tokenize": Door.tokenize,
    "/sealift/v1/score": Door.score,
}


def _inner(scope: Scope, path: str, body: dict[str, Any]) -> tuple[Scope]:
    length = str(len(json.dumps(body).encode())).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    # Of the caller's headers none is passed on: some would name a trace, a rank or a priority.
    return ({**scope, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers},)


def _then(body: dict[str, Any], receive: Receive) -> Receive:
    """Return what gives the body once, and then what the connection says: that the caller left."""
    content: bytes | None = json.dumps(body).encode()

    async def next_one() -> Message:
        nonlocal content
        if content is None:
            return await receive()
        said, content = content, None
        return {"type": "http.request", "body": said, "more_body": False}

    return next_one


async def _whole(receive: Receive) -> bytes:
    parts = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise RefusedRequestError("disconnected", "the caller left")
        parts.extend(message.get("body", b""))
        if len(parts) > MAX_BODY_BYTES:
            raise RefusedRequestError("too_large", "the body is too long")
        if not message.get("more_body", False):
            return bytes(parts)


def _told(status: int, untrusted: bytes) -> tuple[int, dict[str, Any]]:
    """Return an error of vLLM in words that quote nobody."""
    try:
        said = json.loads(untrusted)["error"]
        text, field = str(said.get("message", "")), str(said.get("param") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        text, field = "", ""
    if 400 <= status < 500:
        if "maximum context length" in text or "max_model_len" in text or field in {"input_tokens", "input_text"}:
            return 400, _error("context_length_exceeded", "question and answer do not fit the context")
        return 400, _error("invalid_value", "the engine refused the request", _of_ours(field))
    return 500, _error("engine_failed", "the engine failed")


def _of_ours(untrusted: str) -> str | None:
    """Return the field of a request that vLLM names, as in ``body.stop.0``; None where it is none of a caller's."""
    name = untrusted.removeprefix("body.").partition(".")[0]
    return name if name in requests.NAMED else None


def _error(code: str, message: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code, "param": param}}


async def _answer(send: Send, status: int, content: dict[str, Any]) -> None:
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
