"""An engine's process behind its filter tells the gateway's scrape what it alone knows, as vLLM does."""

import pytest

from appliance.gateway.connections import EngineConnection
from appliance.gateway.enginefigures import OWN, USE
from appliance.serve.client import EngineClient
from tests.support.engine_process import engine_site, running_engine, wait_ready

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

PROMPT = "zyxwv"


def test_an_engine_tells_what_it_counted_and_no_word_of_a_prompt() -> None:
    with engine_site() as site, running_engine(site) as (name, process, notices):
        wait_ready(notices)
        path = site.at.socket(f"engine-{name}")
        with EngineClient(path) as client:
            answer = client.complete({"prompt": PROMPT, "max_tokens": 16})
        connection = EngineConnection(path, connect_seconds=10, read_seconds=10)
        connection.ask("GET", "/metrics", headers={})
        response = connection.respond()
        told = b"".join(iter(response.read, b"")).decode()
        connection.close()
        process.terminate()
        process.communicate(timeout=60)

    found = {one.names[-1]: one.read(told) for one in (USE, *OWN)}
    assert response.status == 200
    assert None not in found.values()
    assert found["vllm:prompt_tokens_total"] == len(PROMPT)
    assert found["vllm:generation_tokens_total"] == answer["usage"]["completion_tokens"]
    assert PROMPT not in told.lower()
