"""Two versions behind one gateway: who gets which, what the records say, and callers that were stopped."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from appliance.gateway.conversations import Conversations
from appliance.gateway.routing import Beside, Canary, Rule
from tests.support.engine import FakeEngine, Script, fake_engine
from tests.support.gateway import MODEL, Rig, key_text

CANDIDATE = "ef" * 32


@contextmanager
def canary(rig: Rig, *, percent: int = 50, **changes: Any) -> Iterator[FakeEngine]:
    with fake_engine(rig.engine.path.with_name("second.sock"), model_digest=CANDIDATE) as second:
        route = replace(rig.route, model_digest=CANDIDATE, socket=second.path)
        beside = Canary(route=route, percent=percent, offset=0, is_held=False)
        since = rig.ledger.head().size
        rig.routes.split = {"canary": beside, "since": since, "leaving": rig.route.model_digest, **changes}
        yield second
        rig.routes.split = {}


def user_of(rig: Rig, arm: str) -> str:
    """Return a user whose share this arm is."""
    for number in range(200):
        rig.chat("which?", user=f"u{number}")
        if rig.bodies("request.intent")[-1]["arm"] == arm:
            return f"u{number}"
    raise AssertionError(arm)


def history(*turns: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[place % 2], "content": turn} for place, turn in enumerate(turns)]


def test_each_caller_gets_one_version_and_the_records_say_which(rig: Rig) -> None:
    with canary(rig):
        arms = {user: {rig.chat(f"n{n}", user=user).headers["x-model-version"] for n in range(3)} for user in "abcdef"}

        assert all(len(found) == 1 for found in arms.values())
        for body in rig.bodies("request.intent"):
            assert (body["arm"] == "canary") is (body["model_digest"] == CANDIDATE)
            assert body["assigned"] == "share"
        user = user_of(rig, "canary")
        assert rig.chat("again", user=user).headers["x-model-version"] == CANDIDATE
    assert rig.chat("again", user=user).headers["x-model-version"] == rig.route.model_digest
    assert (rig.sample("sealift_arm_requests_total", arm="canary", status="success") or 0) > 1


def test_a_conversation_that_began_before_the_canary_stays_where_it_began(rig: Rig) -> None:
    with canary(rig):
        user = user_of(rig, "canary")

        body = {"model": MODEL, "messages": history("long ago", "yes", "go on"), "user": user}
        assert rig.ask(body).headers["x-model-version"] == rig.route.model_digest
        assert rig.bodies("request.intent")[-1]["assigned"] == "conversation"


def test_a_conversation_of_the_canary_stays_also_at_another_gateway_and_after_the_cut_over(rig: Rig) -> None:
    with canary(rig) as second:
        user = user_of(rig, "canary")
        rig.chat("new case", user=user)
        before = user_of(rig, "production")
        rig.chat("old case", user=before)
        serving = rig.routes.serving()
        assert serving is not None
        intents = {one["conversation"]: one["model_digest"] for one in rig.bodies("request.intent")}

        elsewhere = Conversations(rig.ledger)
        for conversation, digest in intents.items():
            found = elsewhere.began(serving, conversation)
            assert found is not None
            assert found.model_digest == digest
        assert elsewhere.began(serving, "unknown") is None

        old = rig.route
        rig.promote(model_digest=CANDIDATE, socket=second.path)
        rig.routes.split = {"beside": Beside(route=old), "since": serving.since}
        for who, turn, wanted in ((user, "new case", CANDIDATE), (before, "old case", old.model_digest)):
            body = {"model": MODEL, "messages": history(turn, "an answer", "go on"), "user": who}
            assert rig.ask(body).headers["x-model-version"] == wanted
        assert rig.chat("fresh", user=before).headers["x-model-version"] == CANDIDATE


def test_few_conversations_remembered_means_older_ones_go_on_as_if_they_began_earlier(rig: Rig) -> None:
    with canary(rig):
        for name in ("one", "two", "three"):
            rig.chat(name, user="u")
        conversations = [one["conversation"] for one in rig.bodies("request.intent")]
        serving = rig.routes.serving()
        assert serving is not None

        small = Conversations(rig.ledger, most=2)

        assert [small.began(serving, one) is not None for one in reversed(conversations)] == [True, True, False]


def test_a_pinned_key_is_told_when_its_version_leaves_and_refused_when_it_is_gone(rig: Rig) -> None:
    rules = {"abcdefgh23": Rule(model_digest=rig.route.model_digest)}
    with canary(rig, rules=rules, leaves="2026-11-24T08:00:00Z"):
        pinned = rig.chat("hello")

        assert pinned.headers["x-sealift-leaves"] == "2026-11-24T08:00:00Z"
        assert pinned.headers["sunset"] == "Tue, 24 Nov 2026 08:00:00 GMT"
    rig.routes.split = {"rules": {"abcdefgh23": Rule(model_digest=CANDIDATE)}}
    gone = rig.chat("hello")
    assert (gone.status_code, gone.get_json()["error"]["code"]) == (410, "pinned_version_gone")
    assert rig.bodies("request.refused")[-1]["code"] == "pinned_version_gone"


def test_a_stopped_key_and_a_stopped_department_get_a_clear_503(rig: Rig) -> None:
    other = rig.api_keys.add(key_text("otherother"))
    for name in ("abcdefgh23", "cardiology"):
        rig.routes.stopped = {name}
        refused = rig.chat("hello")
        assert (refused.status_code, refused.get_json()["error"]["code"]) == (503, "stopped")
        assert "retry-after" not in refused.headers
    rig.routes.stopped = {"abcdefgh23"}
    assert rig.client.get("/v1/models", headers=rig.headers(other)).status_code == 200


def test_a_canary_whose_engine_is_away_or_fails_is_counted_against_it(rig: Rig) -> None:
    with canary(rig) as second:
        user = user_of(rig, "canary")
        second.script = Script(error_after=0)
        assert rig.chat("hello", user=user).status_code == 502
        assert rig.bodies("request.outcome")[-1]["outcome"] == "error"
        away = replace(rig.routes.split["canary"].route, socket=second.path.with_name("away.sock"))
        rig.routes.split["canary"] = replace(rig.routes.split["canary"], route=away)
        assert rig.chat("hello", user=user).status_code == 503
        refused = rig.bodies("request.refused")[-1]

    assert (refused["arm"], refused["assigned"], refused["status"]) == ("canary", "share", 503)


def test_both_versions_are_listed_by_the_names_that_callers_may_use(rig: Rig) -> None:
    with canary(rig):
        rig.routes.split["canary"] = replace(
            rig.routes.split["canary"], route=replace(rig.routes.split["canary"].route, name="newer")
        )
        listed = rig.client.get("/v1/models", headers=rig.headers()).get_json()["data"]

        assert [one["id"] for one in listed] == [MODEL, "newer", "production"]
        assert rig.ask({"model": "newer", "messages": history("hello")}).status_code == 200
