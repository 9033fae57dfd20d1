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


def asked_once(site: Config) -> str:
    """Return what the engine wrote while it answered one prompt."""
    with running_engine(site) as (name, process, notices):
        wait_ready(notices)
        with EngineClient(site.at.socket(f"engine-{name}")) as client:
            client.complete({"prompt": PROMPT, "max_tokens": 16})
        time.sleep(1.5)  # a line is written each second
        process.terminate()
        _, written = process.communicate(timeout=60)
    return written


def test_it_tells_its_steps_until_the_moment_of_the_site_file() -> None:
    with engine_site() as site:
        until = to_text(SystemClock().now() + timedelta(minutes=10))
        file = site.at.config_file
        file.write_text(f'{file.read_text()}[engine]\ndebug_until = "{until}"\n')
        written = asked_once(site)

    lines = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    assert sum(one["steps"] for one in lines) > 0
    assert sum(one["prompt_tokens"] for one in lines) == len(PROMPT)
    assert PROMPT not in written.lower()
    assert PROMPT.upper() not in written


def test_otherwise_it_tells_nothing() -> None:
    with engine_site() as site:
        assert "engine_steps" not in asked_once(site)
