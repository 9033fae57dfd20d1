"""Ollama's routes: the same keys, limits, protection and records, in the shapes that Ollama's clients expect."""

import json
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import LimitsSection
from appliance.gateway.ollama_reading import Ollama
from appliance.gateway.parameters import Endpoint
from appliance.gateway.problems import Problem
from appliance.gateway.staterows import Weights
from appliance.serve.engine import BEYOND_OPENAI
from tests.support.engine import MODEL_DIGEST, Script
from tests.support.gateway import MODEL, Rig, gateway

USER = [{"role": "user", "content": "MRN: 12345678 is here"}]
OWN_FACTS = {"general.version", "sealift.model_digest"}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def _lines(response: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.get_data().splitlines()]


def _ask(rig: Rig, path: str, **body: Any) -> Any:
    return rig.ask({"model": MODEL, **body}, path=path)


def test_a_chat_is_streamed_a_line_at_a_time_by_default(rig: Rig) -> None:
    response = _ask(rig, "/api/chat", messages=USER)
    *said, last = _lines(response)

    assert response.mimetype == "application/x-ndjson"
    assert "".join(one["message"]["content"] for one in said) == "You said: MRN: 12345678 is here"
    assert {one["done"] for one in said} == {False}
    assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "stop", "")
    assert last["prompt_eval_count"] > 0
    assert last["eval_count"] > 0
    assert {last["model"], *(one["model"] for one in said)} == {MODEL}
    assert rig.engine.last["messages"] == [{"role": "user", "content": "MRN: [MRN_1] is here"}]
    assert [one["outcome"] for one in rig.bodies("request.outcome")] == ["ok"]
    assert response.headers["x-model-version"] == MODEL_DIGEST


def test_a_whole_chat_is_one_object(rig: Rig) -> None:
    body = _ask(rig, "/api/chat", messages=USER, stream=False).get_json()

    assert body["message"] == {"role": "assistant", "content": "You said: MRN: 12345678 is here"}
    assert body["done"] is True


@pytest.mark.parametrize("stream", [True, False])
def test_a_prompt_is_put_into_the_models_own_template(rig: Rig, *, stream: bool) -> None:
    answer = _lines(_ask(rig, "/api/generate", prompt="hello", system="be brief", stream=stream))

    assert "".join(one["response"] for one in answer) == "You said: hello"
    assert rig.engine.last["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hello"},
    ]


def test_a_raw_prompt_is_passed_as_it_is(rig: Rig) -> None:
    _ask(rig, "/api/generate", prompt="once upon", raw=True, stream=False)

    assert rig.engine.last["prompt"] == "once upon"
    assert rig.bodies("request.intent")[-1]["endpoint"] == "completions"


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"top_k": 40, "min_p": 0.05, "repeat_penalty": 1.1}, {"top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1}),
        ({"repeat_penalty": 1.1, "repeat_last_n": 64}, {"repetition_penalty": 1.1}),
        ({"repeat_penalty": 1.1, "repeat_last_n": 0}, {"repetition_penalty": 1.0}),
        ({"repeat_last_n": 0}, {"repetition_penalty": 1.0}),
        ({"repeat_penalty": None, "repeat_last_n": 0}, {"repetition_penalty": 1.0}),
        ({"top_k": 0}, {"top_k": 0}),
        ({}, {}),
    ],
    ids=str,
)
def test_how_a_token_is_drawn_is_said_in_the_engines_words(
    rig: Rig, options: dict[str, float], sent: dict[str, float]
) -> None:
    response = _ask(rig, "/api/chat", messages=USER, options=options, stream=False)

    assert response.status_code == 200
    assert {name: rig.engine.last[name] for name in BEYOND_OPENAI if name in rig.engine.last} == sent


def test_a_wish_not_to_think_is_named_where_the_text_is_continued_as_it_is(rig: Rig) -> None:
    response = _ask(rig, "/api/generate", prompt="hello", raw=True, think=False, stream=False)

    assert (response.status_code, response.headers["x-sealift-ignored"]) == (200, "think")


@pytest.mark.parametrize(("options", "sent"), [({}, 256), ({"num_predict": 9}, 9), ({"num_predict": -1}, 4096)])
def test_the_versions_length_holds_where_num_predict_is_not_given(rig: Rig, options: dict[str, int], sent: int) -> None:
    rig.promote(max_tokens=256)
    _ask(rig, "/api/chat", messages=USER, options=options, stream=False)

    assert rig.engine.last["max_tokens"] == sent


