"""Answers one request that is already authenticated: the whole order of things on one screen.

Read it strictly, find its route, protect identifiers, classify, take a place, let the engine begin, have the intent
recorded, and only then read what the engine says. Before the intent a failure is a refusal; after it, an outcome.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from flask import Response
from werkzeug.http import http_date

from appliance.config import LimitsSection, PolicySection
from appliance.errors import EngineRefusedError
from appliance.gateway import problems
from appliance.gateway.admission import Admission, Place, Wish, wish_of
from appliance.gateway.arms import Began, Caller, Chosen, caller_of, choose
from appliance.gateway.auth import ApiKey
from appliance.gateway.classification import decide
from appliance.gateway.conversations import Conversations
from appliance.gateway.dialect import About, Dialect, Writer
from appliance.gateway.disconnect import DisconnectWatch
from appliance.gateway.engine_body import engine_body
from appliance.gateway.exchange import Exchange, Facts, Witnesses
from appliance.gateway.identity import user_hash
from appliance.gateway.parameters import Asked, Endpoint
from appliance.gateway.protection import protected
from appliance.gateway.quotas import Held, Quotas
from appliance.gateway.reading import parts_of
from appliance.gateway.record import Intent
from appliance.gateway.routing import Route, Routes, Serving, require_serving
from appliance.gateway.streaming import AnswerStream
from appliance.gateway.suspicion import Suspicion, require_unsuspicious
from appliance.gateway.upstream import Upstream, Upstreams
from appliance.keys.provider import KeyProvider
from appliance.phi.detect import Detector
from appliance.phi.patterns import PhiClass
from appliance.phi.policy import PhiMode
from appliance.phi.tokens import Masked
from appliance.phi.vault import SealedTokens
from appliance.standby.permit import Permit
from media.clock import from_text
from media.errors import SealiftError

# A token covers at least one byte of text; a chat template adds a few around each message.
_TEMPLATE_TOKENS: Final = 32
_ROUTES: Final = {Endpoint.CHAT: "/v1/chat/completions", Endpoint.COMPLETIONS: "/v1/completions"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Come:
    """A request as it came, and who sent it; without a `wish` its headers say what it asks of the queue.

    Attributes:
        body: Its bytes, as they are recorded; `untrusted` is the JSON object in them.
    """

    request_id: str
    began: float
    key: ApiKey
    certificate: str
    body: bytes
    untrusted: Mapping[str, Any]
    label: str
    user: str
    environ: Mapping[str, Any]
    wish: Wish | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival(Come):
    """A request for an answer, and the words in which it came."""

    endpoint: Endpoint
    dialect: Dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """Everything that answering needs; made once for each process."""

    limits: LimitsSection
    routes: Routes
    upstreams: Upstreams
    keys: KeyProvider
    detector: Detector
    admission: Admission
    permit: Permit
    watch: DisconnectWatch
    witnesses: Witnesses
    conversations: Conversations
    quotas: Quotas
    policy: PolicySection

    def answer(self, arrival: Arrival) -> Response:
        """Return the answer.

        Raises:
            Problem: The request is refused, or could not be answered.
            SealiftError: Likewise; `problems.from_error` says which.
        """
        asked = arrival.dialect.read(arrival.untrusted, endpoint=arrival.endpoint, limits=self.limits)
        serving = require_serving(self.routes, asked.model)
        user = asked.user or arrival.user
        caller = caller_of(asked, key_id=arrival.key.key_id, user=user, keys=self.keys)
        began = None
        if serving.is_split and caller.goes_on:
            began = self.conversations.began(serving, caller.conversation)
        chosen = choose(serving, caller, began)
        try:
            response = self._answer(arrival, asked, caller, chosen, serving)
        except Exception as error:
            problem = problems.from_error(error)
            if problem.recorded or problem.code == "internal_error":
                raise
            problem.arm, problem.assigned = chosen.arm.value, chosen.assigned.value
            raise problem from error
        if chosen.notice:
            response.headers["x-sealift-leaves"] = chosen.notice
            response.headers["sunset"] = http_date(from_text(chosen.notice))
        return response

    def _answer(self, arrival: Arrival, asked: Asked, caller: Caller, chosen: Chosen, serving: Serving) -> Response:
        route = chosen.route
        if asked.tools and not route.has_tools:
            raise problems.invalid("tools", "The engine does not call functions.", code="unsupported_parameter")
        flagged = require_unsuspicious(
            asked, injection=Suspicion(self.policy.injection), code=Suspicion(self.policy.code)
        )
        self.witnesses.metrics.flagged(flagged)
        masked_asked, masked = protected(asked, mode=arrival.key.phi_mode, detector=self.detector)
        self.witnesses.metrics.found(arrival.key.department, masked.counts)
        upstream = self.upstreams.to(route.socket)
        prompt = self._fitting(masked_asked, upstream)
        held = self.quotas.hold(arrival.key.key_id, arrival.key.tier, prompt=prompt, answer=asked.max_tokens)
        try:
            exchange, place = self._begin(
                arrival,
                masked_asked,
                masked,
                caller=caller,
                chosen=chosen,
                upstream=upstream,
                held=held,
                flagged=flagged,
            )
        except BaseException:
            with suppress(SealiftError):
                self._settle(held, 0, "")  # nothing was answered
            raise
        if serving.is_split:
            began = Began(model_digest=route.model_digest, assigned=chosen.assigned.value)
            self.conversations.note(serving, caller.conversation, began)
        writer = arrival.dialect.writer(
            About(
                endpoint=asked.endpoint,
                request_id=arrival.request_id,
                model=route.name,
                clock=self.witnesses.clock,
                began=arrival.began,
                with_usage=asked.include_usage,
            )
        )
        response = _stream(exchange, writer) if asked.stream else _whole(exchange, writer)
        response.headers["x-model-version"] = route.model_digest
        response.headers.extend(held.headers if held else {})
        response.headers.extend(place.headers())
        response.headers["x-sealift-phi"] = _replaced(masked, arrival.key.phi_mode)
        if flagged:
            response.headers["x-sealift-flagged"] = ", ".join(flagged)
        if asked.ignored:
            response.headers["x-sealift-ignored"] = ", ".join(asked.ignored)
        return response

    def _settle(self, held: Held | None, tokens: int | None, delivered: str) -> None:
        if held is not None:
            self.quotas.settle(held, tokens, delivered=delivered)

    def _fitting(self, asked: Asked, upstream: Upstream) -> int:
        """Return how many tokens a prompt has at most; the engine counts only where its length alone does not tell.

        Raises:
            Problem: They are above the input limit.
        """
        messages = [message.to_engine() for message in asked.messages]
        texts = [asked.prompt, *(message.content or "" for message in asked.messages)]
        at_most = sum(len(text.encode()) for text in texts) + _TEMPLATE_TOKENS * (len(messages) + 1)
        if at_most <= self.limits.input_tokens:
            return at_most
        try:
            count = (
                upstream.client.tokenize(messages=messages)
                if messages
                else upstream.client.tokenize(prompt=asked.prompt)
            )
        except EngineRefusedError as error:
            if error.http_status == 404:  # a foreign engine cannot count for us, and keeps its own context limit
                return at_most
            raise
        if count > self.limits.input_tokens:
            raise problems.Problem(
                400,
                "context_length_exceeded",
                f"The request has {count} tokens; the limit is {self.limits.input_tokens}.",
                param="messages" if messages else "prompt",
            )
        return count

    def _begin(
        self,
        arrival: Arrival,
        asked: Asked,
        masked: Masked,
        *,
        caller: Caller,
        chosen: Chosen,
        upstream: Upstream,
        held: Held | None,
        flagged: tuple[str, ...],
    ) -> tuple[Exchange, Place]:
        route = chosen.route
        person = user_hash(asked.user or arrival.user, self.keys)
        decision = decide(arrival.label, has_phi=bool(masked.counts))
        tokens = SealedTokens(masked.tokens, keys=self.keys, request_id=arrival.request_id)
        with ExitStack() as undo:
            place = self._place(arrival, route)
            undo.callback(place.give_back)
            call = upstream.start(_ROUTES[asked.endpoint], engine_body(asked, route))
            undo.callback(call.close)
            sequence = self.witnesses.recorder.intent(
                Intent(
                    request_id=arrival.request_id,
                    endpoint=asked.endpoint,
                    key_id=arrival.key.key_id,
                    certificate=arrival.certificate,
                    department=arrival.key.department,
                    user_hash=person,
                    chosen=chosen,
                    caller=caller,
                    decision=decision,
                    phi=masked.counts,
                    phi_mode=arrival.key.phi_mode,
                    flagged=flagged,
                    stream=asked.stream,
                    body=arrival.body,
                )
            )
            unwatch = self.watch.watch(arrival.environ, call.cancel)
            undo.pop_all()
        facts = Facts(
            request_id=arrival.request_id,
            endpoint=asked.endpoint,
            model=route.name,
            arm=chosen.arm.value,
            department=arrival.key.department,
            user_hash=person,
            prompt_characters=len(asked.prompt) + sum(len(one.content or "") for one in asked.messages),
            stream=asked.stream,
        )
        exchange = Exchange(
            facts,
            intent_sequence=sequence,
            began=arrival.began,
            call=call,
            tokens=tokens,
            release=_both(unwatch, place.give_back),
            settle=partial(self._settle, held),
            witnesses=self.witnesses,
        )
        return exchange, place

    def _place(self, arrival: Arrival, route: Route) -> Place:
        """Return a place; what may have changed while the request waited for it is asked again.

        Raises:
            Problem: There is none in time, the caller left, or what was to answer does not any more.
            NotActiveError: Another box serves now.
        """
        wish = arrival.wish or wish_of(arrival.environ, tier=arrival.key.tier, limits=self.limits)
        place = self.admission.take(wish, partial(self.watch.watch, arrival.environ))
        if place.position:
            try:
                self.permit.require()
                if self.routes.is_stopped(key_id=arrival.key.key_id, department=arrival.key.department):
                    raise problems.stopped()
                serving = self.routes.serving()
                if serving is None or route.model_digest not in {one.model_digest for one in serving.routes}:
                    raise problems.moved_on()
            except BaseException:
                place.give_back()
                raise
        return place


def _whole(exchange: Exchange, writer: Writer) -> Response:
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
    return Response(json.dumps(writer.whole(assembly)), mimetype="application/json")


def _stream(exchange: Exchange, writer: Writer) -> Response:
    try:
        exchange.call.opened()
    except Exception as error:  # noqa: BLE001 - as above
        raise exchange.fail(error) from None
    stream = AnswerStream(exchange, writer)
    return Response(stream, mimetype=writer.mimetype, headers=writer.headers, direct_passthrough=True)


def _replaced(masked: Masked, mode: PhiMode) -> str:
    if mode is PhiMode.PASS or not masked.counts:
        return "none"
    return ", ".join(f"{one.value}={masked.counts[one]}" for one in PhiClass if one in masked.counts)


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        first()
        second()

    return call
