"""Two whole nodes answer callers at once: a gateway, a ledger and an engine each, one database server for both.

Scenario: callers ask both gateways without pause; then the ledger of one node is killed with SIGKILL. Promise: every
answer that a caller got has its intent and its outcome in the one tree, under the name of the node that gave it; the
node without a ledger answers 503 and the other one goes on; a caller stopped for the site is stopped on both; what a
key may use is one allowance for both; a node that has not the list of names on record refuses, and the other one goes
on.
"""

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appliance import config as configuration
from appliance.actions import census, censusnodes
from appliance.actions.censusnodes import SEEN
from appliance.actions.databases import migrating
from appliance.actions.status import status
from appliance.audit import pin
from appliance.audit.verify import verify
from appliance.errors import LedgerUnavailableError
from appliance.keys.files import FileKeys
from media.clock import SystemClock
from tests.support.engine import Script
from tests.support.gateway import DEPARTMENT, MODEL
from tests.support.gateway_server import Server, gateway_server
from tests.support.postgres import PostgresServer

# Without what is noted as held.
SPENT = "SELECT {} FROM sealift_limits.spent WHERE key_id NOT LIKE 'held %'"
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
    with two_nodes(postgres, tmp_path, limits="requests_per_minute = 1000000") as made:
        yield made


@contextmanager
def two_nodes(postgres: PostgresServer, tmp_path: Path, *, limits: str) -> Iterator[tuple[Server, Server]]:
    name = postgres.database()
    migrating.migrate(postgres.places(tmp_path / "owner", name), "up")
    with ExitStack() as stack:
        made: list[Server] = []
        for node in ("a", "b"):
            database = postgres.section(name).model_copy(update={"node": node})
            beside = made[0] if made else None
            made.append(
                stack.enter_context(
                    gateway_server(tmp_path / node, limits=limits, ledger_apart=True, database=database, beside=beside)
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


def test_a_key_has_one_allowance_on_both_and_no_answer_where_it_cannot_be_counted(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    with two_nodes(postgres, tmp_path, limits="requests_per_minute = 20\ntokens_per_day = 100000") as nodes:
        database = nodes[0].site.config.database.name
        sides = [Callers(node) for node in nodes]
        began = time.monotonic()
        sides[0].ask()
        ((cost,), _) = postgres.admin(SPENT.format("tokens"), database)
        for _ in range(20):
            for side in sides:
                side.ask()
        refilled = (time.monotonic() - began) * 20 / 60

        answered = sum(len(side.answered) for side in sides)
        assert 20 <= answered <= 20 + refilled
        assert all(side.answered for side in sides)
        assert {code for side in sides for code in side.failed} == {(429, "rate_limit_exceeded")}
        assert postgres.admin(SPENT.format("DISTINCT tokens"), database) == [(answered * cost,)]
        assert not any(node.site.places.counters.exists() for node in nodes)

        postgres.admin("DROP SCHEMA sealift_limits CASCADE", database)
        for side in sides:
            side.ask()
            assert side.failed[-1] == (503, "state_unavailable")
        with pytest.raises(urllib.error.HTTPError) as unready:
            urllib.request.urlopen(f"{nodes[0].url}/readyz", timeout=60)  # noqa: S310 - our own loopback
        with unready.value as answer:
            assert "limits" in answer.read().decode()


def streamed(node: Server) -> tuple[int, int]:
    """Return the tokens of a streamed answer as it is told at its end, or 0 and the status of a refusal."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 1000,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {"Authorization": f"Bearer {node.key}", "Content-Type": "application/json"}
    asked = urllib.request.Request(  # noqa: S310 - our own loopback
        f"{node.url}/v1/chat/completions", data=json.dumps(body).encode(), headers=headers
    )
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310
            *_, last, done = [line for line in answer.read().decode().split("\n\n") if line]
    except urllib.error.HTTPError as error:
        with error:
            return 0, error.code
    assert done == "data: [DONE]"
    return int(json.loads(last.removeprefix("data: "))["usage"]["total_tokens"]), 200


def test_streams_that_run_at_once_on_both_share_what_is_left_and_give_back_what_they_did_not_use(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    limits = "requests_per_minute = 1000000\ntokens_per_day = 3500"
    with two_nodes(postgres, tmp_path, limits=limits) as nodes, ThreadPoolExecutor(4) as pool:
        database = nodes[0].site.config.database.name

        def spent() -> int:
            rows = postgres.admin(SPENT.format("tokens"), database)
            return max((int(tokens) for (tokens,) in rows), default=0)

        holds = [threading.Event() for _ in nodes]
        for node, hold in zip(nodes, holds, strict=True):
            node.engine.script = Script(hold=hold)
        running = [pool.submit(streamed, node) for node in (*nodes, nodes[0])]
        deadline = time.monotonic() + 60
        while spent() < 3000:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        refused = [streamed(node) for node in nodes]
        for hold in holds:
            hold.set()
        used = [stream.result(60) for stream in running]

        assert refused == [(0, 429), (0, 429)]
        assert {status for _, status in used} == {200}
        while spent() > sum(tokens for tokens, _ in used):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert spent() == sum(tokens for tokens, _ in used) < 1000
        assert [streamed(node)[1] for node in nodes] == [200, 200]


def ready(node: Server) -> str:
    try:
        with urllib.request.urlopen(f"{node.url}/readyz", timeout=60):  # noqa: S310 - our own loopback
            return ""
    except urllib.error.HTTPError as error:
        with error:
            return str(json.load(error)["error"]["message"])


def until_said(node: Server, *words: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        said = [
            str(leaf.body["list"]) for leaf in node.doors[0].find(SEEN, field="node", value="b", newest_first=False)
        ]
        if said == list(words):
            return
        assert time.monotonic() < deadline, said
        time.sleep(0.05)


def test_a_node_that_lacks_the_list_of_names_on_record_refuses_until_it_was_laid_down_there(
    nodes: tuple[Server, Server],
) -> None:
    leading, other = nodes
    names, sides = census.parsed(b"Jane Doe\n"), [Callers(node) for node in nodes]
    configs = [configuration.load(node.site.config_file) for node in nodes]
    keys = FileKeys(leading.site.places.key_files)
    for side in sides:
        side.ask()
    with pytest.raises(LedgerUnavailableError, match="another node leads"):
        censusnodes.bring(configs[1], names, ledger=other.doors[0], keys=keys, person="ada")

    censusnodes.bring(configs[0], names, ledger=leading.doors[0], keys=keys, person="ada")
    deadline = time.monotonic() + 30
    while not sides[1].failed:
        assert time.monotonic() < deadline
        sides[1].ask()
    until_said(leading, "absent")
    sides[0].ask()

    assert sides[1].failed == [(500, "phi_unavailable")]
    assert ready(other) == "Not ready: census."
    assert (ready(leading), sides[0].failed) == ("", [])
    assert censusnodes.standing(leading.doors[0], "b")[0] is False
    shown = status(configs[1], clock=SystemClock()).part("census")
    assert (shown.is_good, shown.text) == (False, censusnodes.fault(configs[1], leading.doors[0]))

    censusnodes.bring(configs[1], names, ledger=other.doors[0], keys=keys, person="ada")
    deadline = time.monotonic() + 30
    while ready(other):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sides[1].ask()

    assert len(sides[1].failed) == 1
    until_said(leading, "absent", "same")
    assert [leaf.via.node for leaf in leading.doors[0].find(censusnodes.FOLLOWED)] == ["b"]
    assert censusnodes.fault(configs[0], leading.doors[0]) == censusnodes.fault(configs[1], leading.doors[0]) == ""