def test_options_are_honoured_and_those_of_loading_are_named(rig: Rig) -> None:
    options = {"temperature": 0, "top_p": 0.5, "seed": 7, "num_predict": -1, "stop": ["x"], "num_ctx": 2048}
    response = _ask(rig, "/api/chat", messages=USER, options=options, keep_alive="5m", stream=False)

    asked = rig.engine.last
    assert (asked["temperature"], asked["top_p"], asked["seed"], asked["stop"]) == (0, 0.5, 7, ["x"])
    assert asked["max_tokens"] == rig.config.limits.max_tokens
    assert response.headers["x-sealift-ignored"] == "keep_alive, options.num_ctx"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"options": {"mirostat": 2}}, "unsupported_parameter", "options.mirostat"),
        ({"options": {"repeat_last_n": 128}}, "unsupported_parameter", "options.repeat_last_n"),
        ({"options": {"repeat_penalty": 3}}, "invalid_value", "options.repeat_penalty"),
        ({"options": {"num_predict": 0}}, "invalid_value", "options.num_predict"),
        ({"options": {"top_k": -5}}, "invalid_value", "options.top_k"),
        ({"options": {"stop": [""]}}, "invalid_value", "options.stop"),
        ({"temperature": 3}, "unknown_parameter", "temperature"),
        ({"options": {"temperatur": 1}}, "unknown_parameter", "options.temperatur"),
        ({"options": {"temperature": 3}}, "invalid_value", "options.temperature"),
        ({"options": []}, "invalid_value", "options"),
        ({"think": "high"}, "unsupported_parameter", "think"),
        ({"format": 7}, "invalid_value", "format"),
        ({"template": "{{ .Prompt }}"}, "unsupported_parameter", "template"),
        ({"adapter": "x"}, "unknown_parameter", "adapter"),
        ({"messages": [{"role": "user", "content": "x", "images": ["eA=="]}]}, "unsupported_parameter", "messages[0]"),
        ({"model": "other"}, "model_not_found", "model"),
        ({"stream": "yes"}, "invalid_value", "stream"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(rig: Rig, body: dict[str, Any], code: str, param: str) -> None:
    refused = _ask(rig, "/api/chat", **{"messages": USER, **body}).get_json()

    assert (refused["code"], refused["param"]) == (code, param)
    assert isinstance(refused["error"], str)
    assert not rig.engine.asked
    assert [one["code"] for one in rig.bodies("request.refused")] == [code]


def test_a_call_of_a_tool_is_whole_and_its_answer_finds_it_again(rig: Rig) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Oslo"}'}}
    rig.engine.script = Script(text="", tool_calls=(call,))
    *said, last = _lines(_ask(rig, "/api/chat", messages=USER, tools=[WEATHER]))
    calls = [one for line in said for one in line["message"].get("tool_calls", [])]

    assert calls == [{"function": {"name": "weather", "arguments": {"at": "Oslo"}}}]
    assert last["done_reason"] == "stop"

    rig.engine.script = Script()
    history = [
        *USER,
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_name": "weather", "content": "rain"},
    ]
    _ask(rig, "/api/chat", messages=history, tools=[WEATHER], stream=False)
    sent = rig.engine.last["messages"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"]
    assert json.loads(sent[1]["tool_calls"][0]["function"]["arguments"]) == {"at": "Oslo"}


LONG = "x" * 32_001


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("/api/generate", {"prompt": LONG}, "string_above_max_length", "prompt"),
        ("/api/generate", {"prompt": LONG, "system": "short"}, "string_above_max_length", "prompt"),
        ("/api/generate", {"prompt": "short", "system": LONG}, "string_above_max_length", "system"),
        ("/api/generate", {"prompt": LONG, "raw": True}, "string_above_max_length", "prompt"),
        ("/api/generate", {"prompt": "many " * 6000}, "context_length_exceeded", "prompt"),
        ("/api/chat", {"messages": [{"role": "user", "content": LONG}]}, "string_above_max_length", None),
    ],
)
def test_what_is_too_long_is_refused_by_the_callers_own_name(
    rig: Rig, path: str, body: dict[str, Any], code: str, param: str | None
) -> None:
    refused = _ask(rig, path, **body).get_json()

    assert (refused["code"], refused["param"]) == (code, param or "messages[0].content")


