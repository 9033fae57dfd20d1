"""What a caller sees of a version's several engines where one of them fails."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from appliance.gateway.instances import FAULTS
from tests.support.engine import Script, fake_engine
from tests.support.gateway import MODEL, events, gateway, said

STREAM: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello there"}], "stream": True}


def test_a_stream_whose_engine_ends_while_it_reads_the_prompt_goes_on_with_another_one(tmp_path: Path) -> None:
    with (
        gateway(tmp_path) as rig,
        fake_engine(tmp_path / "two.sock") as first,
        fake_engine(tmp_path / "two-2.sock") as second,
    ):
        rig.promote(socket=tmp_path / "two.sock")
        ends = threading.Event()
        first.script = second.script = Script(hold=ends, tear_after=0)  # it has said who speaks, and reads
        response = rig.client.post("/v1/chat/completions", json=STREAM, headers=rig.headers(), buffered=False)
        chunks = response.iter_encoded()
        at_once = next(chunks)
        other = second if first.asked else first
        other.script = Script()
        ends.set()
        told = events(at_once + b"".join(chunks))
        response.close()

        assert (len(first.asked), len(second.asked)) == (1, 1)
        assert events(at_once)[0]["choices"][0]["delta"]["role"] == "assistant"
        *chunks_told, done = told
        assert (said(chunks_told), done) == ("You said: hello there", "[DONE]")
        assert [one["choices"][0]["delta"].get("role") for one in chunks_told] == ["assistant"] + [None] * (
            len(chunks_told) - 1
        )
        assert len({one["id"] for one in chunks_told}) == 1
        assert [one["outcome"] for one in rig.bodies("request.outcome")] == ["ok"]


@pytest.mark.parametrize(
    ("path", "stream"), [("/v1/chat/completions", False), ("/v1/chat/completions", True), ("/v1/embeddings", False)]
)
def test_a_key_that_was_stopped_while_an_engine_had_its_request_is_answered_by_no_second_one(
    tmp_path: Path, path: str, *, stream: bool
) -> None:
    with (
        gateway(tmp_path) as rig,
        fake_engine(tmp_path / "two.sock") as first,
        fake_engine(tmp_path / "two-2.sock") as second,
    ):
        rig.promote(socket=tmp_path / "two.sock")
        ends = threading.Event()
        first.script = second.script = Script(hold=ends, tear_after=0)
        body = {**STREAM, "stream": stream} if path.endswith("completions") else {"model": MODEL, "input": "hello"}

        def stop() -> None:
            end = time.monotonic() + 30
            while not (first.started.is_set() or second.started.is_set()) and time.monotonic() < end:
                time.sleep(0.005)
            rig.routes.stopped.add("abcdefgh23")
            ends.set()

        operator = threading.Thread(target=stop)
        operator.start()
        response = rig.ask(body, path=path)
        operator.join(30)

        last = events(response.data)[-1] if stream else response.get_json()
        assert last["error"]["code"] == "stopped"
        assert len(first.asked) + len(second.asked) == 1
        outcomes = rig.bodies("request.outcome")
        assert [(one["outcome"], one["status"]) for one in outcomes] == [("error", 503)]


ROLE: dict[str, Any] = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
WORD: dict[str, Any] = {"choices": [{"index": 0, "delta": {"content": "hello"}, "text": "hello"}]}
STRANGE: dict[str, Any] = {"choices": [{"index": 0, "delta": {"content": 7}, "text": 7}]}


@pytest.mark.parametrize(
    "more",
    [
        {"choices": [{"index": 1, "delta": {"content": "hello"}}]},
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 5000}},
    ],
    ids=["another answer", "tokens"],
)
def test_an_engine_that_says_more_than_it_was_asked_for_is_left_out(tmp_path: Path, more: dict[str, Any]) -> None:
    with (
        gateway(tmp_path) as rig,
        fake_engine(tmp_path / "two.sock") as first,
        fake_engine(tmp_path / "two-2.sock") as second,
    ):
        rig.promote(socket=tmp_path / "two.sock")
        first.script = second.script = Script(events=(ROLE, WORD, more))
        for _ in range(2 * FAULTS - 1):
            assert events(rig.ask(STREAM).data)[-1]["error"]["code"] == "engine_error"

        assert rig.sample("sealift_engines_out", engine="two") == 1


@pytest.mark.parametrize("prompts", [0, 2])
def test_an_engine_whose_streams_have_a_wrong_shape_behind_a_word_is_left_out(tmp_path: Path, prompts: int) -> None:
    with (
        gateway(tmp_path) as rig,
        fake_engine(tmp_path / "two.sock") as first,
        fake_engine(tmp_path / "two-2.sock") as second,
    ):
        rig.promote(socket=tmp_path / "two.sock")
        first.script = second.script = Script(events=(ROLE, WORD, STRANGE))
        for _ in range(2 * FAULTS - 1):  # so one of them has failed three times
            if prompts:
                asked = {"model": MODEL, "prompt": ["hello"] * prompts, "stream": True}
                response = rig.ask(asked, path="/v1/completions")
            else:
                response = rig.ask(STREAM)
            *told, last = events(response.data)
            assert (said(told), last["error"]["code"]) == ("hello", "engine_error")

        assert rig.sample("sealift_engines_out", engine="two") == 1


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "of ours": ({"type": "invalid_request_error", "code": "invalid_value", "message": "hello"}, "engine_refused"),
    "of vLLM": ({"type": "BadRequestError", "code": 400, "message": "hello"}, "engine_refused"),
    "too long": ({"type": "invalid_request_error", "code": "context_length_exceeded"}, "context_length_exceeded"),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("before", [None, (), (ROLE,), (ROLE, WORD)], ids=["whole", "at once", "role", "word"])
def test_what_an_engine_refuses_inside_an_answer_reaches_its_caller_as_a_refusal(
    tmp_path: Path, case: str, before: tuple[dict[str, Any], ...] | None
) -> None:
    refusal, code = REFUSALS[case]
    stream = before is not None
    with gateway(tmp_path) as rig:
        rig.engine.script = Script(events=(*(before or ()), {"error": refusal}))
        response = rig.ask({**STREAM, "stream": stream})

        assert response.status_code == (200 if stream else 400), "the role has left already"
        *told, last = events(response.data) if stream else [response.get_json()]
        assert (last["error"]["code"], last["error"]["type"]) == (code, "invalid_request_error")
        if stream:
            assert told[0]["choices"][0]["delta"]["role"] == "assistant"
            assert said(told) == ("hello" if WORD in (before or ()) else "")
        (outcome,) = rig.bodies("request.outcome")
        assert (outcome["outcome"], outcome["status"]) == ("error", 400)
        assert rig.sample("llm_requests_total", model=MODEL, endpoint="chat", status="refused") == 1


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_longer_than_may_be_puts_no_engine_out_and_is_asked_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stream: bool
) -> None:
    monkeypatch.setattr("appliance.gateway.upstream.MAX_ANSWER_BYTES", 100)
    monkeypatch.setattr("appliance.gateway.upstream._MAX_STREAM_BYTES", 400)
    with (
        gateway(tmp_path) as rig,
        fake_engine(tmp_path / "two.sock") as first,
        fake_engine(tmp_path / "two-2.sock") as second,
    ):
        rig.promote(socket=tmp_path / "two.sock")
        first.script = second.script = Script(text="word " * 400)
        asked = {**STREAM, "stream": stream, "max_tokens": 500}
        answers = [rig.ask(asked) for _ in range(FAULTS + 1)]

        assert len(first.asked) + len(second.asked) == FAULTS + 1
        last = events(answers[-1].data)[-1] if stream else answers[-1].get_json()
        assert last["error"]["code"] == "engine_error"
        assert rig.sample("sealift_engines_out", engine="two") in {None, 0.0}
