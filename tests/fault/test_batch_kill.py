"""A gateway is killed in the middle of a batch, again and again: every line has one result, all in the ledger."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.support.engine import Script
from tests.support.gateway import MODEL
from tests.support.gateway_server import Server, gateway_server

pytestmark = pytest.mark.fault
LINES = 120
KILLS = 3


def _progress(server: Server, client: httpx.Client, batch_id: str) -> tuple[str, int]:
    found = client.get(f"/v1/batches/{batch_id}").json()
    return str(found["status"]), int(found["request_counts"]["completed"])


def _wait(server: Server, client: httpx.Client, batch_id: str, *, done: int) -> None:
    ends = time.monotonic() + 120
    while _progress(server, client, batch_id)[1] < done:
        assert time.monotonic() < ends
        time.sleep(0.02)


def _lines(count: int) -> str:
    return "\n".join(
        json.dumps(
            {
                "custom_id": f"line-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": MODEL, "messages": [{"role": "user", "content": f"question {number}"}]},
            }
        )
        for number in range(count)
    )


def _recorded(server: Server) -> dict[str, str]:
    found: dict[str, str] = {}
    start = 0
    while page := server.doors[0].leaves(start, 500, kinds=["request.outcome"]):
        found |= {str(leaf.body["request_id"]): str(leaf.body["outcome"]) for leaf in page}
        start = page[-1].sequence + 1
    return found


def test_a_gateway_that_is_stopped_cancels_its_lines_at_once_and_asks_them_again_later(tmp_path: Path) -> None:
    with gateway_server(tmp_path) as server:
        hold = threading.Event()
        server.engine.script = Script(hold=hold)
        headers = {"Authorization": f"Bearer {server.key}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            handed = client.post("/v1/files", data={"purpose": "batch"}, files={"file": _lines(1).encode()}).json()
            asked = {"input_file_id": handed["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            batch_id = str(client.post("/v1/batches", json=asked).json()["id"])
            assert server.engine.started.wait(60)
            server.process.terminate()
            server.process.wait(timeout=40)
            assert server.engine.cancelled.wait(10)
            hold.set()
            server.start_again()
            _wait(server, client, batch_id, done=1)
        assert sorted(_recorded(server).values()) == ["cancelled", "ok"]


def test_a_batch_goes_on_after_each_kill_and_no_line_has_two_results(tmp_path: Path) -> None:
    with gateway_server(tmp_path, limits="requests_per_minute = 1000000\nconcurrent_requests = 4") as server:
        headers = {"Authorization": f"Bearer {server.key}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            handed = client.post("/v1/files", data={"purpose": "batch"}, files={"file": _lines(LINES).encode()}).json()
            asked = {"input_file_id": handed["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            batch_id = str(client.post("/v1/batches", json=asked).json()["id"])
            for kill in range(1, KILLS + 1):
                _wait(server, client, batch_id, done=kill * LINES // (KILLS + 2))
                pid = server.process.pid
                for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                    os.kill(int(child), signal.SIGKILL)
                server.process.kill()
                server.process.wait(timeout=20)
                server.start_again()
            _wait(server, client, batch_id, done=LINES)
            ends = time.monotonic() + 60
            while (found := client.get(f"/v1/batches/{batch_id}").json())["status"] != "completed":
                assert time.monotonic() < ends
                time.sleep(0.05)
            answers = client.get(f"/v1/files/{found['output_file_id']}/content").text.splitlines()

        results = [json.loads(one) for one in answers]
        assert [one["custom_id"] for one in results] == [f"line-{number}" for number in range(LINES)]
        for number, one in enumerate(results):
            said = one["response"]["body"]["choices"][0]["message"]["content"]
            assert said == f"You said: question {number}"
        recorded = _recorded(server)
        assert {recorded[one["response"]["request_id"]] for one in results} == {"ok"}
        assert found["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}