def test_a_length_above_a_models_own_limit_is_refused_by_the_callers_own_name(tmp_path: Path) -> None:
    with gateway(tmp_path, limits=f'[limits.models."{MODEL}"]\nmax_tokens = 80') as rig:
        refused = _ask(rig, "/api/chat", messages=USER, options={"num_predict": 81}).get_json()

    assert (refused["code"], refused["param"]) == ("invalid_value", "options.num_predict")


def test_what_an_engine_does_not_take_is_refused_by_the_callers_own_name(rig: Rig) -> None:
    rig.engine.takes = ()
    refused = _ask(rig, "/api/chat", messages=USER, options={"repeat_penalty": 1.2}).get_json()

    assert (refused["code"], refused["param"]) == ("unsupported_parameter", "options.repeat_penalty")


def _called(*names: str, **more: str) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {**({"id": more[name]} if name in more else {}), "function": {"name": name, "arguments": {"of": name}}}
            for name in names
        ],
    }


def _joined(rig: Rig) -> list[tuple[str, str]]:
    """Return which function's call each answer of a tool was sent as."""
    sent = rig.engine.last["messages"]
    names = {one["id"]: one["function"]["name"] for message in sent for one in message.get("tool_calls", ())}
    return [(names[one["tool_call_id"]], one["content"]) for one in sent if one["role"] == "tool"]


@pytest.mark.parametrize(
    ("call", "answers", "joined"),
    [
        (
            _called("bp", "hr"),
            [{"tool_name": "hr", "content": "60"}, {"tool_name": "bp", "content": "120"}],
            [("hr", "60"), ("bp", "120")],
        ),
        (_called("bp", "hr"), [{"content": "120"}, {"content": "60"}], [("bp", "120"), ("hr", "60")]),
        (
            _called("bp", "hr"),
            [{"tool_name": "hr", "content": "60"}, {"content": "120"}],
            [("hr", "60"), ("bp", "120")],
        ),
        (
            _called("bp", "hr", bp="a", hr="b"),
            [{"tool_call_id": "b", "content": "60"}, {"tool_call_id": "a", "content": "120"}],
            [("hr", "60"), ("bp", "120")],
        ),
        (
            _called("bp", "hr"),  # as a client sends it that does not keep the ids of calls
            [{"tool_call_id": "b", "tool_name": "hr", "content": "60"}, {"tool_call_id": "a", "content": "120"}],
            [("hr", "60"), ("bp", "120")],
        ),
        (
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}}
                    for name in ("bp", "hr")
                ],
            },
            [{"tool_call_id": "hr", "content": "60"}, {"tool_call_id": "bp", "content": "120"}],
            [("hr", "60"), ("bp", "120")],
        ),
    ],
    ids=["by name", "by order", "by name, then order", "by id", "ids that calls lack", "as OpenAI has it"],
)
def test_what_tools_gave_back_is_the_answer_to_the_call_that_it_names(
    rig: Rig, call: dict[str, Any], answers: list[dict[str, Any]], joined: list[tuple[str, str]]
) -> None:
    history = [*USER, call, *({"role": "tool", **one} for one in answers)]
    response = _ask(rig, "/api/chat", messages=history, tools=[WEATHER], stream=False)

    assert response.status_code == 200, response.get_json()
    assert _joined(rig) == joined


def test_two_calls_of_one_function_are_answered_in_their_order(rig: Rig) -> None:
    answers = [{"role": "tool", "tool_name": "bp", "content": text} for text in ("120", "80")]
    _ask(rig, "/api/chat", messages=[*USER, _called("bp", "hr", "bp"), *answers], tools=[WEATHER], stream=False)

    _, call, *answered = rig.engine.last["messages"]
    ids = [one["id"] for one in call["tool_calls"]]
    assert [(one["tool_call_id"], one["content"]) for one in answered] == [(ids[0], "120"), (ids[2], "80")]


