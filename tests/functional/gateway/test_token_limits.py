"""Tokens a key may spend: told in headers, charged before the engine is asked, set right whatever the end is."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from tests.support.engine import THINKING_ALOUD, Script
from tests.support.gateway import MODEL, Rig, gateway


def _spent(rig: Rig) -> int:
    """Return how many of the day's tokens are gone, read as another process would."""
    query = "SELECT tokens FROM spent WHERE key_id = ? AND period = ?"
    with closing(sqlite3.connect(rig.config.at.counters)) as counters:
        row = counters.execute(query, (rig.key.split("-")[1], rig.clock.now().strftime("%Y-%m-%d"))).fetchone()
    return 0 if row is None else int(row[0])


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_pays_what_its_answers_cost_and_no_more(tmp_path: Path, *, stream: bool) -> None:
    with gateway(tmp_path, limits="tokens_per_day = 400\ntokens_per_minute = 6000") as rig:
        answer = rig.chat("hello there", max_tokens=100, stream=stream)
        assert answer.status_code == 200
        outcome = rig.bodies("request.outcome")[0]

        assert _spent(rig) == outcome["prompt_tokens"] + outcome["completion_tokens"] > 0
        assert answer.headers["x-ratelimit-limit-tokens"] == "6000"


def test_a_spent_key_is_refused_before_the_engine_is_asked(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="tokens_per_day = 400") as rig:
        refused = rig.chat("hello", max_tokens=500)

        assert (refused.status_code, refused.get_json()["error"]["code"]) == (429, "insufficient_quota")
        assert refused.headers["x-should-retry"] == "false"
        assert not rig.engine.asked
        assert [one["code"] for one in rig.bodies("request.refused")] == ["insufficient_quota"]
        assert rig.chat("hello", max_tokens=100).status_code == 200


def test_who_names_no_length_is_charged_for_the_versions_not_the_sites(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="tokens_per_day = 400") as rig:
        assert rig.chat("hello").status_code == 429
        rig.promote(max_tokens=100)
        assert rig.chat("hello").status_code == 200


def test_what_was_never_answered_costs_nothing(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="tokens_per_day = 400") as rig:
        rig.ledger.available = False
        assert rig.chat("hello", max_tokens=100).status_code == 503
        assert _spent(rig) == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("refuse", [(503, "engine_unavailable"), (429, "busy"), (400, "context_length_exceeded")])
def test_what_an_engine_refused_unread_costs_nothing(tmp_path: Path, refuse: tuple[int, str], *, stream: bool) -> None:
    """SDKs ask a busy engine three times: a day would be spent on what nobody read."""
    with gateway(tmp_path, limits="tokens_per_day = 2000") as rig:
        rig.engine.script = Script(refuse=refuse)
        assert rig.chat("hello there", max_tokens=100, stream=stream).status_code in {400, 503}
        assert _spent(rig) == 0
        assert rig.ask({"model": MODEL, "prompt": "hello"}, path="/v1/completions").status_code in {400, 503}
        assert _spent(rig) == 0


def test_what_an_engine_may_have_read_is_paid_for(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="tokens_per_day = 4000") as rig:
        rig.engine.script = Script(refuse=(500, "engine_failed"))
        assert rig.chat("hello there", max_tokens=100).status_code == 502
        assert (spent := _spent(rig)) > 0
        rig.engine.script = Script(refuse=(400, "context_length_exceeded"))
        assert rig.ask({"model": MODEL, "prompt": ["a", "b"]}, path="/v1/completions").status_code == 400
        assert _spent(rig) > spent, "of a list another prompt may have been answered before"
        spent = _spent(rig)
        refused = {"error": {"message": "x", "type": "invalid_request_error", "code": "invalid_value"}}
        rig.engine.script = Script(events=({"choices": [{"index": 0, "delta": {"content": "one"}}]}, refused))
        assert b"engine_refused" in rig.chat("hello", max_tokens=100, stream=True).data
        assert _spent(rig) > spent, "it said a word before"


