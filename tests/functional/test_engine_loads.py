"""A version is loaded once, when its engine starts, and stays in memory: no request loads it again."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from appliance.serve.client import EngineClient
from tests.support.engine_process import PROGRAM, engine_site, running_engine, wait_ready

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

LOADED = "weights were opened"
# Told where weights are opened, in the process that opens them.
COUNTED = f"""
import sys
from tests.support import taken_over_engine
plain = taken_over_engine.TakenOver
def opened(**arguments):
    sys.stderr.write("{LOADED}\\n")
    sys.stderr.flush()
    return plain(**arguments)
taken_over_engine.TakenOver = opened
"""


def test_many_requests_of_many_callers_open_the_weights_once() -> None:
    def ask(prompt: str) -> str:
        with EngineClient(socket) as client:
            return str(client.complete({"prompt": prompt, "max_tokens": 16})["choices"][0]["text"])

    prompts = [f"caller{letter}" for letter in "abcdefghijklmnopqrstuvwx"]
    with engine_site() as site, running_engine(site, program=COUNTED + PROGRAM) as (name, process, notices):
        wait_ready(notices)
        socket = site.at.socket(f"engine-{name}")
        with ThreadPoolExecutor(4) as callers:
            told = list(callers.map(ask, prompts))
        process.terminate()
        _, written = process.communicate(timeout=60)

    assert told == [prompt.upper() for prompt in prompts]
    assert written.count(LOADED) == 1


def test_only_a_process_that_ended_is_loaded_again() -> None:
    with engine_site() as site, running_engine(site, program=COUNTED + PROGRAM) as (name, process, notices):
        wait_ready(notices)
        (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(worker), signal.SIGKILL)
        wait_ready(notices)
        with EngineClient(site.at.socket(f"engine-{name}")) as client:
            assert client.complete({"prompt": "abc", "max_tokens": 4})["choices"][0]["text"] == "ABC"
        process.terminate()
        _, written = process.communicate(timeout=60)

    assert written.count(LOADED) == 2
