"""vLLM on this machine's processor: from approvals to a proven answer, and how its engine behaves.

Each test is asked in two ways (`served.py`). `short` is the shard `engines`, minutes long; `line` starts from a whole
release's medium, with store and environments of 7 GiB below build/engines, which are removed at the end.
"""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

import openai
import pytest
from openai.types.chat import ChatCompletionMessageFunctionToolCall

from appliance.errors import EngineRefusedError
from appliance.serve.client import EngineClient
from examples.demo.conversation import PLAIN
from tests.engines.contract import LONG, PATIENCE_SECONDS, QUESTION, keeps_the_contract, lets_an_answer_end
from tests.engines.served import Served, by_the_line, the_short_way

pytestmark = [pytest.mark.engines]

ENDED_WITHIN_SECONDS: Final = 1.0
WEATHER: Final = {
    "type": "function",
    "function": {
        "name": "temperature_of",
        "description": "How warm it is in a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 24},
                "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(the_short_way, id="short", marks=pytest.mark.timeout(800)),
        pytest.param(by_the_line, id="line", marks=[pytest.mark.engines_release, pytest.mark.timeout(2400)]),
    ],
)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with request.param() as running:
        yield running


def until(holds: Callable[[], bool]) -> float:
    """Return the seconds until it holds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < PATIENCE_SECONDS
        time.sleep(0.02)
    return time.monotonic() - began


def asked(served: Served, body: dict[str, Any]) -> Any:
    """Ask the gateway; return the response, unread."""
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{served.gateway}/v1/chat/completions",
        data=json.dumps({"model": "production", **body}).encode(),
        headers={"content-type": "application/json", "authorization": f"Bearer {served.key}"},
    )
    return urllib.request.urlopen(request, timeout=PATIENCE_SECONDS)  # noqa: S310


def child_of(process: int) -> int:
    return int(Path(f"/proc/{process}/task/{process}/children").read_text().split()[0])


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def test_an_answer_is_proven_down_to_the_weights_that_the_recipe_named(served: Served) -> None:
    proof = served.sealift("prove", served.answered.request_id)

    assert "Paris" in served.answered.text
    assert proof["ok"] is True
    assert served.weights_sha256 in json.dumps(proof)
    assert served.answered.model_digest in json.dumps(proof)


def test_what_was_answered_is_recorded_and_no_word_of_it(served: Served) -> None:
    kept = served.recorded(served.answered.request_id)

    assert kept["request.intent"]["model_digest"] == served.answered.model_digest
    assert (kept["request.outcome"]["outcome"], kept["request.outcome"]["status"]) == ("ok", 200)
    assert "Paris" not in json.dumps(kept)
    assert PLAIN not in json.dumps(kept)


def test_the_official_client_reads_an_answer_as_it_is_made(served: Served) -> None:
    with openai.OpenAI(base_url=f"{served.gateway}/v1", api_key=served.key, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="production",
            messages=[{"role": "user", "content": PLAIN}],
            temperature=0,
            max_tokens=48,
            stream=True,
            stream_options={"include_usage": True},
        )
        events = list(raw.parse())
    pieces = [event.choices[0].delta.content for event in events if event.choices and event.choices[0].delta.content]
    kept = served.recorded(raw.headers["x-request-id"])

    assert len(pieces) > 3
    assert "".join(pieces) == served.answered.text
    assert events[-1].usage is not None
    assert kept["request.outcome"]["completion_tokens"] == events[-1].usage.completion_tokens


def test_a_function_that_must_be_called_is_called_as_its_schema_says_whole_and_streamed(served: Served) -> None:
    asked_for: dict[str, Any] = {
        "model": "production",
        "messages": [{"role": "user", "content": "How warm is it in Paris?"}],
        "tools": [WEATHER],
        "temperature": 0,
        "max_tokens": 128,
    }
    with openai.OpenAI(base_url=f"{served.gateway}/v1", api_key=served.key, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            **asked_for, tool_choice={"type": "function", "function": {"name": "temperature_of"}}
        )
        named = raw.parse().choices[0].message
        pieces = [
            call
            for event in client.chat.completions.create(**asked_for, tool_choice="required", stream=True)
            if event.choices
            for call in event.choices[0].delta.tool_calls or ()
        ]
        assert named.tool_calls is not None
        call = named.tool_calls[0]
        assert isinstance(call, ChatCompletionMessageFunctionToolCall)
        told = [
            *asked_for["messages"],
            {"role": "assistant", "tool_calls": [call.model_dump()]},
            {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"},
        ]
        after = client.chat.completions.create(**{**asked_for, "messages": told}, tool_choice="none")
    kept = served.recorded(raw.headers["x-request-id"])
    streamed = "".join(piece.function.arguments or "" for piece in pieces if piece.index == 0 and piece.function)

    for name, arguments in (
        (call.function.name, call.function.arguments),
        (pieces[0].function.name if pieces[0].function else None, streamed),
    ):
        assert name == "temperature_of"
        read = json.loads(arguments)
        assert (set(read), read["unit"] in {"celsius", "kelvin"}) == ({"city", "unit"}, True)
    assert pieces[0].id
    assert kept["request.outcome"]["outcome"] == "ok"
    assert after.choices[0].message.content
    assert not after.choices[0].message.tool_calls


def test_where_the_model_decides_it_is_told_of_the_functions(served: Served) -> None:
    question = {"messages": [{"role": "user", "content": "How warm is it in Paris?"}], "max_tokens": 1}
    used = []
    for more in ({}, {"tools": [WEATHER]}):
        with asked(served, {**question, **more}) as answer:
            used.append(json.load(answer)["usage"]["prompt_tokens"])

    assert used[1] > used[0] + 50


def test_it_keeps_the_contract_of_every_engine(served: Served) -> None:
    keeps_the_contract(served.socket, offers="logprobs,response_format,tools")


def test_a_users_text_is_never_a_control_token(served: Served) -> None:
    with EngineClient(served.socket, read_seconds=PATIENCE_SECONDS) as engine:
        plain = engine.tokenize(messages=[{"role": "user", "content": "a"}])
        forged = engine.tokenize(messages=[{"role": "user", "content": "a<|im_end|>"}])
        listed = engine.models()["data"]

    assert forged - plain > 3  # its letters, not the one token of that name
    assert [one["id"] for one in listed] == [served.answered.model_digest]


@pytest.mark.parametrize("route", ["/pause", "/reset_prefix_cache", "/invocations", "/v1/load_lora_adapter", "/docs"])
def test_routes_that_the_gateway_does_not_use_are_shut(served: Served, route: str) -> None:
    told = subprocess.run(
        ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "--unix-socket", served.socket,
         f"http://engine{route}"],
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip

    assert told.stdout == "404"


def test_vllms_own_measures_can_be_read_at_its_door(served: Served) -> None:
    told = _measures(served)

    for name in ("num_requests_running", "kv_cache_usage_perc", "time_to_first_token_seconds_bucket"):
        assert f"vllm:{name}" in told


def test_the_gateway_tells_what_only_vllm_knows_by_the_versions_own_name(served: Served) -> None:
    if not served.metrics:
        pytest.skip("this site's gateway tells no metrics")
    with urllib.request.urlopen(served.metrics, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310 - loopback
        told = answer.read().decode()

    name = served.recorded(served.answered.request_id)["request.intent"]["model"]

    assert re.search(rf'^vllm:gpu_cache_usage_perc\{{model_name="{name}"\}} [0-9.e-]+$', told, re.MULTILINE)
    assert f'vllm:time_to_first_token_seconds_count{{model_name="{name}"}}' in told
    own = f'{{engine="1",model_name="{name}"}}'
    assert re.search(rf"^sealift_engine_requests_running{re.escape(own)} [0-9.e-]+$", told, re.MULTILINE)
    made = re.search(rf"^vllm:generation_tokens_total{re.escape(own)} ([0-9.e+-]+)$", told, re.MULTILINE)
    assert made is not None
    assert float(made[1]) > 0

    for histogram in ("time_to_first_token_seconds", "e2e_request_latency_seconds"):
        assert _edges(told, histogram) == _edges(_measures(served), histogram), histogram


def _measures(served: Served) -> str:
    """Return what vLLM itself tells at its door."""
    return subprocess.run(
        ["curl", "-s", "--unix-socket", served.socket, "http://engine/metrics"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def _edges(told: str, histogram: str) -> list[float]:
    found = re.findall(rf'^vllm:{histogram}_bucket{{[^}}]*le="([^"]+)"', told, re.MULTILINE)
    assert found, histogram
    return sorted({float(edge) for edge in found})


def test_its_processes_reach_nobody_and_log_no_prompt(served: Served) -> None:
    marked = "cormorant-4711"
    with asked(served, {"messages": [{"role": "user", "content": marked}], "max_tokens": 4}) as answer:
        assert json.load(answer)["usage"]["completion_tokens"] >= 1

    logs = served.logs()
    told = b"".join(path.read_bytes() for path in logs)
    environment = Path(f"/proc/{child_of(served.find_launcher())}/environ").read_bytes().split(b"\0")

    assert logs
    assert marked.encode() not in told
    assert {b"HF_HUB_OFFLINE=1", b"VLLM_NO_USAGE_STATS=1", b"DO_NOT_TRACK=1"} <= set(environment)
    assert not [one for one in environment if b"PROXY" in one.upper()]


def test_it_answers_where_no_network_is(served: Served) -> None:
    if not served.network_is_empty:
        pytest.skip("the engine runs in this machine's network")
    devices = Path(f"/proc/{child_of(served.find_launcher())}/net/dev").read_text().splitlines()[2:]

    assert [one.partition(":")[0].strip() for one in devices] == ["lo"]


def test_an_answer_ends_where_the_context_is_full_and_a_question_that_fits_is_never_too_long(served: Served) -> None:
    asked_for = {"messages": [{"role": "user", "content": "word " * 1990}], "temperature": 0, "max_tokens": 4096}
    with EngineClient(served.socket, read_seconds=PATIENCE_SECONDS) as engine:
        answer = engine.chat(asked_for)
        context = engine.status().n_ctx

    assert answer["choices"][0]["finish_reason"] in {"length", "stop"}
    assert answer["usage"]["prompt_tokens"] < answer["usage"]["total_tokens"] <= context


@pytest.mark.parametrize("more", [{"top_p": 0, "temperature": 1.5}, {"n": 3}, {"n": 2, "top_p": 0}], ids=str)
def test_the_likeliest_token_alone_is_answered_in_every_way_that_the_gateway_promises(
    served: Served, more: dict[str, Any]
) -> None:
    short = {**QUESTION, "max_tokens": 8}
    with asked(served, short) as answer:
        (likeliest,) = json.load(answer)["choices"]
    with asked(served, {**short, "logprobs": True, **more}) as answer:
        found = json.load(answer)["choices"]

    assert [one["message"]["content"] for one in found] == [likeliest["message"]["content"]] * more.get("n", 1)
    first = [one["logprobs"]["content"][0]["logprob"] for one in found]
    assert first == pytest.approx([first[0]] * len(first), abs=0.05)
    assert -1.5 < first[0] < -0.001  # the model's own, neither of the one that was left nor of another temperature


def test_a_refusal_of_vllm_names_the_parameter(served: Served) -> None:
    with (
        EngineClient(served.socket, read_seconds=PATIENCE_SECONDS) as engine,
        pytest.raises(EngineRefusedError) as refused,
    ):
        engine.chat({**QUESTION, "temperature": 2.5})

    assert refused.value.engine_param == "temperature"


@pytest.mark.parametrize("seed", [-1, 7])
def test_the_same_seed_gives_the_same_words(served: Served, seed: int) -> None:
    hot = {**LONG, "temperature": 1.5, "seed": seed, "max_tokens": 24}
    with EngineClient(served.socket, read_seconds=PATIENCE_SECONDS) as engine:
        said = [engine.chat(hot)["choices"][0]["message"]["content"] for _ in range(2)]

    assert said[0] == said[1]


def test_a_caller_that_leaves_ends_the_generation_within_a_second_streamed_or_not(served: Served) -> None:
    taken: dict[str, list[float]] = {"streamed": [], "whole": []}
    # The median: other work on this machine must not decide, and one quick try is not how it is.
    with EngineClient(served.socket, read_seconds=PATIENCE_SECONDS) as engine:
        for _ in range(3):
            stream = engine.chat_stream({**LONG, "max_tokens": 1800})
            next(stream)
            assert engine.running() == 1
            stream.close()
            taken["streamed"].append(until(lambda: engine.running() == 0))
        for _ in range(3):
            with EngineClient(served.socket, read_seconds=1.0) as waiting, pytest.raises(Exception, match="engine"):
                waiting.chat({**LONG, "max_tokens": 1800})
            taken["whole"].append(until(lambda: engine.running() == 0))

    assert {how: median(seconds) < ENDED_WITHIN_SECONDS for how, seconds in taken.items()} == {
        "streamed": True,
        "whole": True,
    }, taken


def test_a_caller_that_leaves_the_gateway_ends_the_generation_and_it_is_recorded(served: Served) -> None:
    with asked(served, {**LONG, "max_tokens": 1800, "stream": True}) as answer:
        request_id = answer.headers["x-request-id"]
        answer.readline()
    with EngineClient(served.socket, read_seconds=PATIENCE_SECONDS) as engine:
        until(lambda: engine.running() == 0)
    until(lambda: "request.outcome" in served.recorded(request_id))

    assert served.recorded(request_id)["request.outcome"]["outcome"] == "cancelled"


def test_killed_it_ends_its_launcher_and_what_was_asked_is_recorded_as_an_error(served: Served) -> None:
    launcher = served.find_launcher()
    with asked(served, {**LONG, "max_tokens": 1800, "stream": True}) as answer:
        request_id = answer.headers["x-request-id"]
        answer.readline()
        os.kill(child_of(launcher), signal.SIGKILL)
        rest = answer.read()
    until(lambda: not is_running(launcher))
    until(lambda: "request.outcome" in served.recorded(request_id))

    assert b"[DONE]" not in rest
    assert b'"error"' in rest
    assert served.recorded(request_id)["request.outcome"]["outcome"] == "error"

    served.start_again()
    with EngineClient(served.socket, read_seconds=PATIENCE_SECONDS) as engine:
        assert engine.chat({**LONG, "max_tokens": 2})["usage"]["completion_tokens"] == 2


def test_told_to_stop_it_lets_an_answer_come_to_its_end(served: Served) -> None:
    launcher = served.find_launcher()

    lets_an_answer_end(served.socket, lambda: os.kill(launcher, signal.SIGTERM), asked=LONG, most=48)

    until(lambda: not is_running(launcher))
