"""Limits of one model beside the site's: wider or narrower, judged by the model that answers, however it was called."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import MODEL, Rig, gateway

SITES = "message_characters = 100\ninput_tokens = 60\nmax_tokens = 50\ndefault_max_tokens = 40\n"


def with_models(**named: dict[str, int]) -> str:
    tables = (
        f'[limits.models."{name}"]\n' + "".join(f"{key} = {value}\n" for key, value in numbers.items())
        for name, numbers in named.items()
    )
    return SITES + "".join(tables)


def refusal(response: Any) -> tuple[int, str, str | None]:
    error = response.get_json()["error"]
    return response.status_code, error["code"], error["param"]


def sent(rig: Rig) -> int:
    return int(rig.engine.last["max_tokens"])


def test_a_model_may_be_asked_for_more_than_the_others(tmp_path: Path) -> None:
    wide = {"message_characters": 1000, "input_tokens": 900, "max_tokens": 80}
    with gateway(tmp_path, limits=with_models(**{MODEL: wide})) as rig:
        assert rig.chat("word " * 60).status_code == 200
        assert sent(rig) == 40  # who names no length has the site's usual one
        assert rig.chat("hello", max_tokens=80).status_code == 200
        assert refusal(rig.chat("hello", max_tokens=81)) == (400, "invalid_value", "max_tokens")
        assert refusal(rig.chat("a" * 1001)) == (400, "string_above_max_length", "messages[0].content")
        rig.promote(name="another")
        for text in ("word " * 60, "a" * 101):
            assert rig.ask({"model": "another", "messages": [{"role": "user", "content": text}]}).status_code == 400


def test_a_model_may_be_asked_for_less(tmp_path: Path) -> None:
    narrow = {"message_characters": 20, "max_tokens": 10}
    with gateway(tmp_path, limits=with_models(**{MODEL: narrow})) as rig:
        assert rig.chat("hello").status_code == 200
        assert sent(rig) == 10
        assert refusal(rig.chat("hello", max_tokens=11)) == (400, "invalid_value", "max_tokens")
        assert refusal(rig.chat("a" * 21)) == (400, "string_above_max_length", "messages[0].content")
        assert refusal(rig.chat("hello", max_completion_tokens=11)) == (400, "invalid_value", "max_completion_tokens")
        call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": json.dumps({"at": "a" * 21})}}
        said = [{"role": "user", "content": "hello"}, {"role": "assistant", "tool_calls": [call]}]
        called = rig.ask({"model": MODEL, "messages": said})
        assert refusal(called) == (400, "string_above_max_length", "messages[1].tool_calls")
        completed = rig.ask({"model": MODEL, "prompt": "a" * 21}, path="/v1/completions")
        assert refusal(completed) == (400, "string_above_max_length", "prompt")


def test_what_reads_too_many_tokens_for_its_model_is_refused_and_the_engine_makes_nothing(tmp_path: Path) -> None:
    wide = {"message_characters": 5000, "input_tokens": 100}
    with gateway(tmp_path, limits=with_models(**{MODEL: wide})) as rig:
        assert refusal(rig.chat("word " * 200)) == (400, "context_length_exceeded", "messages")
        assert [route for route, _ in rig.engine.asked] == ["/sealift/v1/tokenize"]


@pytest.mark.parametrize("asked", [-1, -2])
def test_as_many_as_there_may_be_are_those_of_the_model(tmp_path: Path, asked: int) -> None:
    limits = with_models(**{MODEL: {"max_tokens": 10}, "wider": {"max_tokens": 90}})
    with gateway(tmp_path, limits=limits) as rig:
        body = {"model": MODEL, "prompt": "hello", "stream": False, "options": {"num_predict": asked}}

        assert rig.ask(body, path="/api/generate").status_code == 200
        assert sent(rig) == 10


def test_an_alias_has_the_limits_of_what_it_stands_for(tmp_path: Path) -> None:
    with gateway(tmp_path, limits=with_models(**{MODEL: {"max_tokens": 10}})) as rig:
        rig.promote(also=("production",))
        asked = {"model": "production", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 11}

        assert refusal(rig.ask(asked)) == (400, "invalid_value", "max_tokens")


def test_what_programs_read_of_the_api_names_the_widest(tmp_path: Path) -> None:
    with gateway(tmp_path, limits=with_models(**{MODEL: {"max_tokens": 80, "message_characters": 10}})) as rig:
        told = rig.client.get("/v1/openapi.json", headers=rig.headers()).get_json()

    question = told["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert question["properties"]["max_tokens"]["maximum"] == 80
