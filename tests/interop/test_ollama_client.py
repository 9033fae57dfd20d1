"""Ollama's own Python client against the gateway as its unit runs it."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import ollama
import pytest
from pydantic import BaseModel

from appliance.serve.engine import THOUGHTS
from tests.support.echo_engine import echo_engine
from tests.support.engine import DIMENSIONS, MODEL_DIGEST, THINKING_ALOUD, Script
from tests.support.gateway import MODEL, gateway, key_text
from tests.support.gateway_server import Server, gateway_server

pytestmark = pytest.mark.interop
QUESTION = [{"role": "user", "content": "hello"}]


class Finding(BaseModel):
    code: Literal["a", "b"]
    weight: float | None
    parts: list[str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with gateway_server(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[ollama.Client]:
    server.engine.script = Script()
    client = ollama.Client(host=server.url, headers={"Authorization": f"Bearer {server.key}"})
    yield client
    client._client.close()


def test_it_chats_whole_and_streamed(client: ollama.Client) -> None:
    messages = [{"role": "user", "content": "SSN 123-45-6789"}]
    whole = client.chat(model=MODEL, messages=messages)
    streamed = list(client.chat(model=MODEL, messages=messages, stream=True))

    assert whole.message.content == "You said: SSN 123-45-6789"
    assert "".join(one.message.content or "" for one in streamed) == whole.message.content
    assert streamed[-1].done
    assert streamed[-1].done_reason == "stop"
    assert streamed[-1].eval_count


def test_it_generates(client: ollama.Client) -> None:
    assert client.generate(model=MODEL, prompt="hello").response == "You said: hello"
    assert client.generate(model=MODEL).done_reason == "load"

    streamed = list(client.generate(model=MODEL, prompt="hello", stream=True))
    assert "".join(one.response or "" for one in streamed) == "You said: hello"
    assert ([one.done for one in streamed[:-1]], streamed[-1].done_reason) == ([False] * (len(streamed) - 1), "stop")
    assert streamed[-1].eval_count


def test_its_asynchronous_client_chats_whole_and_streamed_several_at_once(server: Server) -> None:
    server.engine.script = Script()

    async def ask() -> tuple[list[str], str, str | None]:
        client = ollama.AsyncClient(host=server.url, headers={"Authorization": f"Bearer {server.key}"})
        async with client._client:
            whole = await asyncio.gather(*(client.chat(model=MODEL, messages=QUESTION) for _ in range(3)))
            told = [one async for one in await client.chat(model=MODEL, messages=QUESTION, stream=True)]
        return (
            [one.message.content or "" for one in whole],
            "".join(one.message.content or "" for one in told),
            told[-1].done_reason,
        )

    assert asyncio.run(ask()) == (["You said: hello"] * 3, "You said: hello", "stop")


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
def test_an_answer_has_the_form_that_its_caller_gave(tmp_path: Path, *, is_streamed: bool) -> None:
    with echo_engine(tmp_path / "ours.sock"), gateway(tmp_path) as rig:
        rig.promote(socket=tmp_path / "ours.sock", engine="llama.cpp")
        client = ollama.Client(
            host="http://box.test",
            headers={"Authorization": f"Bearer {rig.key}"},
            transport=httpx.WSGITransport(app=rig.app),
        )
        asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "format": Finding.model_json_schema()}
        told = client.chat(**asked, stream=True) if is_streamed else [client.chat(**asked)]
        said = "".join(one.message.content or "" for one in told)
        generated = client.generate(model=MODEL, prompt="hello", format="json")
        client._client.close()

    assert Finding.model_validate_json(said).code in {"a", "b"}
    assert isinstance(json.loads(generated.response or ""), dict)


def test_it_calls_functions(client: ollama.Client, server: Server) -> None:
    def weather(city: str) -> str:
        return city

    call = {"id": "c1", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    server.engine.script = Script(pieces=(), tool_calls=(call,))
    answer = client.chat(model=MODEL, messages=[{"role": "user", "content": "?"}], tools=[weather])

    (called,) = answer.message.tool_calls or ()
    assert (called.function.name, called.function.arguments) == ("weather", {"city": "Paris"})


def test_its_answers_of_tools_find_their_calls(client: ollama.Client, server: Server) -> None:
    called: list[dict[str, Any]] = [{"function": {"name": name, "arguments": {}}} for name in ("bp", "hr")]
    told = [{"role": "tool", "tool_name": name, "content": name} for name in ("hr", "bp")]
    asked = {"role": "user", "content": "?"}
    client.chat(model=MODEL, messages=[asked, {"role": "assistant", "tool_calls": called}, *told])

    _, call, *answers = server.engine.last["messages"]
    ids = {one["id"]: one["function"]["name"] for one in call["tool_calls"]}
    assert [(ids[one["tool_call_id"]], one["content"]) for one in answers] == [("hr", "hr"), ("bp", "bp")]


def test_it_lists_and_shows_models(client: ollama.Client) -> None:
    assert [one.model for one in client.list().models] == [MODEL]
    assert [one.digest for one in client.ps().models] == [MODEL_DIGEST]
    assert [one.model for one in client.ps().models] == [MODEL]


def test_it_finds_how_long_a_question_may_be_and_what_the_model_is(
    client: ollama.Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.engine, "model", {"architecture": "llama", "parameters": 134_515_008})
    (running,) = client.ps().models
    shown = client.show(MODEL)
    facts = shown.modelinfo or {}

    assert "embedding" in (shown.capabilities or [])
    assert facts[f"{facts['general.architecture']}.context_length"] == running.context_length == 4096
    assert shown.details is not None
    assert (shown.details.family, shown.details.parameter_size) == ("llama", "134.52M")


def test_it_embeds_by_both_of_its_ways(client: ollama.Client, server: Server) -> None:
    several = client.embed(model=MODEL, input=["one", "SSN 123-45-6789"], options={"num_ctx": 512})
    single = client.embeddings(model=MODEL, prompt="one")

    assert [len(one) for one in several.embeddings] == [DIMENSIONS] * 2
    assert list(single.embedding) == list(several.embeddings[0])
    assert several.prompt_eval_count
    assert server.engine.embedded[0][1] == "SSN [SSN_1]"
    with pytest.raises(ollama.ResponseError, match="cannot be cut"):
        client.embed(model=MODEL, input="one", dimensions=3)


def test_it_raises_its_own_errors_with_our_words(client: ollama.Client, server: Server) -> None:
    with pytest.raises(ollama.ResponseError, match="does not exist here") as refused:
        client.chat(model="other", messages=[{"role": "user", "content": "x"}])
    assert refused.value.status_code == 404
    by_name: list[Callable[[str], Any]] = [client.show, client.generate, lambda model: client.embed(model, "x")]
    for ask in by_name:
        with pytest.raises(ollama.ResponseError, match="does not exist here") as refused:
            ask("other")
        assert refused.value.status_code == 404

    server.engine.script = Script(pieces=("one ", "two "), error_after=1)
    with pytest.raises(ollama.ResponseError, match="engine failed"):
        list(client.chat(model=MODEL, messages=[{"role": "user", "content": "x"}], stream=True))


@pytest.mark.parametrize("key", [key_text("zyxwvuts23"), "none"], ids=["unknown", "no-key"])
def test_a_wrong_key_is_its_own_error_whatever_is_asked(server: Server, key: str) -> None:
    client = ollama.Client(host=server.url, headers={"Authorization": f"Bearer {key}"})
    asked: list[Callable[[], Any]] = [client.list, client.ps, lambda: client.chat(MODEL, QUESTION)]
    for ask in asked:
        with pytest.raises(ollama.ResponseError) as refused:
            ask()
        assert refused.value.status_code == 401
    client._client.close()


def test_it_finds_thoughts_in_a_field_of_their_own(
    client: ollama.Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.engine, "takes", (THOUGHTS,))
    server.engine.script = Script(events=THINKING_ALOUD)
    messages = [{"role": "user", "content": "why?"}]
    streamed = list(client.chat(model=MODEL, messages=messages, think=True, stream=True))
    server.engine.script = Script()
    goes_on = client.chat(
        model=MODEL, messages=[*messages, *({"role": "assistant", "content": "So.", "thinking": "x"}, *messages)]
    )

    assert "".join(one.message.thinking or "" for one in streamed) == "Let me see."
    assert "".join(one.message.content or "" for one in streamed) == "So."
    assert goes_on.message.thinking is None
