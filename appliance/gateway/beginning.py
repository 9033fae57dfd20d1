"""From a request that is read and protected to an answer that begins: a place, the engine, the recorded intent.

In this order, for every kind of request; what is known needs neither place nor engine. The engine begins while the
intent is being recorded and is cancelled where the record fails; whatever was taken is given back when a step fails. Of
a whole answer no byte leaves before its outcome is recorded, so whoever asks for one waits for the intent where the
engine is waited for (`Exchange.answer`).
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from appliance.config import LimitsSection
from appliance.errors import EngineUnavailableError
from appliance.gateway import problems
from appliance.gateway.admission import NO_PLACE, Admission, GiveBack, Place, Wish, wish_of
from appliance.gateway.arms import Caller, Chosen
from appliance.gateway.auth import ApiKey, ApiKeys
from appliance.gateway.caches import HIT
from appliance.gateway.calls import EngineCall
from appliance.gateway.classification import decide
from appliance.gateway.disconnect import DisconnectWatch
from appliance.gateway.exchange import CALLER_LEFT, Exchange, Facts, Witnesses
from appliance.gateway.identity import user_hash
from appliance.gateway.limits import at_once
from appliance.gateway.problems import Problem
from appliance.gateway.queueing import Priority
from appliance.gateway.quotas import Held, Quotas
from appliance.gateway.record import Intent
from appliance.gateway.routing import Route, Routes
from appliance.keys.provider import KeyProvider
from appliance.phi.patterns import PhiClass
from appliance.phi.policy import PhiMode
from appliance.phi.tokens import TokenMap
from appliance.phi.vault import SealedTokens
from appliance.standby.permit import Permit


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
    task: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is put to an engine, and what records say about it.

    Attributes:
        user: The person it is for, as the request names them.
        phi: What was replaced or found, and `tokens`, what puts it back.
        characters: How long the texts are.
        cache: What a cache gave of the answer: `hit`, `part`; nothing where an engine makes all of it. A `hit` asks no
            engine, so it takes no place; a stream does, since places bound how many are read at once.
        prompts: How many there are, which the engine is asked in turn.
        start: Sends it; called when there is a place.
        keep: Told of a whole answer whose outcome is durable.
        is_whole: Whether the answer is read by `Exchange.answer`, which waits for the intent.
        wish: What it asks of the queue, where that is known already.
    """

    endpoint: str
    chosen: Chosen
    caller: Caller
    user: str
    phi: Mapping[PhiClass, int]
    tokens: TokenMap
    characters: int
    stream: bool = False
    is_whole: bool = False
    flagged: tuple[str, ...] = ()
    cache: str = ""
    prompts: int = 1
    start: Callable[[], EngineCall]
    keep: Callable[[], None] = lambda: None
    wish: Wish | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Everything that beginning an answer needs; made once for each process."""

    limits: LimitsSection
    routes: Routes
    keys: KeyProvider
    api_keys: ApiKeys
    admission: Admission
    permit: Permit
    watch: DisconnectWatch
    witnesses: Witnesses
    quotas: Quotas

    def begin(self, come: Come, question: Question, held: Held | None) -> tuple[Exchange, Place]:
        """Return the answer that begins, and the place that it has: none where no engine is asked.

        Raises:
            Problem: There is no place, or what was to answer does not any more.
            LedgerUnavailableError: The intent is not recorded, so there is no answer; for what is read whole,
                `Exchange.answer` may find that out.
            EngineUnavailableError: Nobody listens.
        """
        route = question.chosen.route
        person = user_hash(question.user, self.keys)
        decision = decide(come.label, has_phi=bool(question.phi))
        tokens = SealedTokens(question.tokens, keys=self.keys, request_id=come.request_id)
        wish = question.wish or come.wish or wish_of(come.environ, tier=come.key.tier, limits=self.limits)
        with ExitStack() as undo:
            is_known = question.cache == HIT and not question.stream
            place = NO_PLACE if is_known else self._place(come, route, question, wish)
            undo.callback(place.give_back)
            if self.watch.is_ending:  # a place that an answer which was broken off gave back
                raise problems.ending()
            try:
                call = question.start()
            except EngineUnavailableError:
                if self.watch.is_stopping:  # it stops, too
                    raise problems.ending() from None
                raise
            undo.callback(call.close)
            # Before anything waits for the ledger: whoever leaves meanwhile stops the engine, too.
            unwatch = self.watch.watch(come.environ, call.cancel)
            undo.callback(unwatch)
            intent = self.witnesses.recorder.intent(
                Intent(
                    request_id=come.request_id,
                    endpoint=question.endpoint,
                    key_id=come.key.key_id,
                    certificate=come.certificate,
                    department=come.key.department,
                    user_hash=person,
                    chosen=question.chosen,
                    caller=question.caller,
                    decision=decision,
                    phi=question.phi,
                    phi_mode=come.key.phi_mode,
                    flagged=question.flagged,
                    stream=question.stream,
                    cache=question.cache,
                    body=come.body,
                )
            )
            undo.callback(intent.give_up)
            if not question.is_whole:
                intent.wait()
            undo.pop_all()
        facts = Facts(
            request_id=come.request_id,
            endpoint=question.endpoint,
            model=route.name,
            arm=question.chosen.arm.value,
            department=come.key.department,
            user_hash=person,
            prompt_characters=question.characters,
            stream=question.stream,
            is_batch=wish.priority is Priority.BATCH,
        )
        give_back = _measured(place.give_back, is_measured=question.cache != HIT)
        exchange = Exchange(
            facts,
            intent=intent,
            began=come.began,
            call=call,
            tokens=tokens,
            release=_both(unwatch, give_back),
            settle=partial(self.settle, held),
            witnesses=self.witnesses,
        )
        if question.prompts == 1:
            exchange.asks_once()
        exchange.when_whole(question.keep)
        exchange.frees_with(partial(give_back, answered=True))
        exchange.stops_with(lambda: self.watch.is_ending, is_stopping=lambda: self.watch.is_stopping)
        return exchange, place

    def settle(self, held: Held | None, tokens: int | None, delivered: str) -> None:
        """Set right what was charged for a request.

        Raises:
            StoreDamagedError, DatabaseError: The counters cannot be written.
        """
        if held is not None:
            self.quotas.settle(held, tokens, delivered=delivered)

    def _place(self, come: Come, route: Route, question: Question, wish: Wish) -> Place:
        """Return a place; what may have changed while the request waited for it is asked again.

        Raises:
            Problem: There is none in time, the caller left, or what was to answer does not any more.
            NotActiveError: Another box serves now.
        """
        line = self.routes.lines().line_of(route.model_digest)
        most = at_once(come.key.tier, self.limits.key_concurrent_requests)
        watch = partial(self.watch.watch, come.environ)
        try:
            place = self.admission.take(
                wish,
                watch,
                caller=come.key.key_id,
                most=most,
                line=line,
                model=route.name,
                kind=f"{question.endpoint} {route.name}{f' x{question.prompts}' if question.prompts > 1 else ''}",
            )
        except Problem as problem:
            if problem.status == CALLER_LEFT and self.watch.is_ending:
                raise problems.ending() from None
            raise
        if place.position:
            try:
                self.require_still(come, route)
            except BaseException:
                place.give_back()
                raise
        return place

    def require_still(self, come: Come, route: Route) -> None:
        """Return where what was true when a request came is true: asked after it waited, and before more is asked.

        Raises:
            Problem: Its key was stopped, revoked or ended meanwhile, or what was to answer does not any more.
            NotActiveError: Another box serves now.
        """
        self.permit.require()
        if self.api_keys.lookup(come.key.key_id) is None:
            raise problems.unauthorized()
        if self.routes.is_stopped(key_id=come.key.key_id, department=come.key.department):
            raise problems.stopped()
        if route.model_digest not in self.routes.lines().loaded:
            raise problems.moved_on()


def replaced(counts: Mapping[PhiClass, int], mode: PhiMode) -> str:
    """Return what `x-sealift-phi` says."""
    if mode is PhiMode.PASS or not counts:
        return "none"
    return ", ".join(f"{one.value}={counts[one]}" for one in PhiClass if one in counts)


def _measured(give_back: GiveBack, *, is_measured: bool) -> GiveBack:
    """Return what gives a place back, whose time counts where an engine was asked."""

    def release(*, answered: bool = False) -> None:
        give_back(answered=answered and is_measured)

    return release


def _both(unwatch: Callable[[], None], give_back: GiveBack) -> GiveBack:
    def release(*, answered: bool = False) -> None:
        unwatch()
        give_back(answered=answered)

    return release
