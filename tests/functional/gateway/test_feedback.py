"""What people thought of an answer is recorded beside it: by the key that asked, once, from a closed list."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.gateway import Rig, key_text


def _answered(rig: Rig) -> str:
    return str(rig.chat("hello").headers["x-request-id"])


def _say(rig: Rig, key: str | None = None, **body: Any) -> Any:
    return rig.client.post("/v1/feedback", json=body, headers=rig.headers(key))


def test_a_rating_stands_beside_its_request(rig: Rig) -> None:
    request_id = _answered(rig)
    said = _say(rig, request_id=request_id, rating="down", reason="wrong")
    intent = rig.bodies("request.intent")[0]
    (record,) = rig.bodies("request.feedback")

    assert said.status_code == 200
    assert (record["request_id"], record["rating"], record["reason"]) == (request_id, "down", "wrong")
    assert {n: record[n] for n in ("model_digest", "arm", "key_id")} == {
        n: intent[n] for n in ("model_digest", "arm", "key_id")
    }
    assert rig.sample("llm_feedback_total", rating="down", reason="wrong") == 1


def test_the_same_word_twice_is_one_record_and_another_is_refused(rig: Rig) -> None:
    request_id = _answered(rig)
    first = _say(rig, request_id=request_id, rating="up").get_json()
    again = _say(rig, request_id=request_id, rating="up").get_json()
    other = _say(rig, request_id=request_id, rating="down")

    assert first == again
    assert (other.status_code, other.get_json()["error"]["code"]) == (409, "feedback_given")
    assert other.headers["x-should-retry"] == "false", "OpenAI's SDKs ask 409 again by themselves"
    assert len(rig.bodies("request.feedback")) == 1


@pytest.mark.parametrize("ratings", [("up", "up"), ("up", "down")])
def test_of_two_who_rate_at_once_one_is_recorded(
    rig: Rig, ratings: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id, ledger = _answered(rig), rig.ledger
    both_looked, append = threading.Barrier(2, timeout=20), ledger.append

    def together(kind: str, body: Any, **more: Any) -> Any:
        if kind == "request.feedback":
            both_looked.wait()
        return append(kind, body, **more)

    monkeypatch.setattr(ledger, "append", together)
    with ThreadPoolExecutor(2) as pool:
        made = [
            pool.submit(
                rig.app.test_client().post,
                "/v1/feedback",
                json={"request_id": request_id, "rating": one},
                headers=rig.headers(),
            )
            for one in ratings
        ]
        said = sorted(one.result().status_code for one in made)

    assert said == ([200, 200] if ratings[0] == ratings[1] else [200, 409])
    assert len(rig.bodies("request.feedback")) == 1


def test_another_key_learns_nothing_of_a_request(rig: Rig) -> None:
    request_id = _answered(rig)
    other = rig.api_keys.add(key_text("other22222"))
    refused = _say(rig, other, request_id=request_id, rating="up")
    unknown = _say(rig, other, request_id="req_" + "a" * 26, rating="up")

    assert refused.status_code == unknown.status_code == 404
    assert refused.get_json() == unknown.get_json()
    assert not rig.bodies("request.feedback")


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"request_id": "1"}, "request_id"),
        ({"rating": "good"}, "rating"),
        ({"rating": ["up"]}, "rating"),
        ({"reason": "the patient said"}, "reason"),
        ({"note": "x"}, "note"),
        ({"note of mine": "x"}, None),
    ],
)
def test_there_is_no_free_text(rig: Rig, changed: dict[str, Any], param: str | None) -> None:
    refused = _say(rig, **{"request_id": _answered(rig), "rating": "up", **changed})

    assert refused.status_code == 400
    assert refused.get_json()["error"]["param"] == param


def test_without_a_ledger_nothing_is_taken(rig: Rig) -> None:
    request_id = _answered(rig)
    rig.ledger.available = False
    assert _say(rig, request_id=request_id, rating="up").status_code == 503
