"""Answers that policy keeps, with the real gateway, ledger and review store, and the raw files they leave."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from appliance.actions.retention.deeds import Retention
from appliance.actions.retention.reviewdesk import ADMIN_DOOR, GATEWAY_DOOR, OPERATOR_DOOR
from appliance.actions.retention.reviewstore import ReviewStore
from appliance.audit.client import SocketLedger
from appliance.config import StagedConfig
from appliance.errors import WireError
from appliance.gateway import create_app
from appliance.gateway.application import running
from appliance.gateway.parameters import Asked, Endpoint
from appliance.gateway.samples import About
from appliance.keys.files import FileKeys
from appliance.wire import Line, RemoteError
from media.clock import SystemClock
from tests.support.gateway import MODEL, gateway
from tests.support.gateway_server import Server, gateway_server
from tests.support.ledger import ROOT

pytestmark = pytest.mark.slow

SSN = "123-45-6789"
QUESTION = f"Patient: Edith Wharton, SSN {SSN}: what helps against the xylophone cough?"

# Less than a tenth of this machine's disk may be free; what happens then is a matter of unit tests.
ROOMY_SERVICE = """
import shutil, sys
usage = type(shutil.disk_usage("/"))
shutil.disk_usage = lambda _: usage(10_000, 5_000, 5_000)
from appliance.actions.retention.service import main
sys.exit(main())
"""


@contextmanager
def review_store(server: Server) -> Iterator[subprocess.Popen[bytes]]:
    """Run the store as its unit does, on a disk with room, and wait until its doors are there; killed at the end."""
    places = server.site.places
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    words = ("-c", ROOMY_SERVICE, "--config", str(server.site.config_file))
    with (places.state / "review.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, stderr=log, env={**kept, "PYTHONPATH": str(ROOT)}
        )
    try:
        deadline = time.monotonic() + 60
        while not _answers(places.socket(OPERATOR_DOOR)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def _answers(path: Path) -> bool:
    line = Line(path)
    try:
        return "count" in line.call("standing")
    except WireError:
        return False
    finally:
        line.close()


@contextmanager
def door(server: Server, name: str) -> Iterator[Line]:
    """Connect to one of the store's doors."""
    line = Line(server.site.places.socket(name))
    try:
        yield line
    finally:
        line.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with gateway_server(tmp_path, limits="[review]\none_in = 1\ndays = 7") as running:
        yield running


def ask(server: Server, text: str, **more: Any) -> tuple[str, str]:
    """Return the request's id and the answer."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}
    request = Request(  # noqa: S310 - loopback
        f"{server.url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"},
    )
    with urlopen(request, timeout=60) as answer:  # noqa: S310
        assert answer.status == 200
        return answer.headers["x-request-id"], json.load(answer)["choices"][0]["message"]["content"]


def wait_for(line: Line, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 60
    while len(found := line.call("list")["samples"]) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return list(found)


def raw(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_what_was_asked_and_answered_lies_nowhere_in_the_clear_and_people_see_it_protected(server: Server) -> None:
    with review_store(server), door(server, ADMIN_DOOR) as page:
        request_id, answer = ask(server, QUESTION, user="pat-7")
        (listed,) = wait_for(page, 1)
        drawn = page.call("draw", person="ada", reason="quality review")

    assert listed["request_id"] == request_id == drawn["request_id"]
    shown = str(drawn["content"])
    assert "xylophone cough" in shown
    assert answer.split()[0] in shown
    assert SSN not in shown
    assert "Wharton" not in shown
    found = raw(server.site.places.state) + server.stderr.read_bytes()
    for secret in ("xylophone", "Wharton", SSN, "pat-7", "[SSN_1]"):
        assert secret.encode() not in found, secret
    assert server.outcomes()[0]["sampled"] is True
    (read,) = server.doors[0].find(kind="review.read", limit=5)
    assert (read.body["person"], read.body["request_id"]) == ("ada", drawn["request_id"])


def test_the_gateways_door_reads_nothing(server: Server) -> None:
    with review_store(server), door(server, ADMIN_DOOR) as page, door(server, GATEWAY_DOOR) as gateway:
        ask(server, QUESTION)
        (listed,) = wait_for(page, 1)

        for do in ("draw", "show", "list", "standing"):
            with pytest.raises(RemoteError, match="no right"):
                gateway.call(do, request_id=listed["request_id"], person="mallory", reason="x")

    assert server.doors[0].find(kind="review.read", limit=5) == []


def test_answers_are_given_while_the_store_is_away_and_kept_when_it_is_back(server: Server) -> None:
    assert ask(server, "while it is away")
    deadline = time.monotonic() + 60
    while "dropped-unreachable" not in _metrics(server):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    with review_store(server) as first, door(server, ADMIN_DOOR) as page:
        assert ask(server, "a second question")
        wait_for(page, 1)
        first.kill()
        first.wait()
    with review_store(server), door(server, ADMIN_DOOR) as page:
        assert ask(server, "a third question")
        wait_for(page, 2)
        assert b"third question" not in raw(server.site.places.review)


def test_erasing_a_person_reaches_what_the_gateway_handed_in_and_a_hold_keeps_it(server: Server) -> None:
    with review_store(server), door(server, ADMIN_DOOR) as page:
        ask(server, "a first question", user="pat-7")
        ask(server, "another person's question", user="pat-8")
        wait_for(page, 2)
        store = ReviewStore(server.site.places.review, keys=FileKeys(server.site.places.key_files), clock=SystemClock())
        ledger: SocketLedger = server.doors[0]
        retention = Retention(store, ledger, clock=SystemClock())
        held = {sample.request_id for sample in store.of_subject("pat-8")}
        retention.hold(next(iter(held)), person="ada", reason="case 26-114")

        assert retention.erase("pat-7", subject_hash="a" * 64, person="ada", reason="asked") == 1

        assert {one["request_id"] for one in wait_for(page, 1)} == held
        assert ask(server, "the erased person comes back", user="pat-7")
        wait_for(page, 2)


def _metrics(server: Server) -> str:
    with urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=60) as answer:
        found: str = answer.read().decode()
    return found


@pytest.mark.parametrize("stage", ["production", "test"])
def test_nothing_of_the_test_stage_is_kept(tmp_path: Path, stage: str) -> None:
    with gateway(tmp_path, limits="[review]\none_in = 1") as rig:
        config = StagedConfig.of(rig.config) if stage == "test" else rig.config
        app = create_app(
            config, routes=rig.routes, ledger=rig.ledger, keys=rig.keys, api_keys=rig.api_keys, clock=rig.clock
        )
        samples = running(app).samples
        about = About(request_id="req_1", subject="", department="er", model_digest="a" * 64, endpoint="chat")
        samples.choose(Asked(endpoint=Endpoint.CHAT, model="m", max_tokens=1, prompt="x"), about, label="")

        assert samples.has_chosen("req_1") is (stage == "production")
        running(app).close()
