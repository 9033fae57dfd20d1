"""Completions of several prompts: one answer, one place and one record, whose prompts the engine is asked in turn."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import EngineProtocolError
from appliance.gateway import problems
from appliance.gateway.calls import Replayed
from appliance.gateway.prompts import InTurn
from tests.support.echo_gateway import echo_gateway
from tests.support.engine import Script
from tests.support.gateway import MODEL, Rig, events, gateway

PATH = "/v1/completions"
LIST: dict[str, Any] = {"model": MODEL, "prompt": ["one two", "three"]}


def _texts(choices: list[dict[str, Any]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for choice in choices:
        found[choice["index"]] = found.get(choice["index"], "") + choice["text"]
    return found


def _alone(rig: Rig, prompt: str) -> dict[str, Any]:
    return dict(rig.ask({"model": MODEL, "prompt": prompt}, path=PATH).get_json())


def test_each_prompt_is_answered_as_alone_and_numbered_through_whole_and_streamed(rig: Rig) -> None:
    alone = [_alone(rig, prompt) for prompt in LIST["prompt"]]
    before = len(rig.bodies("request.intent"))

    whole = rig.ask(LIST, path=PATH)
    stream = events(rig.ask({**LIST, "stream": True, "stream_options": {"include_usage": True}}, path=PATH).data)

    body = whole.get_json()
    expected = {number: one["choices"][0]["text"] for number, one in enumerate(alone)}
    assert _texts(body["choices"]) == expected
    assert _texts([choice for event in stream[:-1] for choice in event["choices"]]) == expected
    assert body["usage"] == stream[-2]["usage"]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert body["usage"][name] == sum(one["usage"][name] for one in alone)
    assert [choice["finish_reason"] for choice in body["choices"]] == ["stop", "stop"]
    assert stream[-1] == "[DONE]"
    assert len(rig.bodies("request.intent")) == len(rig.bodies("request.outcome")) == before + 2
    assert rig.bodies("request.outcome")[-1]["completion_tokens"] == body["usage"]["completion_tokens"]


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Rig]:
    """A gateway before an engine that gives several answers."""
    with echo_gateway(tmp_path) as running:
        yield running


def test_several_answers_to_each_prompt_stand_behind_one_another(several: Rig) -> None:
    rig = several
    body = rig.ask({**LIST, "n": 2}, path=PATH).get_json()

    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    texts = _texts(body["choices"])
    assert texts[0] == texts[1] != texts[2] == texts[3]


def test_more_answers_than_one_request_may_have_are_refused_by_name(several: Rig) -> None:
    rig = several
    many = rig.ask({**LIST, "prompt": ["a"] * 9}, path=PATH)
    each = rig.ask({**LIST, "n": 5}, path=PATH)

    assert (many.status_code, many.get_json()["error"]["param"]) == (400, "prompt")
    assert (each.status_code, each.get_json()["error"]["param"]) == (400, "n")
    assert rig.ask({**LIST, "n": 4}, path=PATH).status_code == 200


def test_one_identifier_in_two_prompts_is_one_token_and_comes_back_in_both(rig: Rig) -> None:
    prompts = ["SSN 123-45-6789 a", "b SSN 123-45-6789"]

    body = rig.ask({**LIST, "prompt": prompts}, path=PATH)

    assert all("123-45-6789" in text for text in _texts(body.get_json()["choices"]).values())
    assert body.headers["x-sealift-phi"] == "ssn=2"
    assert not any("123-45-6789" in str(leaf.body) for leaf in rig.ledger.leaves(1, 1000))


def test_a_prompt_that_fails_fails_the_answer_and_what_was_delivered_is_recorded(rig: Rig) -> None:
    rig.engine.script = Script(events=({"choices": [{"index": 1, "text": "x", "finish_reason": "stop"}]},))

    stream = events(rig.ask({**LIST, "stream": True}, path=PATH).data)

    assert "error" in stream[-1]
    assert rig.bodies("request.outcome")[-1]["outcome"] == "error"


def test_the_tokens_of_all_prompts_are_held_and_settled(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="tokens_per_day = 400") as rig:
        refused = rig.ask({**LIST, "max_tokens": 200}, path=PATH)
        taken = rig.ask({**LIST, "max_tokens": 100}, path=PATH)

    assert (refused.status_code, refused.get_json()["error"]["code"]) == (429, "insufficient_quota")
    assert taken.status_code == 200


def test_what_is_kept_is_found_for_the_same_prompts_alone(tmp_path: Path) -> None:
    greedy = {**LIST, "temperature": 0}
    with gateway(tmp_path, caches="answers_mib = 1") as rig:
        first = rig.ask(greedy, path=PATH)
        again = rig.ask(greedy, path=PATH)
        streamed = rig.ask({**greedy, "stream": True}, path=PATH)
        others = [
            rig.ask({**greedy, "prompt": prompt}, path=PATH)
            for prompt in (["one two"], ["one two", "four"], ["three", "one two"])
        ]

    assert [one.headers["x-sealift-cache"] for one in (first, again)] == ["miss", "hit"]
    assert _texts(first.get_json()["choices"]) == _texts(again.get_json()["choices"])
    assert streamed.headers["x-sealift-cache"] == "miss"
    assert {one.headers["x-sealift-cache"] for one in others} == {"miss"}


def test_a_caller_that_leaves_in_the_second_prompt_ends_it_and_one_that_left_before_asks_no_third() -> None:
    started: list[int] = []
    said = {"choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]}
    calls = [Replayed((said,)) for _ in range(3)]

    def start(number: int) -> Replayed:
        started.append(number)
        return calls[number]

    call = InTurn([lambda number=number: start(number) for number in range(3)], answers=1)  # type: ignore[misc]
    told = call.events()
    assert [next(told)["choices"][0]["index"] for _ in range(2)] == [0, 1]

    call.cancel()

    assert call.is_cancelled
    assert [one.is_cancelled for one in calls] == [False, True, False]
    assert started == [0, 1]


def test_another_answer_than_was_asked_for_is_no_answer_to_the_next_prompt() -> None:
    wrong = {"choices": [{"index": 1, "text": "x", "finish_reason": "stop"}]}
    call = InTurn([lambda: Replayed((wrong,)), lambda: Replayed((wrong,))], answers=1)

    with pytest.raises(EngineProtocolError, match="broke its contract"):
        call.answer()


def test_tokens_that_one_engine_did_not_count_are_not_told_of_all() -> None:
    said = {"choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]}
    counted = {**said, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}

    assert InTurn([lambda: Replayed((counted,)), lambda: Replayed((said,))], answers=1).answer()["usage"] is None


def test_a_place_is_held_once(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="concurrent_requests = 1\nqueue_length = 1") as rig:
        answers: list[int] = []
        threads = [
            threading.Thread(
                target=lambda: answers.append(
                    rig.app.test_client().post(PATH, json=LIST, headers=rig.headers()).status_code
                )
            )
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    assert answers == [200, 200]


def test_a_prompt_of_nothing_but_control_characters_is_an_empty_one(rig: Rig) -> None:
    for prompts in (["\x01", "abc SSN 123-45-6789"], ["abc", "\x01"], "\x01"):
        refused = rig.ask({"model": MODEL, "prompt": prompts, "stop": "SSN 123-45-6789"}, path=PATH)
        assert (refused.status_code, refused.get_json()["error"]["param"]) == (400, "prompt")
    assert not rig.engine.asked


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_nobodys_identifier_comes_back_in_the_answer_to_another_prompt(rig: Rig, *, stream: bool) -> None:
    """A model that counts from one says `[SSN_1]` of the second person, too."""
    rig.engine.script = Script(text="It is [SSN_1].")
    prompts = ["SSN 123-45-6789", "SSN 234-56-7890"]

    response = rig.ask({**LIST, "prompt": prompts, "stream": stream}, path=PATH)

    told = events(response.data)[:-1] if stream else [response.get_json()]
    texts = _texts([choice for event in told for choice in event["choices"]])
    assert texts == {0: "It is 123-45-6789.", 1: "It is [SSN_1]."}


def test_a_stop_between_two_prompts_asks_no_more() -> None:
    started: list[int] = []
    said = {"choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]}

    def start(number: int) -> Replayed:
        started.append(number)
        return Replayed((said,))

    def stopped() -> None:
        raise problems.stopped()

    call = InTurn([lambda: start(0), lambda: start(1)], answers=1, still=stopped)
    with pytest.raises(problems.Problem):
        call.answer()
    assert started == [0]

    left = InTurn([lambda: start(0), lambda: start(1)], answers=1)
    words = left.events()
    next(words)
    left.cancel()
    with pytest.raises(problems.Problem):
        next(words)
    assert started == [0, 0]


def test_a_later_prompt_that_is_too_long_is_named_as_a_prompt_in_a_stream(rig: Rig) -> None:
    first = Script(events=({"choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]},))
    rig.engine.script = first
    refused = Script(refuse=(400, "context_length_exceeded"))

    def next_script() -> None:
        rig.engine.script = refused

    stream = rig.client.post(PATH, json={**LIST, "stream": True}, headers=rig.headers())
    chunks: Iterator[Any] = iter(stream.response)
    next(chunks)
    next_script()
    rest = events(b"".join(chunks))

    assert rest[-1]["error"]["param"] == "prompt"


def test_a_key_that_is_revoked_between_two_prompts_has_the_next_one_asked_no_more(rig: Rig) -> None:
    """Each prompt may take minutes: whoever takes a key back that leaked means also what it has under way."""
    rig.engine.script = Script(events=({"choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]},))
    stream = rig.client.post(PATH, json={**LIST, "stream": True}, headers=rig.headers())
    chunks: Iterator[Any] = iter(stream.response)
    next(chunks)
    rig.api_keys.known.clear()
    rest = events(b"".join(chunks))

    assert rest[-1]["error"]["code"] == "invalid_api_key"
    assert len(rig.engine.asked) == 1
    assert [one["outcome"] for one in rig.bodies("request.outcome")] == ["error"]
