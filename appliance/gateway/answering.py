"""Answers one request that is already authenticated: the whole order of things on one screen.

Read it strictly, find its route, protect identifiers, classify, take a place, let the engine begin, have the intent
recorded, and only then let out what the engine says. Before the intent a failure is a refusal; after it, an outcome.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from flask import Response
from werkzeug.datastructures import Headers
from werkzeug.http import http_date

from appliance.config import LimitsSection, PolicySection
from appliance.enginesections import RouterRule
from appliance.gateway import problems
from appliance.gateway.arms import Began, Caller, Chosen, caller_of, choose, choose_routed, note
from appliance.gateway.beginning import Beginning, Come, Question, replaced
from appliance.gateway.caches import HEADER, HIT, Before, Caches, Place
from appliance.gateway.classification import decide
from appliance.gateway.conversations import Conversations
from appliance.gateway.dialect import About, Dialect, Writer
from appliance.gateway.disconnect import caller_socket, leaving
from appliance.gateway.engine_body import caller_fields, engine_body, with_length
from appliance.gateway.exchange import Exchange, Witnesses
from appliance.gateway.fitting import fitting, require_possible, told_by
from appliance.gateway.fleet import Fleet
from appliance.gateway.fleets import Upstreams
from appliance.gateway.formats import require_kept, require_one_form
from appliance.gateway.lagging import Backlog, Lagging, Reader
from appliance.gateway.modellimits import within
from appliance.gateway.parameters import ASK_FOR_NOTHING, Asked, Endpoint
from appliance.gateway.prompts import asking
from appliance.gateway.protection import protected, texts_of
from appliance.gateway.quotas import Quotas
from appliance.gateway.reading import parts_of
from appliance.gateway.routing import Lines, Route, Routes, Serving
from appliance.gateway.samples import About as Kept
from appliance.gateway.searching import Searched, Searches
from appliance.gateway.streaming import AnswerStream
from appliance.gateway.suspicion import Suspicion, require_unsuspicious
from appliance.keys.provider import KeyProvider
from appliance.registry.router import ALIAS, Query
from appliance.serve.engine import THOUGHTS
from media.clock import from_text
from media.errors import SealiftError

_ENCODER: Final = json.JSONEncoder(check_circular=False)
_ROUTES: Final = {Endpoint.CHAT: "/v1/chat/completions", Endpoint.COMPLETIONS: "/v1/completions"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival(Come):
    """A request for an answer, and the words in which it came."""

    endpoint: Endpoint
    dialect: Dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """Everything that answering needs; made once for each process.

    `is_sticky` keeps a conversation with one engine of its version, where there are several (J16).
    """

    limits: LimitsSection
    routes: Routes
    upstreams: Upstreams
    keys: KeyProvider
    searches: Searches
    beginning: Beginning
    witnesses: Witnesses
    conversations: Conversations
    quotas: Quotas
    policy: PolicySection
    caches: Caches
    is_sticky: bool = True
    rules: Sequence[RouterRule] = ()
    lagging: Lagging = field(default_factory=Lagging)

    def answer(self, arrival: Arrival) -> Response:
        """Return the answer.

        Raises:
            Problem: The request is refused, or could not be answered.
            SealiftError: Likewise; `problems.from_error` says which.
        """
        asked = arrival.dialect.read(arrival.untrusted, endpoint=arrival.endpoint, limits=self.limits.widest())
        lines = self.routes.lines()
        self.caches.follow(lines)
        meant = lines.meant(asked.model)
        user = asked.user or arrival.user
        caller = caller_of(asked, key_id=arrival.key.key_id, user=user, keys=self.keys)
        searched = self._searched_for_rules(arrival, asked)
        found = None if searched is None else self._routed(arrival, asked, lines, searched)
        serving, chosen = found or self._in_line(meant, caller)
        try:
            response = self._answer(arrival, asked, caller, chosen, serving, searched)
        except Exception as error:
            problem = asked.in_own_words(problems.from_error(error))
            problem.line, problem.asked_version = serving.line, chosen.route.model_digest
            if problem.recorded or problem.code == "internal_error":
                raise
            note(problem, serving, chosen)
            raise problem from error
        if chosen.notice:
            response.headers["x-sealift-leaves"] = chosen.notice
            response.headers["sunset"] = http_date(from_text(chosen.notice))
        return response

    def _answer(
        self,
        arrival: Arrival,
        asked: Asked,
        caller: Caller,
        chosen: Chosen,
        serving: Serving,
        searched: Searched | None,
    ) -> Response:
        route = chosen.route
        limits = self.limits.of(route.name)
        asked = self._required(asked, route, limits)
        flagged = require_unsuspicious(
            asked, injection=Suspicion(self.policy.injection), code=Suspicion(self.policy.code)
        )
        self.witnesses.metrics.flagged(flagged)
        if searched is None:
            searched = self.searches.of(arrival, [texts_of(asked)])
        if searched.has_waited:
            self.beginning.require_still(arrival, route)
        (masked,) = searched.masked
        masked_asked = protected(asked, masked, mode=arrival.key.phi_mode)
        self.witnesses.metrics.found(arrival.key.department, masked.counts)
        upstream = self.upstreams.to(route.socket, places=route.places)
        left = leaving(arrival.environ)
        masked_asked = _taken(masked_asked, upstream, left)
        prompt = sum(fitting(one, upstream, limits.input_tokens, left) for one in masked_asked.of_one_prompt())
        body = engine_body(masked_asked, route)
        wish = searched.wish
        of_caller = caller_fields(route, key_id=arrival.key.key_id, keys=self.keys, priority=wish.priority)
        still = partial(self.beginning.require_still, arrival, route)
        starting = partial(
            upstream.start,
            _ROUTES[asked.endpoint],
            session=caller.conversation if self.is_sticky else "",
            goes_on=caller.goes_on,
            left=left,
            still=still,
        )
        start = asking(starting, body | of_caller, masked_asked, still=still)
        before = Before(self.caches.answers, self._kept_at(arrival, body, masked_asked, route), start)
        question = Question(
            endpoint=asked.endpoint,
            chosen=chosen,
            caller=caller,
            user=asked.user or arrival.user,
            phi=masked.counts,
            tokens=masked.tokens,
            characters=sum(map(len, asked.prompts)) + sum(len(one.content or "") for one in asked.messages),
            stream=asked.stream,
            is_whole=not asked.stream,
            flagged=flagged,
            cache=HIT if before.result == HIT else "",
            wish=wish,
            prompts=max(len(asked.prompts), 1),
            start=before.start,
            keep=before.keep,
        )
        most = asked.max_tokens * asked.all_answers
        held = self.quotas.hold(arrival.key.key_id, arrival.key.tier, prompt=prompt, answer=most)
        try:
            exchange, place = self.beginning.begin(arrival, question, held)
        except BaseException:
            with suppress(SealiftError):
                self.beginning.settle(held, 0, "")  # nothing was answered
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
                answers=asked.all_answers,
            )
        )
        kept = Kept(
            request_id=arrival.request_id,
            subject=asked.user or arrival.user,
            department=arrival.key.department,
            model_digest=route.model_digest,
            endpoint=asked.endpoint.value,
        )
        self.witnesses.samples.choose(asked, kept, label=arrival.label)
        response = (partial(self._stream, place.is_wanted) if asked.stream else _whole)(
            exchange, writer, masked_asked, arrival
        )
        told = {"x-model-version": route.model_digest, **(held.headers if held else {}), **place.headers()}
        if chosen.rule:
            told["x-sealift-rule"] = chosen.rule
        told["x-sealift-phi"] = replaced(masked.counts, arrival.key.phi_mode)
        if before.result:
            told[HEADER] = before.result
        if flagged:
            told["x-sealift-flagged"] = ", ".join(flagged)
        if asked.ignored:
            told["x-sealift-ignored"] = ", ".join(asked.ignored)
        for name, value in told.items():
            response.headers.add(name, value)
        return response

    def _required(self, asked: Asked, route: Route, limits: LimitsSection) -> Asked:
        """Return the request with the length that its answer may have.

        Raises:
            Problem: The model's limits do not allow it, or its engine does not do what it asks.
        """
        asked = with_length(within(asked, limits) if self.limits.models else asked, route, limits)
        if not route.has_tools:
            _require_no_tools(asked)
        require_one_form(asked.response_format, asked.tools, has_calls=asked.tool_choice != "none")
        if route.engine == "llama.cpp":
            require_kept(asked.response_format, asked.tools)
        require_possible(asked, limits.input_tokens, context=route.context)
        return asked

    def _stream(
        self, is_wanted: Callable[[], bool], exchange: Exchange, writer: Writer, asked: Asked, arrival: Arrival
    ) -> Response:
        try:
            exchange.call.opened()
        except Exception as error:  # noqa: BLE001 - whatever happens, the outcome is recorded
            raise exchange.fail(error) from None
        caller, clock = caller_socket(arrival.environ), self.witnesses.clock
        watch = self.beginning.watch
        reader = Reader(
            caller,
            clock=clock,
            has_left=lambda: exchange.call.is_cancelled,
            is_hurried=lambda: watch.is_stopping or (not backlog.has_room and is_wanted()),
        )
        backlog = Backlog(reader, self.lagging, key_id=arrival.key.key_id)
        stream = AnswerStream(exchange, writer, asked, backlog)
        return Response(stream, mimetype=writer.mimetype, headers=writer.headers, direct_passthrough=True)

    def _in_line(self, serving: Serving | None, caller: Caller) -> tuple[Serving, Chosen]:
        if serving is None:
            raise problems.line_stopped()
        began = None
        if serving.is_split and caller.goes_on:
            began = self.conversations.began(serving, caller.conversation)
        return serving, choose(serving, caller, began)

    def _searched_for_rules(self, arrival: Arrival, asked: Asked) -> Searched | None:
        """Return what was found in a request whose caller leaves the model to the site's rules; None of another."""
        if asked.model != ALIAS or not self.rules:
            return None
        require_possible(asked, self.limits.widest().input_tokens)
        return self.searches.of(arrival, [texts_of(asked)])

    def _routed(
        self, arrival: Arrival, asked: Asked, lines: Lines, searched: Searched
    ) -> tuple[Serving, Chosen] | None:
        """Return what the site's rules choose; None where none applies."""
        (masked,) = searched.masked
        begins = []
        for message in asked.messages:
            begins.append(message.content or "")
            if message.role == "user":
                break
        query = Query(
            department=arrival.key.department,
            data_class=decide(arrival.label, has_phi=bool(masked.counts)).data_class.value,
            task=arrival.task,
            endpoint=asked.endpoint.value,
            characters=sum(map(len, asked.prompts)) + sum(map(len, begins)),
        )
        return choose_routed(lines, self.rules, query, key_id=arrival.key.key_id)

    def _kept_at(self, arrival: Arrival, body: Mapping[str, Any], asked: Asked, route: Route) -> Place | None:
        """Return where the answer is kept; None where nothing may be: only greedy answers come out alike (X21)."""
        if not self.caches.answers.is_on or body["temperature"] != 0:
            return None
        day = self.witnesses.clock.now().date()  # templates tell it to models, in UTC
        return self.caches.place(
            key_id=arrival.key.key_id,
            model_digest=route.model_digest,
            policy=f"{arrival.endpoint} {self.policy.injection} {self.policy.code} {day}",
            mode=arrival.key.phi_mode,
            asked={**body, "prompt": list(asked.prompts)} if asked.more_prompts else body,
        )


