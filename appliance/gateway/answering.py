"""Answers one request that is already authenticated: the whole order of things on one screen.

Read it strictly, find its route, protect identifiers, classify, take a place, let the engine begin, have the intent
recorded, and only then read what the engine says. Before the intent a failure is a refusal; after it, an outcome.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from flask import Response

from appliance.config import LimitsSection
from appliance.errors import EngineRefusedError
from appliance.gateway import problems, sse
from appliance.gateway.auth import ApiKey
from appliance.gateway.body import read_object
from appliance.gateway.classification import decide
from appliance.gateway.disconnect import DisconnectWatch
from appliance.gateway.exchange import Exchange, Facts, Witnesses
from appliance.gateway.identity import user_hash
from appliance.gateway.limits import Slots
from appliance.gateway.parameters import Asked, Endpoint, read
from appliance.gateway.protection import protected
from appliance.gateway.reading import parts_of
from appliance.gateway.record import Intent
from appliance.gateway.routing import Route, Routes, require_route
from appliance.gateway.shapes import Shape
from appliance.gateway.streaming import AnswerStream
from appliance.gateway.upstream import Upstream, Upstreams
from appliance.keys.provider import KeyProvider
from appliance.phi.detect import Detector
from appliance.phi.patterns import PhiClass
from appliance.phi.policy import PhiMode
from appliance.phi.tokens import Masked
from appliance.phi.vault import SealedTokens

# A token covers at least one byte of text; a chat template adds a few around each message.
_TEMPLATE_TOKENS: Final = 32
_ROUTES: Final = {Endpoint.CHAT: "/v1/chat/completions", Endpoint.COMPLETIONS: "/v1/completions"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request as it came, and who sent it."""

    request_id: str
    began: float
    endpoint: Endpoint
    key: ApiKey
    certificate: str
    body: bytes
    label: str
    user: str
    environ: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """Everything that answering needs; made once for each process."""

    limits: LimitsSection
    routes: Routes
    upstreams: Upstreams
    keys: KeyProvider
    detector: Detector
    slots: Slots
    watch: DisconnectWatch
    witnesses: Witnesses

    def answer(self, arrival: Arrival) -> Response:
        """Return the answer.

        Raises:
            Problem: The request is refused, or could not be answered.
            SealiftError: Likewise; `problems.from_error` says which.
        """
        asked = read(read_object(arrival.body), endpoint=arrival.endpoint, limits=self.limits)
        route = require_route(self.routes, asked.model)
        if asked.tools and not route.has_tools:
            raise problems.invalid("tools", "The engine does not call functions.", code="unsupported_parameter")
        masked_asked, masked = protected(asked, mode=arrival.key.phi_mode, detector=self.detector)
        self.witnesses.metrics.found(arrival.key.department, masked.counts)
        upstream = self.upstreams.to(route.socket)
        self._require_fits(masked_asked, upstream)
        exchange = self._begin(arrival, masked_asked, masked, route=route, upstream=upstream)
        shape = Shape(
            endpoint=arrival.endpoint,
            request_id=arrival.request_id,
            created=int(self.witnesses.clock.now().timestamp()),
            model=route.name,
            with_usage=asked.include_usage,
        )
        response = _stream(exchange, shape) if asked.stream else _whole(exchange, shape)
        response.headers["x-model-version"] = route.model_digest
        response.headers["x-sealift-phi"] = _replaced(masked, arrival.key.phi_mode)
        if asked.ignored:
            response.headers["x-sealift-ignored"] = ", ".join(asked.ignored)
        return response

    def _require_fits(self, asked: Asked, upstream: Upstream) -> None:
        """Refuse a request above the input limit; the engine counts only where the length alone does not tell."""
        messages = [message.to_engine() for message in asked.messages]
        texts = [asked.prompt, *(message.content or "" for message in asked.messages)]
        at_most = sum(len(text.encode()) for text in texts) + _TEMPLATE_TOKENS * (len(messages) + 1)
        if at_most <= self.limits.input_tokens:
            return
        try:
            count = (
                upstream.client.tokenize(messages=messages)
                if messages
                else upstream.client.tokenize(prompt=asked.prompt)
            )
        except EngineRefusedError as error:
            if error.http_status == 404:  # a foreign engine cannot count for us, and keeps its own context limit
                return
            raise
        if count > self.limits.input_tokens:
            raise problems.Problem(
                400,
                "context_length_exceeded",
                f"The request has {count} tokens; the limit is {self.limits.input_tokens}.",
                param="messages" if messages else "prompt",
            )

    def _begin(self, arrival: Arrival, asked: Asked, masked: Masked, *, route: Route, upstream: Upstream) -> Exchange:
        person = user_hash(asked.user or arrival.user, self.keys)
        decision = decide(arrival.label, has_phi=bool(masked.counts))
        tokens = SealedTokens(masked.tokens, keys=self.keys, request_id=arrival.request_id)
        with ExitStack() as undo:
            self.slots.take()
            undo.callback(self.slots.give_back)
            call = upstream.start(_ROUTES[arrival.endpoint], engine_body(asked, route))
            undo.callback(call.close)
            sequence = self.witnesses.recorder.intent(
                Intent(
                    request_id=arrival.request_id,
                    endpoint=arrival.endpoint,
                    key_id=arrival.key.key_id,
                    certificate=arrival.certificate,
                    department=arrival.key.department,
                    user_hash=person,
                    route=route,
                    decision=decision,
                    phi=masked.counts,
                    phi_mode=arrival.key.phi_mode,
                    stream=asked.stream,
                    body=arrival.body,
                )
            )
            unwatch = self.watch.watch(arrival.environ, call.cancel)
            undo.pop_all()
        facts = Facts(
            request_id=arrival.request_id,
            endpoint=arrival.endpoint,
            model=route.name,
            department=arrival.key.department,
            user_hash=person,
            prompt_characters=len(asked.prompt) + sum(len(one.content or "") for one in asked.messages),
            stream=asked.stream,
        )
        return Exchange(
            facts,
            intent_sequence=sequence,
            began=arrival.began,
            call=call,
            tokens=tokens,
            release=_both(unwatch, self.slots.give_back),
            witnesses=self.witnesses,
        )


