"""`/v1/embeddings` and Ollama's two routes over a fake engine: shapes, limits, protection, records, refusals."""

import array
import base64
import json
import math
import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder

from appliance.gateway.calls import Replayed
from appliance.gateway.embedding import written
from appliance.gateway.lagging import WHOSE
from appliance.gateway.problems import Problem
from appliance.gateway.routing import Canary, Rule
from appliance.gateway.slices import InSlices
from appliance.gateway.vectors import numbers
from appliance.phi.policy import PhiMode
from media.embedding import EmbeddingProfile
from tests.support.engine import DIMENSIONS, Script
from tests.support.gateway import MODEL, Rig, gateway, key_text

SSN = "SSN 123-45-6789"
MASKED = "SSN [SSN_1]"


def ask(rig: Rig, path: str = "/v1/embeddings", key: str | None = None, **body: Any) -> Any:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return rig.ask({"model": MODEL, **body}, path=path, **headers)


def vectors_of(response: Any) -> list[Any]:
    assert response.status_code == 200, response.get_json()
    return [one["embedding"] for one in response.get_json()["data"]]


def test_the_body_is_openais_to_the_letter(rig: Rig) -> None:
    response = ask(rig, input=["first", "second text"])

    body = response.get_json()
    assert set(body) == {"object", "data", "model", "usage"}
    assert (body["object"], body["model"]) == ("list", MODEL)
    assert [(one["object"], one["index"], len(one["embedding"])) for one in body["data"]] == [
        ("embedding", 0, DIMENSIONS),
        ("embedding", 1, DIMENSIONS),
    ]
    assert body["usage"] == {"prompt_tokens": 16, "total_tokens": 16}
    assert response.headers["x-model-version"] == rig.route.model_digest
    assert response.headers["x-request-id"].startswith("req_")


def test_base64_and_numbers_are_the_same_vectors(rig: Rig) -> None:
    numbers = vectors_of(ask(rig, input=["one", "two words"], encoding_format="float"))
    encoded = vectors_of(ask(rig, input=["one", "two words"], encoding_format="base64"))

    assert [list(struct.unpack(f"<{DIMENSIONS}f", base64.b64decode(one))) for one in encoded] == numbers


def test_a_list_is_answered_in_its_order_whatever_the_engines(rig: Rig) -> None:
    both = vectors_of(ask(rig, input=["aaaa", "bbbb"]))

    assert both == vectors_of(ask(rig, input="aaaa")) + vectors_of(ask(rig, input="bbbb"))
    assert both[0] != both[1]


def test_identifiers_never_reach_the_engine_and_each_text_is_masked_by_itself(rig: Rig) -> None:
    response = ask(rig, input=["MRN: 12345678", SSN])

    assert rig.engine.embedded == [["MRN: [MRN_1]", MASKED]]
    assert response.headers["x-sealift-phi"] == "ssn=1, mrn=1"
    assert vectors_of(ask(rig, input=SSN)) == [vectors_of(response)[1]], "whatever is beside it"


def test_a_key_that_blocks_refuses_and_one_that_passes_does_not(rig: Rig) -> None:
    blocking = rig.api_keys.add(key_text("blocking23"), mode=PhiMode.BLOCK)
    passing = rig.api_keys.add(key_text("passing234"), mode=PhiMode.PASS)

    refused = ask(rig, key=blocking, input=["fine", SSN])
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (400, "phi_blocked")
    assert rig.engine.embedded == []
    assert ask(rig, key=passing, input=SSN).status_code == 200
    assert rig.engine.embedded == [[SSN]]


def test_tokens_are_for_keys_that_let_identifiers_pass(rig: Rig) -> None:
    passing = rig.api_keys.add(key_text("passing234"), mode=PhiMode.PASS)

    assert ask(rig, key=passing, input=[97, 98]).status_code == 200
    assert len(vectors_of(ask(rig, key=passing, input=[[97], [98, 99]]))) == 2
    assert rig.engine.embedded == [[[97, 98]], [[97], [98, 99]]]
    refused = ask(rig, input=[97, 98])
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (400, "unsupported_parameter")
    assert refused.get_json()["error"]["param"] == "input"


