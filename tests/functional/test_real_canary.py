"""A canary of a damaged version under load, with the real engine for both arms: callers notice, and it ends by itself.

The gates that would have caught it (test_damaged_versions.py) are answered by an engine of a few lines here, as if
nobody had looked; what is real is what callers meet: engines, gateway, ledger, promoter and judge.
"""

import http.client
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config
from appliance.install.supervisor import UnitFacts, UnitState
from tests.functional.test_damaged_versions import garbled
from tests.support.promoting import enrol_all, homes, medium_of, serve
from tests.support.real_engine import RealSupervisor, shipped_template, shipped_weights
from tests.support.rollout_site import POLICY, approve, in_process, running_gateway
from tests.support.running_site import RunningSite, as_json, running_site
from tests.support.versions import EngineSupervisor, short_folder, store_version

__all__ = ["homes"]  # a fixture
pytestmark = [pytest.mark.demo, pytest.mark.timeout(800)]
QUESTION = "What is the capital of France? Answer in one sentence."
CALLERS = 24
_MOST_ROUNDS = 40


class RealProduction(EngineSupervisor):
    """Starts production's engines for real; those of the test stage are a few lines."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.real = RealSupervisor(config)

    def start(self, unit: str) -> None:
        (self.real.start if "-production@" in unit else super().start)(unit)

    def stop(self, unit: str) -> None:
        (self.real.stop if "-production@" in unit else super().stop)(unit)

    def state(self, unit: str) -> UnitState:
        return self.real.state(unit) if "-production@" in unit else super().state(unit)

    def units(self) -> tuple[UnitFacts, ...]:
        return (*(one for one in super().units() if "-production@" not in one.name), *self.real.units())

    def close(self) -> None:
        super().close()
        self.real.close()


def bring(site: RunningSite, serial: int, weights: bytes) -> str:
    store_version(site.config, serial=serial, weights=weights, template=shipped_template(), n_ctx=2048, n_seq_max=4)
    return site.register(serial)[0]


def post(port: int, key: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"Authorization": f"Bearer {key}", "content-type": "application/json"}
    connection.request("POST", path, body=json.dumps(body), headers=headers)
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, found


def ask(port: int, key: str, caller: str) -> tuple[str, bool]:
    """Ask as one user, and rate the answer as that user would; return the version that answered, and the rating."""
    messages = [{"role": "user", "content": QUESTION}]
    wanted = {"model": "production", "messages": messages, "max_tokens": 16, "temperature": 0, "user": caller}
    status, headers, body = post(port, key, "/v1/chat/completions", wanted)
    assert status == 200, body
    is_right = "Paris" in (body["choices"][0]["message"]["content"] or "")
    rating = {"request_id": headers["x-request-id"], "rating": "up" if is_right else "down", "reason": "other"}
    assert post(port, key, "/v1/feedback", rating)[0] == 200
    return headers["x-model-version"], is_right


def asked_by_all(port: int, key: str) -> dict[str, tuple[str, bool]]:
    """Let every caller ask once, four at a time."""
    heard: dict[str, tuple[str, bool]] = {}

    def some(first: int) -> None:
        for number in range(first, CALLERS, 4):
            heard[f"user-{number}"] = ask(port, key, f"user-{number}")

    threads = [threading.Thread(target=some, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard) == CALLERS
    return heard


def test_a_damaged_sibling_is_noticed_by_its_callers_and_its_canary_ends_by_itself(homes: dict[str, Path]) -> None:
    weights = shipped_weights()
    more = f"{POLICY}[engine]\nthreads = 1\n"
    with short_folder() as root, running_site(root, medium_of(1), engines=RealProduction, more=more) as site:
        run = in_process(site)
        enrol_all(site, run, homes)
        sound, damaged = bring(site, 1, weights), bring(site, 2, garbled(weights))
        serve(run, sound, homes)
        approve(run, damaged, homes)
        key = str(as_json(run, "keys", "create", "--department", "radiology", "--owner", "test")["key"])
        with running_gateway(site) as port:
            before = asked_by_all(port, key)
            assert set(before.values()) == {(sound, True)}
            as_json(run, "canary", "start", damaged, "--percent", "50")

            found, stayed = as_json(run, "canary", "judge"), dict[str, tuple[str, bool]]()
            for _ in range(_MOST_ROUNDS):
                heard = asked_by_all(port, key)
                if (found := as_json(run, "canary", "judge"))["canary"] is None:
                    break
                stayed = stayed or heard
                assert {one: heard[one][0] for one in heard} == {one: stayed[one][0] for one in stayed}
            changed = found["changed"]
            assert (changed["kind"], changed["class"]) == ("canary-aborted", "judge")
            assert "complaints: " in changed["reason"]
            assert found["stopped"] == [f"sealift-engine-production@{damaged[:12]}.service"]

            assert set(asked_by_all(port, key).values()) == {(sound, True)}
        assert as_json(run, "affected", "--version", damaged)["answers"] >= 1
        assert as_json(run, "review", "list")["open"] == []
