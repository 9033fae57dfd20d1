"""openai-python's own helpers for structured answers and functions, through the gateway and llama.cpp's engine."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import httpx2
import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.support.echo_engine import echo_engine
from tests.support.gateway import MODEL, gateway

pytestmark = pytest.mark.interop


class Kind(StrEnum):
    ACUTE = "acute"
    CHRONIC = "chronic"


class Finding(BaseModel):
    code: Literal["a", "b"]
    kind: Kind
    weight: float | None
    parts: list[str]


class LookUp(BaseModel):
    city: str
    days: int


@pytest.fixture
def client(tmp_path: Path) -> Iterator[OpenAI]:
    with echo_engine(tmp_path / "ours.sock"), gateway(tmp_path) as rig:
        rig.promote(socket=tmp_path / "ours.sock", engine="llama.cpp")
        transport = httpx2.WSGITransport(app=rig.app)
        with httpx2.Client(transport=transport) as http:
            yield OpenAI(base_url="http://box.test/v1", api_key=rig.key, http_client=http, max_retries=0)


QUESTION: Any = [{"role": "user", "content": "abc"}]


def test_parse_gives_the_callers_own_type(client: OpenAI) -> None:
    parsed = client.chat.completions.parse(model=MODEL, messages=QUESTION, response_format=Finding)

    finding = parsed.choices[0].message.parsed
    assert finding == Finding(code="a", kind=Kind.ACUTE, weight=1.5, parts=[])


def test_functions_are_called_with_the_callers_own_types(client: OpenAI) -> None:
    parsed = client.chat.completions.parse(
        model=MODEL, messages=QUESTION, tools=[openai.pydantic_function_tool(LookUp)], tool_choice="required"
    )

    (call,) = parsed.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == LookUp(city="x", days=7)
    assert parsed.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("form", ["object", "dump"])
@pytest.mark.parametrize("way", ["create", "parse", "stream"])
@pytest.mark.parametrize("has_call", [True, False], ids=["call", "finding"])
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_an_answer_of_the_sdks_own_type_may_be_the_next_questions_history(
    client: OpenAI, way: str, form: str, *, has_call: bool
) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION}
    if has_call:
        asked |= {"tools": [openai.pydantic_function_tool(LookUp)], "tool_choice": "required"}
    elif way != "create":
        asked |= {"response_format": Finding}
    message: Any
    if way == "stream":
        with client.chat.completions.stream(**asked) as stream:
            message = stream.get_final_completion().choices[0].message
    else:
        message = getattr(client.chat.completions, way)(**asked).choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "x"} for call in message.tool_calls or []]

    history = [*QUESTION, message if form == "object" else message.model_dump(), *results, *QUESTION]
    answer = client.chat.completions.create(model=MODEL, messages=history)

    assert bool(results) == has_call
    assert answer.choices[0].finish_reason == "stop"


def test_a_stream_of_a_structured_answer_is_put_together(client: OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=QUESTION, response_format=Finding) as stream:
        completion = stream.get_final_completion()

    assert completion.choices[0].message.parsed == Finding(code="a", kind=Kind.ACUTE, weight=1.5, parts=[])


def test_an_answer_that_was_cut_is_an_error_of_the_sdk(client: OpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model=MODEL, messages=QUESTION, response_format=Finding, max_tokens=3)


def test_probabilities_and_several_answers_are_the_sdks_own_types(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, n=2, logprobs=True, top_logprobs=2)

    assert [choice.index for choice in answer.choices] == [0, 1]
    told = answer.choices[1].logprobs
    assert told is not None
    assert [one.token for one in told.content or []] == ["A", "B", "C"]
    assert len((told.content or [])[0].top_logprobs) == 2


def test_what_is_not_kept_is_refused_with_its_parameter(client: OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}

    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=QUESTION, response_format=wanted)

    assert (caught.value.code, caught.value.param) == ("invalid_schema", "response_format")