def test_dimensions_cut_where_the_version_says_so_and_the_rest_has_length_one(rig: Rig) -> None:
    whole, short = vectors_of(ask(rig, input="abcdefgh"))[0], vectors_of(ask(rig, input="abcdefgh", dimensions=3))[0]

    length = math.sqrt(sum(one * one for one in whole[:3]))
    assert short == pytest.approx([one / length for one in whole[:3]], rel=1e-6)
    assert ask(rig, input="a", dimensions=DIMENSIONS).status_code == 200
    too_many = ask(rig, input="a", dimensions=DIMENSIONS + 1).get_json()["error"]
    assert (too_many["code"], too_many["param"]) == ("invalid_value", "dimensions")

    assert rig.route.embedding is not None
    rig.promote(embedding=replace(rig.route.embedding, matryoshka=False))
    refused = ask(rig, input="a", dimensions=3).get_json()["error"]
    assert (refused["code"], refused["param"]) == ("unsupported_parameter", "dimensions")


def test_a_version_that_only_chats_says_so_by_every_route(rig: Rig) -> None:
    rig.promote(embedding=None)

    refused = ask(rig, input="x")
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (400, "unsupported_model")
    assert refused.get_json()["error"]["param"] == "model"
    assert ask(rig, "/api/embed", input="x").status_code == 400
    assert ask(rig, "/api/embeddings", prompt="x").status_code == 400
    assert [one["code"] for one in rig.bodies("request.refused")] == ["unsupported_model"] * 3
    assert rig.engine.embedded == []


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "input"),
        ({"input": None}, "missing_required_parameter", "input"),
        ({"input": ""}, "invalid_value", "input"),
        ({"input": " \n"}, "invalid_value", "input"),
        ({"input": []}, "invalid_value", "input"),
        ({"input": [[]]}, "invalid_value", "input"),
        ({"input": ["a", None]}, "invalid_value", "input"),
        ({"input": ["a"] * 2049}, "invalid_value", "input"),
        ({"input": {"text": "a"}}, "invalid_value", "input"),
        ({"input": [1, "a"]}, "invalid_value", "input"),
        ({"input": [[1, -1]]}, "invalid_value", "input"),
        ({"input": [[True]]}, "invalid_value", "input"),
        ({"input": [[1] * 4097]}, "context_length_exceeded", "input"),
        ({"input": "a" * 32001}, "string_above_max_length", "input"),
        ({"input": "\ud800"}, "invalid_encoding", "input"),
        ({"input": "a", "dimensions": 0}, "invalid_value", "dimensions"),
        ({"input": "a", "dimensions": True}, "invalid_value", "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "invalid_value", "encoding_format"),
        ({"input": "a", "encoding_format": ["float"]}, "invalid_value", "encoding_format"),
        ({"input": "a", "user": 7}, "invalid_value", "user"),
        ({"input": "a", "temperature": 0}, "unknown_parameter", "temperature"),
        ({"input": "a", "model": ""}, "missing_required_parameter", "model"),
        ({"input": "a", "model": "other"}, "model_not_found", "model"),
    ],
)
def test_what_is_wrong_is_refused_by_name_and_recorded(rig: Rig, body: dict[str, Any], code: str, param: str) -> None:
    response = ask(rig, **body)

    error = response.get_json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert rig.bodies("request.refused")[-1]["endpoint"] == "embeddings"
    assert rig.engine.embedded == []


def test_what_does_not_fit_the_engine_is_the_callers_and_recorded_as_an_outcome(rig: Rig) -> None:
    rig.engine.script = Script(refuse=(400, "context_length_exceeded"))

    response = ask(rig, input="long")

    assert (response.status_code, response.get_json()["error"]["code"]) == (400, "context_length_exceeded")
    assert response.get_json()["error"]["param"] == "input"
    assert [one["status"] for one in rig.bodies("request.outcome")] == [400]


@pytest.mark.parametrize(("path", "param"), [("/api/embed", "input"), ("/api/embeddings", "prompt")])
def test_what_does_not_fit_is_refused_by_the_callers_own_name(rig: Rig, path: str, param: str) -> None:
    rig.engine.script = Script(refuse=(400, "context_length_exceeded"))
    refused = rig.ask({"model": MODEL, param: "long"}, path=path).get_json()

    assert (refused["code"], refused["param"]) == ("context_length_exceeded", param)


def test_intent_and_outcome_are_recorded_with_counts_and_without_a_word(rig: Rig) -> None:
    response = ask(rig, input=["hello there", SSN], user="nurse-7")

    intent, outcome = rig.bodies("request.intent")[0], rig.bodies("request.outcome")[0]
    assert (intent["endpoint"], intent["arm"], intent["assigned"]) == ("embeddings", "production", "only")
    assert intent["phi"] == {"ssn": 1}
    assert intent["user_hash"]
    assert intent["request_id"] == outcome["request_id"] == response.headers["x-request-id"]
    assert (outcome["outcome"], outcome["completion_tokens"]) == ("ok", 0)
    assert outcome["prompt_tokens"] == response.get_json()["usage"]["prompt_tokens"]
    whole = "\n".join(base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *one)).decode() for one in vectors_of(response))
    assert outcome["response_hmac"] == rig.keys.hmac("content-hmac", whole.encode()).hex()
    assert "hello" not in json.dumps([intent, outcome])