@pytest.mark.parametrize(
    ("call", "answers", "param"),
    [
        (_called("bp"), [{"tool_name": "hr"}], "messages[2].tool_name"),
        (_called("bp"), [{"tool_name": "bp"}, {"tool_name": "bp"}], "messages[3].tool_name"),
        (_called("bp"), [{"tool_name": ["bp"]}], "messages[2].tool_name"),
        (_called("bp", bp="a"), [{"tool_call_id": "b"}], "messages[2].tool_call_id"),
    ],
    ids=["unknown", "answered", "no text", "unknown id"],
)
def test_an_answer_to_a_call_that_nobody_made_is_refused_by_name(
    rig: Rig, call: dict[str, Any], answers: list[dict[str, Any]], param: str
) -> None:
    history = [*USER, call, *({"role": "tool", "content": "60", **one} for one in answers)]
    refused = _ask(rig, "/api/chat", messages=history, tools=[WEATHER], stream=False)

    assert refused.status_code == 400
    assert (refused.get_json()["code"], refused.get_json()["param"]) == ("invalid_value", param)
    assert not rig.engine.asked


def test_an_answer_that_breaks_off_ends_with_an_error_and_is_recorded(rig: Rig) -> None:
    rig.engine.script = Script(pieces=("one ", "two "), error_after=1)
    *_, last = _lines(_ask(rig, "/api/chat", messages=USER))

    assert last["code"] == "engine_error"
    assert "done" not in last
    assert [one["outcome"] for one in rig.bodies("request.outcome")] == ["error"]


def test_what_is_listed_has_the_size_of_its_weights_where_it_is_known(rig: Rig) -> None:
    def sizes() -> list[int | None]:
        listed = (rig.client.get(path, headers=rig.headers()).get_json() for path in ("/api/tags", "/api/ps"))
        return [one.get("size") for each in listed for one in each["models"]]

    assert sizes() == [None, None]
    rig.promote(weights=Weights(bytes=88_000_000, format="gguf", quantization="Q4_1"))
    assert sizes() == [88_000_000, 88_000_000]
    shown = rig.ask({"model": MODEL}, path="/api/show").get_json()["details"]
    assert (shown["format"], shown["quantization_level"]) == ("gguf", "Q4_1")


def test_what_is_to_be_unloaded_stays_loaded_and_its_caller_is_told(rig: Rig) -> None:
    for path in ("/api/generate", "/api/chat"):
        response = _ask(rig, path, keep_alive=0)
        assert (response.status_code, response.get_json()["done_reason"]) == (200, "load")
        assert response.headers["x-sealift-ignored"] == "keep_alive"
    assert "x-sealift-ignored" not in _ask(rig, "/api/generate").headers


def test_asking_only_to_load_asks_no_engine(rig: Rig) -> None:
    assert _ask(rig, "/api/generate").get_json()["done_reason"] == "load"
    assert _ask(rig, "/api/chat", messages=[]).get_json()["done_reason"] == "load"
    assert not rig.engine.asked


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("/api/generate", {"prompt": "", "bogus": 1}, "unknown_parameter", "bogus"),
        ("/api/generate", {"prompt": "", "images": ["eA=="]}, "unsupported_parameter", "images"),
        ("/api/generate", {"template": "{{ .Prompt }}"}, "unsupported_parameter", "template"),
        ("/api/generate", {"options": {"temperatur": 1}}, "unknown_parameter", "options.temperatur"),
        ("/api/chat", {"messages": [], "prompt": "hello"}, "unknown_parameter", "prompt"),
        ("/api/chat", {"options": []}, "invalid_value", "options"),
        ("/api/show", {"bogus": 1}, "unknown_parameter", "bogus"),
        ("/api/show", {"template": "{{ .Prompt }}"}, "unsupported_parameter", "template"),
    ],
)
def test_an_unknown_word_is_refused_by_name_where_nothing_is_asked(
    rig: Rig, path: str, body: dict[str, Any], code: str, param: str
) -> None:
    refused = _ask(rig, path, **body)

    assert refused.status_code == 400
    assert (refused.get_json()["code"], refused.get_json()["param"]) == (code, param)
    assert [one["code"] for one in rig.bodies("request.refused")] == [code]


