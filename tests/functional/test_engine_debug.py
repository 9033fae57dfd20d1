"""An engine behind its filter, told by the site file to tell what it does: lines of counts, and no word of a prompt."""

import json
import time
from datetime import timedelta

import pytest

from appliance.config import Config
from appliance.serve.client import EngineClient
from media.clock import SystemClock, to_text
from tests.support.engine_process import engine_site, running_engine, wait_ready

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

PROMPT = "zyxwv"


def asked_once(site: Config, *, tells: bool) -> str:
    """Return what the engine wrote while it answered one prompt; who tells is heard until it told of all of it."""
    with running_engine(site) as (name, process, notices):
        wait_ready(notices)
        with EngineClient(site.at.socket(f"engine-{name}")) as client:
            client.complete({"prompt": PROMPT, "max_tokens": 16})
        assert process.stderr is not None
        heard, told = "", 0
        while tells and told < len(PROMPT):  # ends with the test's own time
            heard += (line := process.stderr.readline())
            assert line, heard
            told += int(json.loads(line)["prompt_tokens"]) if '"engine_steps"' in line else 0
        if not tells:
            time.sleep(1.5)  # in each second there would be a line
        process.terminate()
        return heard + process.stderr.read()


def test_it_tells_its_steps_until_the_moment_of_the_site_file() -> None:
    with engine_site() as site:
        until = to_text(SystemClock().now() + timedelta(minutes=10))
        file = site.at.config_file
        file.write_text(f'{file.read_text()}[engine]\ndebug_until = "{until}"\n')
        written = asked_once(site, tells=True)

    lines = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    assert sum(one["steps"] for one in lines) > 0
    assert sum(one["prompt_tokens"] for one in lines) == len(PROMPT)
    assert PROMPT not in written.lower()
    assert PROMPT.upper() not in written


def test_otherwise_it_tells_nothing() -> None:
    with engine_site() as site:
        assert "engine_steps" not in asked_once(site, tells=False)
