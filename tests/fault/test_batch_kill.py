"""A gateway is killed in the middle of a batch, again and again: every line has one result, all in the ledger."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from appliance.gateway.batches.store import BatchStore
from appliance.keys.files import FileKeys, create_missing
from media.clock import FixedClock
from tests.support.engine import Script
from tests.support.gateway import MODEL, NOW
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


def _end_until_killed(file: Path, keys: FileKeys, *, parts: int) -> bool:
    """End the one batch in a process of its own, which is killed after so many parts; return whether it was."""
    child = os.fork()
    if not child:
        done: list[None] = []

        def goes_on() -> bool:
            if len(done) >= parts:
                os.kill(os.getpid(), signal.SIGKILL)
            done.append(None)
            return True

        code = 1
        try:
            store = BatchStore(file, keys=keys, clock=FixedClock(NOW))
            (batch,) = store.batches()
            store.ending.finish(batch, "completed", days=1, goes_on=goes_on)
            store.close()
            code = 0
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, -signal.SIGKILL}
    return status != 0


def test_a_batch_that_is_killed_while_it_ends_has_each_result_once(tmp_path: Path) -> None:
    create_missing(tmp_path / "keys")
    keys, file, count = FileKeys(tmp_path / "keys"), tmp_path / "batches.db", 40
    store = BatchStore(file, keys=keys, clock=FixedClock(NOW))
    source = store.add_file("k", purpose="batch", name="a", parts=[b"{}\n"] * count, days=1)
    batch = store.add_batch(
        certificate="", endpoint="/v1/embeddings", source=source, hours=1, faults=(), metadata=None, said={}
    )
    assert batch is not None
    for number in range(1, count + 1):
        store.add_result(batch, number, json.dumps({"n": number, "text": "x" * 2**17}).encode(), ok=number % 7 != 0)
    store.close()

    kills = 0
    while _end_until_killed(file, keys, parts=1):
        kills += 1
        assert kills < 50

    assert kills > 4
    store = BatchStore(file, keys=keys, clock=FixedClock(NOW))
    (ended,) = store.batches()
    assert ended.status == "completed"
    assert ended.output is not None
    assert ended.errors is not None
    told = [[json.loads(one)["n"] for one in store.parts(name)] for name in (ended.output, ended.errors)]
    assert told == [[n for n in range(1, count + 1) if n % 7], [n for n in range(1, count + 1) if n % 7 == 0]]
    assert {one.id for one in store.files("k")} == {source.id, ended.output, ended.errors}
    sizes = {one.id: one.bytes for one in store.files("k")}
    assert sizes[ended.output] == sum(map(len, store.parts(ended.output)))
    store.close()