@pytest.mark.parametrize(
    ("path", "body", "ignored"),
    [
        # As Ollama's own program asks for a model: every word is there, and most say nothing.
        ("/api/generate", {"prompt": "", "suffix": "", "system": "", "template": "", "options": {}}, None),
        ("/api/generate", {"prompt": "", "images": [], "context": [], "think": False, "format": ""}, None),
        ("/api/generate", {"system": "be brief", "options": {"num_ctx": 512}}, "options.num_ctx, system"),
        ("/api/chat", {"messages": [], "tools": [WEATHER], "keep_alive": 0, "think": None}, "keep_alive, tools"),
        ("/api/show", {"system": "", "template": "", "verbose": False, "options": None, "name": ""}, None),
        ("/api/show", {"verbose": True}, "verbose"),
    ],
)
def test_what_has_no_effect_where_nothing_is_asked_is_named(
    rig: Rig, path: str, body: dict[str, Any], ignored: str | None
) -> None:
    response = _ask(rig, path, **body)

    assert (response.status_code, response.headers.get("x-sealift-ignored")) == (200, ignored)


def test_what_is_promoted_is_listed_and_shown(rig: Rig) -> None:
    listed = rig.client.get("/api/tags", headers=rig.headers()).get_json()["models"]
    running = rig.client.get("/api/ps", headers=rig.headers()).get_json()["models"]
    shown = rig.ask({"model": f"{MODEL}:latest"}, path="/api/show").get_json()

    assert [one["name"] for one in listed] == [one["name"] for one in running] == [MODEL]
    assert listed[0]["digest"] == MODEL_DIGEST
    assert shown["capabilities"] == ["completion", "tools", "embedding"]


def test_clients_find_the_version_of_ollamas_routes_that_they_ask_for_and_ours_beside_it(rig: Rig) -> None:
    told = rig.client.get("/api/version", headers=rig.headers()).get_json()

    assert tuple(int(part) for part in told["version"].split(".")) >= (0, 6, 4)
    assert told["sealift"] == metadata.version("sealift")


def test_clients_find_how_long_a_question_may_be_and_what_the_model_is(rig: Rig) -> None:
    def told() -> tuple[dict[str, Any], dict[str, Any]]:
        (running,) = rig.client.get("/api/ps", headers=rig.headers()).get_json()["models"]
        return rig.ask({"model": MODEL}, path="/api/show").get_json(), running

    rig.promote(context=8192)
    rig.engine.model = {"architecture": "llama", "parameters": 134_515_008, "embedding_length": 576}
    shown, running = told()
    details = {name: shown["details"][name] for name in ("family", "families", "parameter_size")}

    assert running["context_length"] == 8192
    assert details == {"family": "llama", "families": ["llama"], "parameter_size": "134.52M"}
    assert {name: value for name, value in shown["model_info"].items() if name not in OWN_FACTS} == {
        "general.architecture": "llama",
        "general.parameter_count": 134_515_008,
        "llama.context_length": 8192,
        "llama.embedding_length": 576,
    }

    rig.engine.model = {"architecture": "a b", "parameters": "many", "embedding_length": -1}
    rig.promote(context=0)
    shown, running = told()
    assert (set(shown["model_info"]), shown["details"]["family"]) == (OWN_FACTS, "")
    assert "context_length" not in running


def test_nothing_is_told_without_a_key(rig: Rig) -> None:
    for path in ("/api/tags", "/api/ps", "/api/version"):
        refused = rig.client.get(path)
        assert (refused.status_code, refused.get_json()["code"]) == (401, "invalid_api_key")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5000) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_NAMES = st.sampled_from(["model", "messages", "prompt", "options", "stream", "tools", "raw", "system", "role", "x"])


@given(body=st.dictionaries(_NAMES, _JSON), is_chat=st.booleans())
def test_any_object_is_read_or_refused(*, body: dict[str, Any], is_chat: bool) -> None:
    with suppress(Problem):  # its own errors and no others
        asked = Ollama(is_chat=is_chat).read(body, endpoint=Endpoint.CHAT, limits=LimitsSection())
        assert asked.messages or asked.endpoint is Endpoint.COMPLETIONS


def test_a_refusal_names_its_parameter_in_the_text_which_is_all_that_clients_show(rig: Rig) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "options": {"mirostat": 1}}
    refused = rig.client.post("/api/chat", json=body, headers={"Authorization": f"Bearer {rig.key}"}).get_json()

    assert refused["param"] == "options.mirostat"
    assert refused["error"].endswith(" (options.mirostat)")