def _require_no_tools(asked: Asked) -> None:
    """Refuse functions, and calls of them, where the engine calls none.

    Raises:
        Problem: There are some.
    """
    if asked.tools:
        raise problems.invalid("tools", "The engine does not call functions.", code="unsupported_parameter")
    if any(one.tool_calls or one.role == "tool" for one in asked.messages):
        message = "The engine does not call functions, so it reads no calls and no answers to them."
        raise problems.invalid("messages", message, code="unsupported_parameter")


def _taken(asked: Asked, upstream: Fleet, left: Callable[[], bool]) -> Asked:
    """Return a request without the words beyond OpenAI's that ask for nothing and that the engine does not take.

    Raises:
        Problem: It does not take one that asks for something: another's engine, or one of a release from before.
    """
    if not asked.beyond_openai and not asked.thinks:
        return asked
    takes = told_by(upstream, lambda engine: engine.status().takes, left) or frozenset()
    if asked.thinks and THOUGHTS not in takes:
        raise problems.no_thoughts()
    for name, value in asked.beyond_openai.items():
        if name not in takes and value != ASK_FOR_NOTHING[name]:
            raise problems.invalid(name, "The engine does not take it.", code="unsupported_parameter")
    return replace(asked, beyond_openai={name: said for name, said in asked.beyond_openai.items() if name in takes})


class WholeResponse(Response):
    """A whole answer: its headers leave as they are, which name its length and no place that is to be made absolute."""

    def get_wsgi_headers(self, environ: Mapping[str, Any]) -> Headers:  # noqa: ARG002 - as the base has it
        """Return the headers; see `werkzeug.Response`."""
        return self.headers


def _whole(exchange: Exchange, writer: Writer, asked: Asked, _arrival: Arrival) -> Response:
    try:
        untrusted = exchange.answer()
        assembly = exchange.assembly()
        assembly.expect(asked)
        for part in parts_of(untrusted):
            for _ in assembly.take(part):
                pass
        for _ in assembly.close():
            pass
        text = _ENCODER.encode(writer.whole(assembly))
        exchange.succeed()
    except Exception as error:  # noqa: BLE001 - whatever happens, the outcome is recorded
        exchange.withdraw()
        raise exchange.fail(error) from None
    response = WholeResponse(text, content_type="application/json")
    if assembly.usage is not None and assembly.usage.dropped_tokens:
        response.headers["x-sealift-dropped-tokens"] = str(assembly.usage.dropped_tokens)
    return response
