"""The engine's client against a server that answers from a table."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import EngineProtocolError, EngineRefusedError, EngineUnavailableError
from appliance.serve.client import EngineClient, Score
from tests.support.scripted_http import Reply, ScriptedServer, scripted_server

CHAT = "/v1/chat/completions"
STATUS = {"model_digest": "a" * 64, "weights_digest": "b" * 64, "stage": "test", "state": "ready", "n_ctx": 512}


def event(content: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": content}}]}).encode() + b"\n\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedServer]:
    with scripted_server(tmp_path / "engine.sock", {}) as running:
        yield running


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[EngineClient]:
    with EngineClient(server.path, read_seconds=5) as made:
        yield made


def test_a_chat_is_asked_without_streaming_and_returned_whole(server: ScriptedServer, client: EngineClient) -> None:
    server.replies[CHAT] = Reply(body={"id": "x", "choices": []})

    answer = client.chat({"messages": [], "stream": True})

    assert answer == {"id": "x", "choices": []}
    assert server.asked == [(CHAT, {"messages": [], "stream": False})]


def test_one_connection_serves_many_calls(server: ScriptedServer, client: EngineClient) -> None:
    server.replies[CHAT] = Reply(body={})

    for _ in range(3):
        client.chat({})

    assert client._pool.num_connections == 1


def test_a_stream_yields_its_events_however_the_bytes_are_cut(server: ScriptedServer, client: EngineClient) -> None:
    whole = event("Grüße") + b": a comment\n\n" + event("!") + b"data: [DONE]\n\n"
    for size in (1, 7, 1000):
        pieces = tuple(whole[i : i + size] for i in range(0, len(whole), size))
        server.replies[CHAT] = Reply(pieces=pieces)

        events = list(client.chat_stream({"messages": []}))

        assert [one["choices"][0]["delta"]["content"] for one in events] == ["Grüße", "!"]
    assert client._pool.num_connections == 1


def test_a_stream_without_done_is_an_error_and_not_a_short_answer(server: ScriptedServer, client: EngineClient) -> None:
    server.replies[CHAT] = Reply(pieces=(event("half"),))

    with pytest.raises(EngineProtocolError, match="broke its contract"):
        list(client.chat_stream({}))


def test_a_stream_torn_in_the_middle_is_an_error(server: ScriptedServer, client: EngineClient) -> None:
    server.replies[CHAT] = Reply(pieces=(event("half"),), torn=True)

    with pytest.raises(EngineProtocolError):
        list(client.chat_stream({}))


def test_closing_the_iterator_hangs_up_on_the_engine(server: ScriptedServer, client: EngineClient) -> None:
    server.replies[CHAT] = Reply(pieces=tuple(event("x" * 1000) for _ in range(20000)))
    stream = client.chat_stream({})
    next(stream)

    stream.close()

    assert server.hung_up.wait(timeout=60)


def test_an_engine_that_is_not_there_is_unavailable_and_unhealthy(tmp_path: Path) -> None:
    with EngineClient(tmp_path / "none.sock") as client:
        assert client.health() is False
        with pytest.raises(EngineUnavailableError):
            client.chat({})


def test_an_engine_that_says_nothing_in_time_is_unavailable(server: ScriptedServer) -> None:
    def slowly(_: object) -> Reply:
        server.hung_up.wait(timeout=0.5)
        return Reply(body={})

    server.replies[CHAT] = slowly

    with EngineClient(server.path, read_seconds=0.1) as client, pytest.raises(EngineUnavailableError):
        client.chat({})


def test_health_is_what_the_engine_says(server: ScriptedServer, client: EngineClient) -> None:
    server.replies["/health"] = Reply(status=503, body={})
    assert client.health() is False

    server.replies["/health"] = Reply(body={})
    assert client.health() is True


def test_the_status_is_read_into_its_fields(server: ScriptedServer, client: EngineClient) -> None:
    server.replies["/sealift/v1/status"] = Reply(body=STATUS)

    assert client.status().n_ctx == 512


@pytest.mark.parametrize("field", sorted(STATUS))
def test_a_status_without_a_field_is_refused(server: ScriptedServer, client: EngineClient, field: str) -> None:
    server.replies["/sealift/v1/status"] = Reply(body={**STATUS, field: None})

    with pytest.raises(EngineProtocolError):
        client.status()


def test_scores_come_back_in_the_order_of_the_continuations(server: ScriptedServer, client: EngineClient) -> None:
    server.replies["/sealift/v1/score"] = Reply(body={"log_likelihoods": [-1.5, -2], "tokens": [1, 2]})

    scores = client.score("2+2=", [" 4", " five"])

    assert scores == (Score(log_likelihood=-1.5, tokens=1), Score(log_likelihood=-2.0, tokens=2))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"log_likelihoods": [-1.0], "tokens": [1]},
        {"log_likelihoods": [-1.0, True], "tokens": [1, 1]},
        {"log_likelihoods": [-1.0, float("nan")], "tokens": [1, 1]},
        {"log_likelihoods": [-1.0, -(10**400)], "tokens": [1, 1]},
        {"log_likelihoods": [-1.0, -1.0], "tokens": [1, "1"]},
    ],
)
def test_scores_that_are_no_numbers_are_refused(server: ScriptedServer, client: EngineClient, body: object) -> None:
    server.replies["/sealift/v1/score"] = Reply(body=body)

    with pytest.raises(EngineProtocolError):
        client.score("q", ["a", "b"])


def test_tokens_are_counted_from_a_list_or_a_number(server: ScriptedServer, client: EngineClient) -> None:
    server.replies["/sealift/v1/tokenize"] = Reply(body={"tokens": [1, 2, 3]})
    assert client.tokenize(prompt="a b c") == 3

    server.replies["/sealift/v1/tokenize"] = Reply(body={"tokens": 4})
    assert client.tokenize(messages=[{"role": "user", "content": "x"}]) == 4


def test_a_refusal_carries_status_and_short_code_but_never_the_message(
    server: ScriptedServer, client: EngineClient
) -> None:
    secret = "the patient said"
    body = {"error": {"code": "context_length_exceeded", "message": secret}}
    server.replies[CHAT] = Reply(status=400, body=body)

    for call in (lambda: client.chat({}), lambda: list(client.chat_stream({}))):
        with pytest.raises(EngineRefusedError) as refused:
            call()
        assert (refused.value.http_status, refused.value.engine_code) == (400, "context_length_exceeded")
        assert secret not in json.dumps(refused.value.to_json())


@pytest.mark.parametrize("code", [secret := "what the patient said", 7, None])
def test_a_code_that_is_no_short_word_is_dropped(server: ScriptedServer, client: EngineClient, code: object) -> None:
    server.replies[CHAT] = Reply(status=500, body={"error": {"code": code}})

    with pytest.raises(EngineRefusedError) as refused:
        client.chat({})

    assert refused.value.engine_code == ""


@pytest.mark.parametrize("body", [[1], "text", None])
def test_an_answer_that_is_no_object_is_refused(server: ScriptedServer, client: EngineClient, body: object) -> None:
    server.replies[CHAT] = Reply(body=body)

    with pytest.raises(EngineProtocolError):
        client.chat({})


def test_an_event_that_is_not_json_is_refused(server: ScriptedServer, client: EngineClient) -> None:
    server.replies[CHAT] = Reply(pieces=(b"data: {nope\n\n",))

    with pytest.raises(EngineProtocolError):
        list(client.chat_stream({}))
