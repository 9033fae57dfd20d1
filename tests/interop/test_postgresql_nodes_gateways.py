"""Two whole nodes answer callers at once: a gateway, a ledger and an engine each, one database server for both.

Scenario: callers ask both gateways without pause; then the ledger of one node is killed with SIGKILL. Promise: every
answer that a caller got has its intent and its outcome in the one tree, under the name of the node that gave it; the
node without a ledger answers 503 and the other one goes on; a caller stopped for the site is stopped on both.
"""

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appliance.actions.databases import migrating
from appliance.audit import pin
from appliance.audit.verify import verify
from tests.support.gateway import DEPARTMENT, MODEL
from tests.support.gateway_server import Server, gateway_server
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.interop


@dataclass(slots=True)
class Callers:
    """Callers of one node that ask again and again: the ids of what was answered, the codes of what was not."""

    node: Server
    answered: list[str] = field(default_factory=list)
    failed: list[tuple[int, str]] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.ending.is_set():
            self.ask()

    def ask(self) -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        headers = {"Authorization": f"Bearer {self.node.key}", "Content-Type": "application/json"}
        asked = urllib.request.Request(  # noqa: S310 - our own loopback
            f"{self.node.url}/v1/chat/completions", data=json.dumps(body).encode(), headers=headers
        )
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310
                answer.read()
                self.answered.append(answer.headers["x-request-id"])
        except urllib.error.HTTPError as error:
            with error:
                self.failed.append((error.code, str(json.load(error)["error"]["code"])))


@pytest.fixture
def nodes(postgres: PostgresServer, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    name = postgres.database()
    migrating.migrate(postgres.places(tmp_path / "owner", name), "up")
    many = "requests_per_minute = 1000000"
    with ExitStack() as stack:
        made: list[Server] = []
        for node in ("a", "b"):
            database = postgres.section(name).model_copy(update={"node": node})
            beside = made[0] if made else None
            made.append(
                stack.enter_context(
                    gateway_server(tmp_path / node, limits=many, ledger_apart=True, database=database, beside=beside)
                )
            )
        yield made[0], made[1]


def until(callers: Callers, *, answers: int = 0, failures: int = 0) -> None:
    wanted = len(callers.answered) + answers, len(callers.failed) + failures
    deadline = time.monotonic() + 60
    while len(callers.answered) < wanted[0] or len(callers.failed) < wanted[1]:
        assert time.monotonic() < deadline, (callers.answered[-1:], callers.failed[-1:])
        time.sleep(0.02)


def test_both_answer_at_once_and_one_goes_on_when_the_others_ledger_is_killed(nodes: tuple[Server, Server]) -> None:
    sides = [Callers(node) for node in nodes]
    threads = [threading.Thread(target=side.run, daemon=True) for side in sides for _ in range(2)]
    for thread in threads:
        thread.start()
    for side in sides:
        until(side, answers=20)
    assert not sides[0].failed
    assert not sides[1].failed

    first = nodes[0].ledger
    assert first is not None
    first.send_signal(signal.SIGKILL)
    until(sides[0], failures=1)
    until(sides[1], answers=20)
    for side in sides:
        side.ending.set()
    for thread in threads:
        thread.join()

    assert set(sides[0].failed) == {(503, "ledger_unavailable")}
    assert not sides[1].failed
    ledger = nodes[1].doors[0]
    given = {
        (str(leaf.body["request_id"]), leaf.via.node)
        for leaf in ledger.find("request.outcome", limit=100_000)
        if leaf.body["outcome"] == "ok"
    }
    assert given >= {(one, "a") for one in sides[0].answered} | {(one, "b") for one in sides[1].answered}
    done = verify(ledger, pinned=pin.read_pin(nodes[1].site.places))
    assert done.ok, done.findings


def test_who_is_stopped_for_the_site_is_stopped_on_both(nodes: tuple[Server, Server]) -> None:
    leading, other = nodes
    side = Callers(other)
    side.ask()
    assert len(side.answered) == 1

    body = {"what": "department", "name": DEPARTMENT, "person": "ada", "reason": "leaks"}
    leading.happen("stop.made", body)
    deadline = time.monotonic() + 60
    while not side.failed:
        assert time.monotonic() < deadline
        side.ask()

    assert side.failed == [(503, "stopped")]