def test_an_answer_that_broke_off_costs_its_prompt_and_what_was_delivered(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="tokens_per_day = 400") as rig:
        rig.engine.script = Script(pieces=("one ", "two "), error_after=1)
        rig.chat("hello", max_tokens=200, stream=True)

        assert 0 < _spent(rig) < 120


def test_thoughts_that_nobody_counted_are_paid_for_like_the_answer(tmp_path: Path) -> None:
    long = [{**THINKING_ALOUD[1]["choices"][0], "delta": {"reasoning_content": "a" * 100}}]
    with gateway(tmp_path, limits="tokens_per_day = 400") as rig:
        rig.engine.script = Script(events=({"choices": long}, *THINKING_ALOUD[2:]))
        rig.chat("hello", max_tokens=300, stream=True)

        assert 100 < _spent(rig) < 220


def test_a_caller_that_leaves_pays_for_what_was_delivered(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="tokens_per_day = 400") as rig:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 200, "stream": True}
        response = rig.client.post("/v1/chat/completions", json=body, headers=rig.headers(), buffered=False)
        chunks = response.iter_encoded()
        next(chunks)
        assert _spent(rig) > 200
        response.close()

        assert rig.bodies("request.outcome")[0]["outcome"] == "cancelled"
        assert 0 < _spent(rig) < 120


def _rates(response: TestResponse) -> dict[str, str]:
    """Return what the headers say of requests and of tokens."""
    start = "x-ratelimit-"
    return {name.removeprefix(start): value for name, value in response.headers.items() if name.startswith(start)}


def test_a_key_without_tokens_is_told_so_and_what_it_has_of_both(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="tokens_per_minute = 600\nrequests_per_minute = 30") as rig:
        assert rig.chat("hello", max_tokens=550).status_code == 200
        refused = rig.chat("hello", max_tokens=599)

        assert (refused.status_code, refused.get_json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert "tokens a minute" in refused.get_json()["error"]["message"]
        told = _rates(refused)
        assert 0 < int(told.pop("remaining-tokens")) < 600
        assert {name: told[name] for name in ("limit-tokens", "limit-requests", "remaining-requests")} == {
            "limit-tokens": "600",
            "limit-requests": "30",
            "remaining-requests": "28",
        }
        assert {"reset-tokens", "reset-requests"} <= set(told)


def test_a_key_without_requests_is_told_so_and_what_it_has_of_both(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="tokens_per_minute = 600\nrequests_per_minute = 1") as rig:
        left = _rates(rig.chat("hello", max_tokens=100))
        refused = rig.chat("hello", max_tokens=100)

        assert refused.status_code == 429
        assert "requests a minute" in refused.get_json()["error"]["message"]
        told = _rates(refused)
        assert set(told) == set(left)
        assert (told["limit-requests"], told["remaining-requests"], told["limit-tokens"]) == ("1", "0", "600")
        assert int(told["remaining-tokens"]) >= int(left["remaining-tokens"])


def test_every_429_of_a_key_has_both_pairs_where_tokens_are_limited(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="tokens_per_minute = 600\ntokens_per_day = 400") as rig:
        spent = rig.chat("hello", max_tokens=500)
        assert (spent.status_code, spent.get_json()["error"]["code"]) == (429, "insufficient_quota")
        assert len(_rates(spent)) == 6
        assert len(spent.headers.getlist("x-ratelimit-limit-tokens")) == 1
    with gateway(tmp_path / "unlimited", limits="requests_per_minute = 1") as rig:
        rig.chat("hello")
        assert len(_rates(rig.chat("hello"))) == 3


def test_an_address_without_a_key_is_told_that_it_has_none(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="unauthenticated_per_minute = 1\ntokens_per_minute = 600") as rig:
        rig.client.get("/v1/models")
        refused = rig.client.get("/v1/models")

        assert refused.status_code == 429
        assert "without a valid key" in refused.get_json()["error"]["message"]
        assert _rates(refused) == {}