def test_without_the_ledger_there_is_no_vector(rig: Rig) -> None:
    rig.ledger.available = False

    response = ask(rig, input="x")

    assert (response.status_code, response.get_json()["error"]["code"]) == (503, "ledger_unavailable")


def test_tokens_are_charged_and_set_right(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="tokens_per_day = 40", caches="embeddings_mib = 0") as rig:
        for _ in range(3):
            assert ask(rig, input="ten tokens").status_code == 200
        refused = ask(rig, input="ten tokens")

    assert (refused.status_code, refused.get_json()["error"]["code"]) == (429, "insufficient_quota")


def test_metrics_count_requests_and_tokens(rig: Rig) -> None:
    ask(rig, input="four")

    assert rig.sample("llm_requests_total", model=MODEL, endpoint="embeddings", status="success") == 1
    assert rig.sample("llm_tokens_total", model=MODEL, kind="prompt") == 4


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"data": []},
        {"data": [{"index": 0}]},
        {"data": [{"index": 1, "embedding": [0.0] * DIMENSIONS}]},
        {"data": [{"index": True, "embedding": [0.0] * DIMENSIONS}]},
        {"data": [{"index": 0, "embedding": [0.5] * (DIMENSIONS - 1)}]},
        {"data": [{"index": 0, "embedding": ["x"] * DIMENSIONS}]},
        {"data": [{"index": 0, "embedding": [1e400] * DIMENSIONS}]},
        {"data": [{"index": 0, "embedding": "!!"}]},
        {"data": [{"index": 0, "embedding": base64.b64encode(b"abc").decode()}]},
        {"data": [{"index": 0, "embedding": base64.b64encode(struct.pack("<8f", *[math.nan] * 8)).decode()}]},
        {"data": [{"index": 0, "embedding": [0.5] * DIMENSIONS, "tokens": -1}]},
        {"data": [{"index": 0, "embedding": [0.5] * DIMENSIONS, "tokens": 2**70}]},
        {"data": [{"index": 0, "embedding": [0.5] * DIMENSIONS, "tokens": 513}]},
        {"data": [{"index": 0, "embedding": [0.5] * DIMENSIONS}], "usage": {"prompt_tokens": 513}},
        {"data": [{"index": 0, "embedding": [10**400] * DIMENSIONS}]},
        {"data": [{"index": 0, "embedding": [0.5] * DIMENSIONS}] * 2},
        {"error": {"message": "a text that quotes the prompt"}},
    ],
)
def test_an_engine_that_gives_no_such_vectors_is_not_believed(rig: Rig, answer: dict[str, Any]) -> None:
    rig.engine.script = Script(events=(answer,))

    response = ask(rig, input="x")

    assert (response.status_code, response.get_json()["error"]["code"]) == (502, "engine_error")
    assert rig.bodies("request.outcome")[-1]["outcome"] == "error"


def test_an_engine_that_goes_away_is_an_outcome(rig: Rig) -> None:
    rig.engine.script = Script(tear_after=0)

    assert ask(rig, input="x").status_code in {502, 503}
    assert rig.bodies("request.outcome")[-1]["outcome"] == "error"


def test_no_canary_has_a_share_of_embeddings_but_a_pinned_key_gets_its_version(rig: Rig, tmp_path: Path) -> None:
    canary = replace(rig.route, model_digest="ef" * 32, name="candidate")
    rig.routes.split = {"canary": Canary(route=canary, percent=100, offset=0, is_held=False)}

    assert ask(rig, input="x").headers["x-model-version"] == rig.route.model_digest
    rig.routes.split["rules"] = {"abcdefgh23": Rule(model_digest=canary.model_digest)}
    rig.routes.split |= {"leaving": canary.model_digest, "leaves": "2026-12-01T08:00:00Z"}
    pinned = ask(rig, input="x")
    assert pinned.headers["x-model-version"] == canary.model_digest
    assert pinned.headers["x-sealift-leaves"] == "2026-12-01T08:00:00Z"
    assert [one["assigned"] for one in rig.bodies("request.intent")] == ["only", "pinned"]
    rig.routes.split["rules"] = {"abcdefgh23": Rule(model_digest="99" * 32)}
    assert ask(rig, input="x").status_code == 410


