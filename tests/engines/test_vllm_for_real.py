"""A real release of vLLM on this machine's processor: from its medium to a proven answer, and how its engine behaves.

One line of commands for all tests (`line.py`), from the medium that `test_vllm_made.py` left or one made now; store and
environments take 7 GiB below build/engines and are removed at the end.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from appliance.serve.client import EngineClient
from appliance.wire import Line
from bundler.recipe import Recipe
from examples.demo.conversation import Answered, ask
from examples.demo.run import Demo
from tests.engines import line

pytestmark = [pytest.mark.engines, pytest.mark.timeout(2400)]

PATIENCE_SECONDS: Final = 120.0
LONG: Final = {"messages": [{"role": "user", "content": "Tell a long story about the sea."}], "temperature": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A version that serves production, and an answer of it."""

    demo: Demo
    recipe: Recipe
    answered: Answered

    @property
    def socket(self) -> Path:
        return self.demo.run / f"engine-production-{self.answered.model_digest[:12]}.sock"

    @property
    def launcher(self) -> int:
        """The process that stands by vLLM, as the supervisor of units knows it."""
        wanted = f"sealift-engine-production@{self.answered.model_digest[:12]}.service"
        with closing(Line(self.demo.run / "units.sock", timeout_seconds=PATIENCE_SECONDS)) as supervisor:
            units = supervisor.call("list")["units"]
        (found,) = (unit for unit in units if unit["unit"] == wanted)
        return int(found["pid"])


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    demo = line.prepared(line.ROOT / "build/engines")
    try:
        volume = line.medium(demo)
        line.write_site_file(demo)
        line.receive(demo, volume)
        line.promote(demo)
        made = demo.stage.ask(
            *("sealift", "keys", "create", "--department", "ward", "--owner", "test", "--phi", "tokenise")
        )
        demo.facts["key"] = made["key"]
        answered = ask(f"{demo.facts['gateway']}/v1", str(made["key"]))
        yield Served(demo=demo, recipe=Recipe.load(line.RECIPE), answered=answered)
    finally:
        sys.stdout.write(json.dumps(demo.stage.times, indent=1) + "\n")
        line.finish(demo)


def until(holds: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < PATIENCE_SECONDS
        time.sleep(0.05)


def test_an_answer_is_proven_down_to_the_weights_that_the_recipe_named(served: Served) -> None:
    proof = served.demo.stage.ask("sealift", "prove", served.answered.request_id)

    weights = served.recipe.models[0].source.files["model.safetensors"]  # type: ignore[union-attr]
    assert "Paris" in served.answered.text
    assert proof["ok"] is True
    assert weights in json.dumps(proof)
    assert served.answered.model_digest in json.dumps(proof)


def test_it_keeps_the_contract_of_every_engine(served: Served) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/functional/test_engine_contract.py",
         "-k", "real", "--timeout", "600"],
        cwd=line.ROOT,
        env={**os.environ, "SEALIFT_ENGINE_SOCKET": str(served.socket)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-6000:]


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
    told = subprocess.run(
        ["curl", "-s", "--unix-socket", served.socket, "http://engine/metrics"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    for name in ("num_requests_running", "kv_cache_usage_perc", "time_to_first_token_seconds_bucket"):
        assert f"vllm:{name}" in told.stdout


def test_its_processes_reach_nobody_and_log_no_prompt(served: Served) -> None:
    marked = "cormorant-4711"
    body = {"model": "production", "messages": [{"role": "user", "content": marked}], "max_tokens": 4}
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{served.demo.facts['gateway']}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json", "authorization": f"Bearer {served.demo.facts['key']}"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310
        assert json.load(answer)["usage"]["completion_tokens"] >= 1

    logs = [path for path in served.demo.out.rglob("*.log") if path.is_file()]
    told = b"".join(path.read_bytes() for path in logs)
    environment = Path(f"/proc/{child_of(served.launcher)}/environ").read_bytes().split(b"\0")

    assert logs
    assert marked.encode() not in told
    assert {b"HF_HUB_OFFLINE=1", b"VLLM_NO_USAGE_STATS=1", b"DO_NOT_TRACK=1"} <= set(environment)
    assert not [one for one in environment if b"PROXY" in one.upper()]


def child_of(process: int) -> int:
    return int(Path(f"/proc/{process}/task/{process}/children").read_text().split()[0])


def test_a_caller_that_leaves_ends_the_generation_streamed_or_not(served: Served) -> None:
    with EngineClient(served.socket, read_seconds=PATIENCE_SECONDS) as engine:
        stream = engine.chat_stream({**LONG, "max_tokens": 1800})
        next(stream)
        assert engine.running() == 1
        stream.close()
        until(lambda: engine.running() == 0)

    waiting = EngineClient(served.socket, read_seconds=1.0)
    with pytest.raises(Exception, match="engine"):
        waiting.chat({**LONG, "max_tokens": 1800})
    waiting.close()
    with EngineClient(served.socket, read_seconds=PATIENCE_SECONDS) as engine:
        until(lambda: engine.running() == 0)


def test_told_to_stop_it_lets_an_answer_come_to_its_end(served: Served) -> None:
    events: list[dict[str, Any]] = []
    begun = threading.Event()

    def listen() -> None:
        with EngineClient(served.socket, read_seconds=PATIENCE_SECONDS) as engine:
            for event in engine.chat_stream({**LONG, "max_tokens": 48}):
                events.append(event)
                begun.set()

    listener = threading.Thread(target=listen)
    listener.start()
    assert begun.wait(PATIENCE_SECONDS)

    os.kill(served.launcher, signal.SIGTERM)
    listener.join(PATIENCE_SECONDS)

    assert events[-1]["usage"]["completion_tokens"] >= 1
    assert [one["finish_reason"] for event in events for one in event["choices"] if one["finish_reason"]] == ["length"]
