"""What real engines are asked of: the contract, by the tests that the fake passes, and what only a model can show."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from appliance.serve.client import EngineClient
from examples.demo.conversation import PLAIN
from media import canonical
from tests.engines import line

PATIENCE_SECONDS: Final = 120.0
_MOST_TOKENS: Final = 1800
_SOME_TOKENS: Final = 20
# Without its second sentence the answer's first word "The" is 0.1 of a logit before "L" in exact arithmetic, so how a
# processor rounds BF16 decides; with it "The" is 1.5 before all others.
QUESTION: Final[dict[str, Any]] = {
    "messages": [{"role": "user", "content": PLAIN}],
    "temperature": 0,
}
LONG: Final[dict[str, Any]] = {
    "messages": [{"role": "user", "content": "Tell a long story about the sea."}],
    "temperature": 0,
}

# No more than that in a step: our vLLM reads 256 on a processor (ADR 87), one that is attached as its recipe says.
STEP_TOKENS = "2048"
_SHAPE: Final[dict[str, Any]] = {
    "type": "json_schema",
    "json_schema": {
        "name": "city",
        "schema": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def keeps_the_contract(socket: Path, *, seconds: int = 600, offers: str = "any") -> None:
    """Fail with what the contract's tests said where the engine behind a socket does not pass them, each in time.

    Args:
        socket: Where it listens.
        seconds: How long each test may take.
        offers: What it does of `logprobs`, `response_format`, `tools` and `embeddings`, with commas; it refuses the
            others. "any" where it may do or refuse each.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/functional/test_engine_contract.py",
         "-k", "real", "--timeout", str(seconds)],
        cwd=line.ROOT,
        env={
            **os.environ,
            "SEALIFT_ENGINE_SOCKET": str(socket),
            "SEALIFT_ENGINE_STEP_TOKENS": STEP_TOKENS,
            "SEALIFT_ENGINE_OFFERS": offers,
        },
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    sys.stdout.write(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-6000:]
    assert "skipped" not in done.stdout


def lets_an_answer_end(socket: Path, stop: Callable[[], None], *, asked: Mapping[str, Any], most: int) -> None:
    """Fail where an engine that is told to stop in the middle of an answer does not bring that to its end.

    Args:
        socket: Where it listens.
        stop: Tells it to stop.
        asked: A chat whose answer is cut at its length.
        most: That length, in tokens.
    """
    with EngineClient(socket, read_seconds=PATIENCE_SECONDS) as client:
        stream = client.chat_stream({**asked, "max_tokens": most, "stream_options": {"include_usage": True}})
        events = [next(stream)]
        stop()
        events += stream
    assert events[-1]["usage"]["completion_tokens"] == most
    assert [one["finish_reason"] for event in events for one in event["choices"] if one["finish_reason"]] == ["length"]


def knows_the_capital(client: EngineClient) -> None:
    """Fail where the demo's model is not what answers."""
    answer = client.chat({**QUESTION, "max_tokens": 24})
    assert "Paris" in answer["choices"][0]["message"]["content"], answer


def keeps_a_shape(client: EngineClient) -> None:
    """Fail where an answer has another form than was asked for."""
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    answer = client.chat({"messages": asked, "temperature": 0, "max_tokens": 32, "response_format": _SHAPE})
    told = canonical.loads(answer["choices"][0]["message"]["content"].encode())
    assert told in ({"city": "Paris"}, {"city": "Rome"}), told


def ends_when_its_caller_leaves(client: EngineClient) -> None:
    """Fail where a generation goes on after its caller left."""
    stream = client.chat_stream({**LONG, "max_tokens": _MOST_TOKENS})
    next(stream)
    began = time.monotonic()
    for _ in range(_SOME_TOKENS):
        next(stream)
    whole = (time.monotonic() - began) / _SOME_TOKENS * _MOST_TOKENS
    assert client.running() == 1
    stream.close()
    left = time.monotonic()
    # A tenth of what all of it would take: an answer that only comes to its end is not one that was given up.
    bound = min(PATIENCE_SECONDS, max(whole / 10, 1.0))
    while client.running():
        assert time.monotonic() - left < bound, f"it went on for {bound:.1f} s"
        time.sleep(0.01)