def test_ollamas_embed_and_embeddings(rig: Rig) -> None:
    several = ask(rig, "/api/embed", input=["one", SSN], truncate=True, options={"num_ctx": 512, "seed": 1})
    single = ask(rig, "/api/embeddings", prompt="one", keep_alive="5m")

    body = several.get_json()
    assert body["model"] == MODEL
    assert [len(one) for one in body["embeddings"]] == [DIMENSIONS] * 2
    assert body["prompt_eval_count"] == len("one") + len(MASKED)
    assert body["load_duration"] == 0
    assert several.headers["x-sealift-ignored"] == "options.num_ctx, options.seed, truncate"
    assert single.get_json() == {"embedding": body["embeddings"][0]}
    assert [one["endpoint"] for one in rig.bodies("request.intent")] == ["embeddings"] * 2


def test_ollamas_dimensions_and_one_text(rig: Rig) -> None:
    body = ask(rig, "/api/embed", input="one", dimensions=4).get_json()

    assert [len(one) for one in body["embeddings"]] == [4]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/api/embed", {"input": [97]}, "input"),
        ("/api/embed", {"input": "x", "encoding_format": "float"}, "encoding_format"),
        ("/api/embed", {"input": "x", "truncate": 1}, "truncate"),
        ("/api/embed", {"input": "x", "options": {"nonsense": 1}}, "options.nonsense"),
        ("/api/embed", {"input": "x", "options": []}, "options"),
        ("/api/embeddings", {"prompt": ["x"]}, "prompt"),
        ("/api/embeddings", {"prompt": "x", "dimensions": 3}, "dimensions"),
    ],
)
def test_what_ollama_knows_not_is_refused_by_name(rig: Rig, path: str, body: dict[str, Any], param: str) -> None:
    response = ask(rig, path, **body)

    assert (response.status_code, response.get_json()["param"]) == (400, param)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/api/embed", {"input": "", "bogus": 1}, "bogus"),
        ("/api/embed", {"encoding_format": "float"}, "encoding_format"),
        ("/api/embed", {"input": [], "options": {"nonsense": 1}}, "options.nonsense"),
        ("/api/embed", {"truncate": 1}, "truncate"),
        ("/api/embed", {"dimensions": 0}, "dimensions"),
        ("/api/embeddings", {"prompt": "", "dimensions": 3}, "dimensions"),
    ],
)
def test_an_unknown_word_is_refused_by_name_where_there_is_no_text(
    rig: Rig, path: str, body: dict[str, Any], param: str
) -> None:
    response = ask(rig, path, **body)

    assert (response.status_code, response.get_json()["param"]) == (400, param)


def test_what_has_no_effect_without_a_text_is_named(rig: Rig) -> None:
    response = ask(rig, "/api/embed", input="", dimensions=4, keep_alive=0, truncate=True, options={"num_ctx": 512})

    assert response.headers["x-sealift-ignored"] == "dimensions, keep_alive, options.num_ctx, truncate"


def test_asking_only_to_load_asks_no_engine(rig: Rig) -> None:
    assert ask(rig, "/api/embed", input="").get_json() == {"model": MODEL, "embeddings": []}
    assert ask(rig, "/api/embed").get_json() == {"model": MODEL, "embeddings": []}
    assert ask(rig, "/api/embeddings", prompt="").get_json() == {"embedding": []}
    assert rig.engine.embedded == []
    assert "embedding" in rig.ask({"model": MODEL}, path="/api/show").get_json()["capabilities"]


@pytest.mark.parametrize("count", [16, 17, 200])
@pytest.mark.parametrize(
    ("path", "kind"), [("/v1/embeddings", "float"), ("/v1/embeddings", "base64"), ("/api/embed", "")]
)
def test_many_vectors_are_told_like_few(rig: Rig, path: str, kind: str, count: int) -> None:
    texts = [f"text {number}" for number in range(count)]
    more = {"encoding_format": kind} if kind else {}

    many = rig.ask({"model": MODEL, "input": texts, **more}, path=path).json
    alone = rig.ask({"model": MODEL, "input": texts[-1], **more}, path=path).json

    rows, (row,) = (one.get("data", one.get("embeddings")) for one in (many, alone))
    assert len(rows) == count
    assert list(many) == list(alone)
    assert (rows[-1]["embedding"], rows[-1]["index"]) == (row["embedding"], count - 1) if kind else rows[-1] == row