def engine_body(asked: Asked, route: Route) -> dict[str, Any]:
    """Return what the engine is asked: explicit values only, so that no engine's own default decides."""
    body: dict[str, Any] = {
        "model": route.model_digest,
        "stream": asked.stream,
        "max_tokens": asked.max_tokens,
        "temperature": route.temperature if asked.temperature is None else asked.temperature,
        "top_p": route.top_p if asked.top_p is None else asked.top_p,
    }
    if asked.endpoint is Endpoint.CHAT:
        body["messages"] = [message.to_engine() for message in asked.messages]
    else:
        body["prompt"] = asked.prompt
    if asked.stream:
        body["stream_options"] = {"include_usage": True}
    optional = {
        "seed": asked.seed,
        "stop": list(asked.stop) or None,
        "tools": list(asked.tools) or None,
        "tool_choice": asked.tool_choice,
        "parallel_tool_calls": asked.parallel_tool_calls,
    }
    return body | {name: value for name, value in optional.items() if value is not None}


def _whole(exchange: Exchange, shape: Shape) -> Response:
    try:
        untrusted = exchange.call.answer()
        assembly = exchange.assembly()
        for part in parts_of(untrusted):
            for _ in assembly.take(part):
                pass
        for _ in assembly.close():
            pass
        exchange.succeed()
    except Exception as error:  # noqa: BLE001 - whatever happens, the outcome is recorded
        raise exchange.fail(error) from None
    return Response(json.dumps(shape.whole(assembly)), mimetype="application/json")


def _stream(exchange: Exchange, shape: Shape) -> Response:
    try:
        exchange.call.opened()
    except Exception as error:  # noqa: BLE001 - as above
        raise exchange.fail(error) from None
    return Response(AnswerStream(exchange, shape), mimetype=sse.MIMETYPE, headers=sse.HEADERS, direct_passthrough=True)


def _replaced(masked: Masked, mode: PhiMode) -> str:
    if mode is PhiMode.PASS or not masked.counts:
        return "none"
    return ", ".join(f"{one.value}={masked.counts[one]}" for one in PhiClass if one in masked.counts)


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        first()
        second()

    return call
