"""Ollama's own Python client against the gateway as its unit runs it."""

from collections.abc import Iterator
from typing import Any

import ollama
import pytest

from appliance.serve.engine import THOUGHTS
from tests.support.engine import DIMENSIONS, MODEL_DIGEST, THINKING_ALOUD, Script
from tests.support.gateway import MODEL
from tests.support.gateway_server import Server, gateway_server

pytestmark = pytest.mark.interop


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
    assert "embedding" in (client.show(MODEL).capabilities or [])


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

    server.engine.script = Script(pieces=("one ", "two "), error_after=1)
    with pytest.raises(ollama.ResponseError, match="engine failed"):
        list(client.chat(model=MODEL, messages=[{"role": "user", "content": "x"}], stream=True))


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