def test_vectors_are_text_one_at_a_time_only(rig: Rig) -> None:
    raw = array.array("f", [0.123456789] * 4096).tobytes()

    tracemalloc.start()
    try:
        told = sum(map(len, written({"embeddings": (numbers(raw) for _ in range(64)), "done": True})))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert told > 64 * 4096 * 10
    assert most < told / 4
    assert rig.ask({"model": MODEL, "input": ["a"] * 17}, path="/v1/embeddings").status_code == 200


def _wide(rig: Rig, monkeypatch: pytest.MonkeyPatch, *, dimensions: int) -> None:
    """Let the version's vectors be so long that a list of many does not fit one answer of an engine."""
    monkeypatch.setattr("tests.support.engine.DIMENSIONS", dimensions)
    assert rig.route.embedding is not None
    rig.promote(embedding=replace(rig.route.embedding, dimensions=dimensions))


def test_the_longest_list_is_answered_though_its_vectors_are_more_than_an_engines_answer_may_be(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _wide(rig, monkeypatch, dimensions=2048)
    texts = [chr(97 + number % 26) * (1 + number % 5) for number in range(2048)]

    response = rig.ask({"model": MODEL, "input": texts, "encoding_format": "base64"}, path="/v1/embeddings")

    rows = response.get_json()["data"]
    assert [one["index"] for one in rows] == list(range(2048))
    for at in (0, 1, 27, 500, 1111, 2047):
        alone = rig.ask({"model": MODEL, "input": texts[at], "encoding_format": "base64"}, path="/v1/embeddings").json
        assert rows[at]["embedding"] == alone["data"][0]["embedding"], "each in its place"
    assert response.get_json()["usage"]["prompt_tokens"] == sum(map(len, texts))
    longest = max(len(json.dumps(one)) for one in ([0.12345678901234567] * 2048, [-1.2345678901234567e-38] * 2048))
    assert max(map(len, rig.engine.embedded)) * (longest + 200) < 2**24, "also of an engine that writes no base64"
    outcomes = rig.bodies("request.outcome")
    assert (outcomes[0]["outcome"], outcomes[0]["prompt_tokens"]) == ("ok", sum(map(len, texts)))
    assert len(rig.bodies("request.intent")) == len(outcomes) == 7


def test_a_key_that_is_revoked_while_a_long_list_is_made_gets_no_further_slice(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _wide(rig, monkeypatch, dimensions=65_536)
    known = rig.api_keys.lookup
    monkeypatch.setattr(rig.api_keys, "lookup", lambda key_id: None if len(rig.engine.embedded) == 2 else known(key_id))

    response = ask(rig, input=["a"] * 64)

    assert (response.status_code, len(rig.engine.embedded)) == (401, 2)
    assert rig.bodies("request.outcome")[-1]["outcome"] == "error"


def test_a_caller_who_leaves_ends_the_slice_that_is_made_and_what_would_follow_it() -> None:
    profile = EmbeddingProfile(pooling="mean", n_ctx=512, dimensions=2)
    rows = [{"index": 0, "embedding": [0.0, 1.0], "tokens": 3}]
    asked: list[Any] = []

    class Slow(Replayed):
        def answer(self) -> dict[str, Any]:
            call.cancel()  # the caller leaves while it is read
            assert self.is_cancelled
            return {"data": rows}

    def start(inputs: Any) -> Replayed:
        asked.append(inputs)
        return Slow(()) if len(asked) == 2 else Replayed(({"data": rows},))

    call = InSlices([["a"], ["b"], ["c"]], start=start, profile=profile, still=lambda: None)
    with pytest.raises(Problem) as left:
        call.answer()

    assert (left.value.status, asked) == (499, [["a"], ["b"]])


@pytest.mark.parametrize(("path", "size"), [("/v1/embeddings", 3 * 4 * DIMENSIONS), ("/v1/models", 0)])
def test_whoever_sends_an_answer_knows_whose_key_it_is_for_and_what_it_takes(rig: Rig, path: str, size: int) -> None:
    """One that reads slowly is counted by it."""
    asked = EnvironBuilder(path=path, headers=list(rig.headers().items()), json={"model": MODEL, "input": list("abc")})
    asked.method = "POST" if size else "GET"
    environ = asked.get_environ()

    told = rig.app(environ, lambda *_: lambda _: None)
    list(told)

    assert environ[WHOSE] == (rig.key.split("-")[1], size)
