"""Answers that were given before, through the whole gateway: who gets them, what is recorded, when they are gone."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.phi.policy import PhiMode
from tests.support.engine import Script
from tests.support.gateway import MODEL, Rig, events, gateway, key_text, said

HEADER = "x-sealift-cache"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with gateway(tmp_path, caches="answers_mib = 1") as running:
        yield running


def generations(rig: Rig) -> int:
    return sum(route.endswith("completions") for route, _ in rig.engine.asked)


def content(response: Any) -> Any:
    assert response.status_code == 200
    return response.get_json()["choices"][0]["message"]["content"]


def test_it_is_off_where_the_site_does_not_ask_for_it(tmp_path: Path) -> None:
    with gateway(tmp_path) as rig:
        first, second = (rig.chat("hello", temperature=0) for _ in range(2))
        asked = generations(rig)

    assert asked == 2
    assert HEADER not in first.headers
    assert HEADER not in second.headers


def test_the_same_question_at_temperature_0_is_answered_from_memory(rig: Rig) -> None:
    first, second = rig.chat("hello", temperature=0), rig.chat("hello", temperature=0)

    assert content(first) == content(second) == "You said: hello"
    assert (first.headers[HEADER], second.headers[HEADER]) == ("miss", "hit")
    assert first.get_json()["usage"] == second.get_json()["usage"]
    assert first.get_json()["id"] != second.get_json()["id"]
    assert generations(rig) == 1


def test_a_schema_in_another_order_is_another_question(rig: Rig) -> None:
    """Properties come in the order of the schema: a verdict before its reasons is no answer to who asks for both."""

    def ask(*names: str) -> Any:
        schema = {
            "type": "object",
            "properties": {name: {"type": "string"} for name in names},
            "required": sorted(names),
        }
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "temperature": 0}
        # As it is written: the test client's own JSON sorts names.
        data = json.dumps({**body, "response_format": form})
        return rig.client.post("/v1/chat/completions", data=data, headers=rig.headers())

    told = [ask("reasons", "verdict"), ask("verdict", "reasons"), ask("reasons", "verdict")]

    assert [one.headers[HEADER] for one in told] == ["miss", "miss", "hit"]


def test_what_was_said_yesterday_is_no_answer_today(rig: Rig) -> None:
    """Chat templates tell a model the day: who asks for it behind midnight would hear of the day before."""
    rig.clock.at = datetime(2026, 11, 20, 23, 59, 50, tzinfo=UTC)
    rig.chat("What day is it?", temperature=0)
    again = rig.chat("What day is it?", temperature=0)
    rig.clock.advance(20)

    tomorrow = rig.chat("What day is it?", temperature=0)

    assert (again.headers[HEADER], tomorrow.headers[HEADER]) == ("hit", "miss")


def test_a_hit_is_recorded_before_and_after_like_any_answer(rig: Rig) -> None:
    rig.chat("hello", temperature=0)
    rig.chat("hello", temperature=0)

    intents, outcomes = rig.bodies("request.intent"), rig.bodies("request.outcome")
    assert [one.get("cache") for one in intents] == [None, "hit"]
    assert outcomes[0]["response_hmac"] == outcomes[1]["response_hmac"]
    assert [one["outcome"] for one in outcomes] == ["ok", "ok"]
    rig.ledger.available = False
    assert rig.chat("hello", temperature=0).status_code == 503, "no record, no answer"


def test_anything_but_temperature_0_is_made_anew(rig: Rig) -> None:
    for body in ({}, {"temperature": 0.1}, {"temperature": 0.7, "seed": 1}):
        for _ in range(2):
            assert HEADER not in rig.chat("hello", **body).headers

    assert generations(rig) == 6


def test_a_stream_is_given_again_as_a_stream_and_never_as_a_whole(rig: Rig) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "one two"}], "temperature": 0, "stream": True}
    first, second = rig.ask(body), rig.ask(body)

    assert said(events(first.get_data())) == said(events(second.get_data())) == "You said: one two"
    assert len(events(first.get_data())) == len(events(second.get_data()))
    assert second.headers[HEADER] == "hit"
    assert rig.ask({**body, "stream": False}).headers[HEADER] == "miss"


def test_no_key_is_answered_with_what_another_was_told(rig: Rig) -> None:
    other = rig.api_keys.add(key_text("another234"))
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "temperature": 0}
    rig.ask(body)

    assert rig.ask(body, Authorization=f"Bearer {other}").headers[HEADER] == "miss"
    assert generations(rig) == 2


def test_the_same_masked_question_is_answered_with_the_askers_own_identifiers(rig: Rig) -> None:
    first, second = rig.chat("SSN 123-45-6789", temperature=0), rig.chat("SSN 987-65-4321", temperature=0)

    assert second.headers[HEADER] == "hit"
    assert content(first) == "You said: SSN 123-45-6789"
    assert content(second) == "You said: SSN 987-65-4321"


def test_what_lets_identifiers_pass_has_no_cache(rig: Rig) -> None:
    passing = rig.api_keys.add(key_text("passing234"), mode=PhiMode.PASS)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "SSN 123-45-6789"}], "temperature": 0}

    for _ in range(2):
        assert HEADER not in rig.ask(body, Authorization=f"Bearer {passing}").headers
    assert (
        HEADER
        not in rig.ask({"model": MODEL, "input": "x"}, path="/v1/embeddings", Authorization=f"Bearer {passing}").headers
    )


def test_an_answer_that_broke_off_is_not_kept(rig: Rig) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "temperature": 0, "stream": True}
    rig.engine.script = Script(pieces=("one ", "two "), error_after=1)
    rig.ask(body)
    rig.engine.script = Script()

    again = rig.ask(body)
    assert again.headers[HEADER] == "miss"
    assert said(events(again.get_data())) == "You said: hello"


def test_an_answer_whose_outcome_was_not_recorded_is_not_kept(rig: Rig) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "temperature": 0, "stream": True}
    response = rig.client.post("/v1/chat/completions", json=body, headers=rig.headers())
    rig.ledger.available = False
    response.get_data()
    rig.ledger.available = True

    assert rig.ask(body).headers[HEADER] == "miss"


def test_another_version_answers_for_itself_and_the_old_answers_are_gone(rig: Rig) -> None:
    rig.chat("hello", temperature=0)
    before = rig.route
    rig.promote(model_digest="ef" * 32)
    assert rig.chat("hello", temperature=0).headers[HEADER] == "miss"
    assert rig.sample("sealift_cache_entries", cache="answers") == 1, "only the new version's"

    rig.routes.route = before
    assert rig.chat("hello", temperature=0).headers[HEADER] == "miss"
    rig.routes.route = None
    assert rig.chat("hello", temperature=0).status_code == 503
    assert rig.sample("sealift_cache_entries", cache="answers") == 0, "a version was stopped"


def test_a_key_that_is_stopped_leaves_nothing_behind(rig: Rig) -> None:
    rig.chat("hello", temperature=0)
    rig.ask({"model": MODEL, "input": "hello"}, path="/v1/embeddings")
    rig.routes.stopped = {"abcdefgh23"}

    assert rig.chat("hello", temperature=0).status_code == 503
    assert rig.sample("sealift_cache_entries", cache="answers") == 0
    assert rig.sample("sealift_cache_entries", cache="embeddings") == 0


def test_only_vectors_that_are_not_known_are_asked_for(rig: Rig) -> None:
    def ask(*texts: str, **more: Any) -> Any:
        return rig.ask({"model": MODEL, "input": list(texts), **more}, path="/v1/embeddings")

    first, part, hit = ask("one", "two"), ask("two", "three", "one"), ask("one", "three")

    assert [one.headers[HEADER] for one in (first, part, hit)] == ["miss", "part", "hit"]
    assert rig.engine.embedded == [["one", "two"], ["three"]]
    rows = [one["embedding"] for one in part.get_json()["data"]]
    assert rows[0] == first.get_json()["data"][1]["embedding"]
    assert rows[2] == first.get_json()["data"][0]["embedding"]
    assert part.get_json()["usage"]["prompt_tokens"] == len("twothreeone")
    assert [one.get("cache") for one in rig.bodies("request.intent")] == [None, "part", "hit"]
    assert ask("one", dimensions=3).headers[HEADER] == "hit", "a cut vector is cut from the whole one"


def test_vectors_are_not_kept_where_nobody_counted_their_tokens(rig: Rig) -> None:
    rig.engine.script = replace(rig.engine.script, counts=False)
    for _ in range(2):
        response = rig.ask({"model": MODEL, "input": "one"}, path="/v1/embeddings")
        assert response.headers[HEADER] == "miss"

    assert response.get_json()["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Rig]:
    """A gateway with one place and nowhere to wait."""
    limits = "concurrent_requests = 1\nqueue_length = 0\nrequests_per_minute = 6"
    with gateway(tmp_path, limits=limits, caches="answers_mib = 1") as running:
        yield running


def test_a_known_answer_is_given_while_all_places_are_taken(narrow: Rig) -> None:
    known = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "temperature": 0}
    first = narrow.ask(known)
    other = {**known, "messages": [{"role": "user", "content": "more"}], "stream": True}
    endless = narrow.client.post("/v1/chat/completions", json=other, headers=narrow.headers())

    hit = narrow.ask(known)
    unknown = narrow.ask({**known, "temperature": 0.5})

    assert (hit.status_code, hit.headers[HEADER], hit.headers["x-sealift-queue-position"]) == (200, "hit", "0")
    assert content(hit) == content(first)
    assert (unknown.status_code, unknown.get_json()["error"]["code"]) == (503, "overloaded")
    assert endless.data.endswith(b"[DONE]\n\n")
    intents, outcomes = narrow.bodies("request.intent"), narrow.bodies("request.outcome")
    assert [one.get("cache") for one in intents] == [None, None, "hit"]
    assert [one["outcome"] for one in outcomes] == ["ok", "ok", "ok"]
    assert outcomes[1]["response_hmac"] == outcomes[0]["response_hmac"]
    assert narrow.sample("llm_active_requests", model=MODEL) == 0
    assert narrow.ask({**known, "temperature": 0.5}).status_code == 200, "the place is free, and there is one"


def test_a_known_stream_takes_a_place_since_it_can_be_read_slowly(narrow: Rig) -> None:
    known = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "temperature": 0, "stream": True}
    assert narrow.ask(known).data.endswith(b"[DONE]\n\n")
    slow = narrow.client.post("/v1/chat/completions", json=known, headers=narrow.headers())

    assert slow.headers[HEADER] == "hit"
    assert narrow.ask(known).get_json()["error"]["code"] == "overloaded"
    slow.close()
    assert narrow.ask(known).headers[HEADER] == "hit"


def test_known_vectors_are_given_while_all_places_are_taken(narrow: Rig) -> None:
    def ask(*texts: str, **headers: str) -> Any:
        return narrow.ask({"model": MODEL, "input": list(texts)}, path="/v1/embeddings", **headers)

    ask("one", "two")
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "stream": True}
    endless = narrow.client.post("/v1/chat/completions", json=body, headers=narrow.headers())

    hit, part, wrong = ask("two", "one"), ask("two", "three"), ask("one", X_Sealift_Priority="first")

    assert (hit.status_code, hit.headers[HEADER]) == (200, "hit")
    assert (part.status_code, part.get_json()["error"]["code"]) == (503, "overloaded")
    assert wrong.status_code == 400, "what is wrong is wrong though nobody waits"
    assert [one.get("cache") for one in narrow.bodies("request.intent")] == [None, None, "hit"]
    endless.close()


def test_a_known_answer_counts_against_the_keys_requests_and_stays_unsaid_without_a_record(narrow: Rig) -> None:
    answers = [narrow.chat("hello", temperature=0) for _ in range(5)]
    narrow.ledger.available = False
    unrecorded = narrow.chat("hello", temperature=0)
    narrow.ledger.available = True

    assert [one.headers[HEADER] for one in answers] == ["miss", *["hit"] * 4]
    assert unrecorded.status_code == 503
    assert narrow.chat("hello", temperature=0).status_code == 429
