"""A whole answer is read while its intent is being recorded, and goes nowhere before both records are durable."""

import os
import select
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import pytest

from appliance.audit.facts import Appended, Sent
from appliance.errors import LedgerUnavailableError
from tests.support.engine import Script
from tests.support.gateway import MODEL, Rig

CHAT: Final[dict[str, Any]] = {"model": MODEL, "messages": [{"role": "user", "content": "hello there"}]}
MOMENT: Final = 0.3


class Slow:
    """A record that the ledger answers when a test lets it."""

    def __init__(self, make: Callable[[], Appended]) -> None:
        self._make = make
        self._told, self._tell = os.pipe()

    def let(self) -> None:
        os.write(self._tell, b"!")

    def fileno(self) -> int:
        return self._told

    def wait(self) -> Appended:
        assert select.select([self._told], [], [], 10)[0], "nobody let the ledger answer"
        return self._make()

    def close(self) -> None:
        pass


class Intents:
    """Holds back the records of intents, and makes all others at once."""

    def __init__(self, rig: Rig) -> None:
        self._rig, self._send = rig, rig.ledger.send
        self.sent = threading.Event()
        self.made: Slow | None = None
        self.is_lost = False

    def send(self, kind: str, body: Mapping[str, Any]) -> Sent:
        if kind != "request.intent":
            return self._send(kind, body)
        recorded: list[Appended] = []

        def make() -> Appended:
            if self.is_lost:
                raise LedgerUnavailableError(what="the ledger does not answer", why="it is lost", fix="start it")
            recorded[:] = recorded or [self._rig.ledger.append(kind, body)]
            return recorded[0]

        self.made = Slow(make)
        self.sent.set()
        return self.made

    def let(self) -> None:
        assert self.made is not None
        self.made.let()


@pytest.fixture
def intents(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Intents:
    held = Intents(rig)
    monkeypatch.setattr(rig.ledger, "send", held.send)
    return held


def _asked(rig: Rig, pool: ThreadPoolExecutor, **more: Any) -> "Future[Any]":
    return pool.submit(rig.ask, {**CHAT, **more})


def _kinds(rig: Rig) -> list[str]:
    return [leaf.kind for leaf in rig.ledger.leaves(1, 1000)]


def test_an_answer_that_is_there_first_waits_for_the_intent_and_is_recorded_after_it(
    rig: Rig, intents: Intents
) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = _asked(rig, pool)
        assert intents.sent.wait(60)
        with pytest.raises(TimeoutError):
            asked.result(MOMENT)
        assert _kinds(rig) == []
        intents.let()
        response = asked.result(60)

    assert (response.status_code, b"You said" in response.data) == (200, True)
    assert _kinds(rig) == ["request.intent", "request.outcome"]
    assert [one["intent_sequence"] for one in rig.bodies("request.outcome")] == [1]


def test_an_answer_that_is_there_first_goes_nowhere_when_the_intent_is_lost(rig: Rig, intents: Intents) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = _asked(rig, pool)
        assert intents.sent.wait(60)
        with pytest.raises(TimeoutError):
            asked.result(MOMENT)
        intents.is_lost = True
        intents.let()
        response = asked.result(60)

    assert (response.status_code, response.get_json()["error"]["code"]) == (503, "ledger_unavailable")
    assert b"You said" not in response.data
    assert _kinds(rig) == ["request.refused"]
    assert rig.sample("llm_active_requests", model=MODEL) == 0
    assert rig.sample("vllm:num_requests_running", model_name=MODEL) == 0


def test_an_intent_that_is_lost_while_the_engine_works_ends_it_at_once_and_is_a_refusal(
    rig: Rig, intents: Intents
) -> None:
    rig.engine.script = Script(hold=threading.Event())
    with ThreadPoolExecutor(1) as pool:
        asked = _asked(rig, pool)
        assert intents.sent.wait(60)
        assert rig.engine.started.wait(60)
        intents.is_lost = True
        intents.let()
        response = asked.result(60)

    assert (response.status_code, response.get_json()["error"]["code"]) == (503, "ledger_unavailable")
    assert rig.engine.cancelled.wait(60)
    assert _kinds(rig) == ["request.refused"]  # nothing was answered, so it is no outcome
    assert rig.sample("llm_active_requests", model=MODEL) == 0
    assert rig.sample("vllm:num_requests_running", model_name=MODEL) == 0
    assert rig.sample("llm_requests_total", model=MODEL, endpoint="chat", status="success") is None


def test_a_stream_says_nothing_before_its_intent_is_durable(rig: Rig, intents: Intents) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(
            rig.client.post, "/v1/chat/completions", json={**CHAT, "stream": True}, headers=rig.headers()
        )
        assert intents.sent.wait(60)
        with pytest.raises(TimeoutError):
            asked.result(MOMENT)
        intents.let()
        response = asked.result(60)

    assert b"[DONE]" in response.data
    assert _kinds(rig) == ["request.intent", "request.outcome"]


def test_a_stream_s_caller_who_leaves_while_the_intent_is_made_stops_the_engine_at_once(
    rig: Rig, intents: Intents
) -> None:
    """Scenario: the ledger is slow; nobody waits for it to let an engine go for which nobody is left."""
    rig.engine.script = Script(hold=threading.Event())
    ours, callers = socket.socketpair()
    with ours, callers, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(
            rig.client.post,
            "/v1/chat/completions",
            json={**CHAT, "stream": True},
            headers=rig.headers(),
            environ_overrides={"gunicorn.socket": ours},
        )
        assert intents.sent.wait(60)
        assert rig.engine.started.wait(60)
        callers.close()
        has_ended = rig.engine.cancelled.wait(5)
        intents.let()
        asked.result(60).get_data()

    assert has_ended, "before the ledger has answered"
    assert _kinds(rig) == ["request.intent", "request.outcome"]
    assert [(one["outcome"], one["status"]) for one in rig.bodies("request.outcome")] == [("cancelled", 499)]
