"""OpenAI's own Python client against the gateway as its unit runs it: asynchronous, embeddings, retries.

Whole and streamed answers, errors and headers are in tests/functional/gateway/test_server.py.
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from appliance.serve.engine import THOUGHTS
from tests.support.engine import DIMENSIONS, THINKING_ALOUD, Script
from tests.support.gateway import MODEL
from tests.support.gateway_server import Server, gateway_server

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with gateway_server(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    server.engine.script = Script()
    server.engine.asked.clear()
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=30) as client:
        yield client


def messages(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_embeddings_come_as_the_client_asks_by_itself_and_as_numbers(client: openai.OpenAI, server: Server) -> None:
    usual = client.embeddings.create(model=MODEL, input=["asked nowhere else", "SSN 123-45-6789"])
    numbers = client.embeddings.create(
        model=MODEL, input=["asked nowhere else", "SSN 123-45-6789"], encoding_format="float"
    )

    assert [one.embedding for one in usual.data] == [one.embedding for one in numbers.data]
    assert [len(one.embedding) for one in usual.data] == [DIMENSIONS] * 2
    assert usual.usage.total_tokens == usual.usage.prompt_tokens > 0
    assert server.engine.embedded[0] == ["asked nowhere else", "SSN [SSN_1]"]


def test_embeddings_that_are_refused_raise_the_clients_own_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=MODEL, input=[1, 2, 3])

    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "input")
    assert refused.value.request_id


def test_the_asynchronous_client_streams_and_embeds_at_once(client: openai.OpenAI, server: Server) -> None:
    async def ask() -> tuple[list[str], int]:
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key=server.key, max_retries=0) as both:

            async def streamed(text: str) -> str:
                stream = await both.chat.completions.create(model=MODEL, messages=messages(text), stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            texts = await asyncio.gather(*(streamed(f"number {number}") for number in range(8)))
            vectors = await both.embeddings.create(model=MODEL, input="one")
            return list(texts), len(vectors.data[0].embedding)

    texts, length = asyncio.run(ask())

    assert texts == [f"You said: number {number}" for number in range(8)]
    assert length == DIMENSIONS


@pytest.mark.parametrize(("status", "attempts"), [(503, 2), (400, 1)])
def test_the_client_asks_again_only_where_that_may_help(
    client: openai.OpenAI, server: Server, status: int, attempts: int
) -> None:
    server.engine.script = Script(refuse=(status, "engine_refused"))

    with pytest.raises(openai.APIStatusError):
        client.with_options(max_retries=1).embeddings.create(model=MODEL, input="one more")

    assert len(server.engine.embedded) == attempts


CALL: dict[str, Any] = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "LookUp", "arguments": '{"city":"x","days":7}'},
}


class LookUp(BaseModel):
    city: str
    days: int


def test_functions_are_called_whole_streamed_and_asynchronously_through_the_server(
    client: openai.OpenAI, server: Server
) -> None:
    server.engine.script = Script(text="", tool_calls=(CALL,))
    tools = [openai.pydantic_function_tool(LookUp)]

    whole = client.chat.completions.parse(model=MODEL, messages=messages("weather?"), tools=tools)
    with client.chat.completions.stream(model=MODEL, messages=messages("weather?"), tools=tools) as stream:
        deltas = [event for event in stream if event.type == "tool_calls.function.arguments.delta"]
        streamed = stream.get_final_completion()

    async def ask() -> Any:
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key=server.key, max_retries=0) as both:
            return await both.chat.completions.parse(model=MODEL, messages=messages("weather?"), tools=tools)

    assert len(deltas) > 1, "arguments come as they are made"
    for answer in (whole, streamed, asyncio.run(ask())):
        (call,) = answer.choices[0].message.tool_calls or []
        assert call.function.parsed_arguments == LookUp(city="x", days=7)
        assert answer.choices[0].finish_reason == "tool_calls"
    assert server.engine.last["tools"][0]["function"]["name"] == "LookUp"


def test_a_structured_answer_is_the_callers_own_type_through_the_server(client: openai.OpenAI, server: Server) -> None:
    server.engine.script = Script(text='{"city": "x", "days": 7}')

    answer = client.chat.completions.parse(model=MODEL, messages=messages("weather?"), response_format=LookUp)

    assert answer.choices[0].message.parsed == LookUp(city="x", days=7)
    assert server.engine.last["response_format"]["type"] == "json_schema"


def test_the_client_waits_as_long_as_it_is_told_when_it_asked_too_often(tmp_path: Path) -> None:
    with gateway_server(tmp_path, limits="requests_per_minute = 30") as site:
        here: dict[str, Any] = {"base_url": f"{site.url}/v1", "api_key": site.key, "timeout": 30}
        with openai.OpenAI(max_retries=0, **here) as once, openai.OpenAI(max_retries=1, **here) as twice:
            with pytest.raises(openai.RateLimitError) as refused:
                _ask_often(once)
            began = time.monotonic()
            answer = twice.chat.completions.create(model=MODEL, messages=messages("hello"))
            waited = time.monotonic() - began

    told = float(refused.value.response.headers["retry-after"])
    assert 1 <= told <= 3
    assert answer.choices[0].message.content == "You said: hello"
    assert waited >= told - 1.2  # told in whole seconds; by itself the client would begin with half a second


def _ask_often(client: openai.OpenAI) -> None:
    for _ in range(40):
        client.chat.completions.create(model=MODEL, messages=messages("hello"))


def test_thoughts_lie_beside_the_answer_where_clients_look_for_them(
    client: openai.OpenAI, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.engine, "takes", (THOUGHTS,))
    server.engine.script = Script(events=THINKING_ALOUD)
    stream = list(
        client.chat.completions.create(
            model=MODEL,
            messages=messages("why?"),
            stream=True,
            extra_body={"chat_template_kwargs": {"enable_thinking": True}},
        )
    )

    deltas = [chunk.choices[0].delta for chunk in stream if chunk.choices]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "Let me see."
    assert "".join(delta.content or "" for delta in deltas) == "So."
