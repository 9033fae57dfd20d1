"""Limits counted by several nodes on a real server: together never more than one allowance; without it, no answer.

What a single process counts there is held against the file in tests/unit/appliance/gateway/test_quotas.py.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from appliance.actions import nodes
from appliance.actions.databases import checking, migrating
from appliance.config import Config, LimitsSection, Places, PlacesSection
from appliance.errors import DatabaseError
from appliance.gateway import problems
from appliance.gateway.problems import Problem
from appliance.gateway.serverquotas import ServerQuotas
from appliance.postgres.connecting import connect
from appliance.stages import Stage
from media.clock import FixedClock, SystemClock
from tests.support.postgres import PostgresServer, postgres_server

pytestmark = pytest.mark.interop

NOW = datetime(2026, 11, 30, 23, 0, tzinfo=UTC)
# Charges 10, of which 3 come back, until nothing is left, and says how much it kept.
_SPENDS = """
import sys
from pathlib import Path
from appliance.config import DatabaseSection, LimitsSection, Places
from appliance.gateway.problems import Problem
from appliance.gateway.serverquotas import ServerQuotas
from media.clock import SystemClock
socket, port, name, root = sys.argv[1:]
section = DatabaseSection(kind="postgresql", socket=socket, port=int(port), name=name)
limits = LimitsSection(tokens_per_month=3000, tokens_per_minute=10**9)
quotas = ServerQuotas(Places(root=Path(root), run=Path(root), server=section), limits, SystemClock())
quotas.require()
print("ready", flush=True)
sys.stdin.readline()
kept = 0
try:
    while True:
        held = quotas.hold("a", "standard", prompt=5, answer=5)
        quotas.settle(held, 7)
        kept += 7
except Problem as refused:
    print(kept, refused.code)
"""


@pytest.fixture
def of_node(on_server: Places) -> Iterator[ServerQuotas]:
    quotas = ServerQuotas(on_server, LimitsSection(tokens_per_day=100), FixedClock(NOW))
    yield quotas
    quotas.close()


def test_processes_that_spend_one_allowance_at_once_never_exceed_it(on_server: Places) -> None:
    section = on_server.server
    assert section is not None
    command = [sys.executable, "-c", _SPENDS, section.socket, str(section.port), section.name, str(on_server.root)]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for one in running:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in running:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    said = [one.communicate(timeout=60)[0].split() for one in running]

    # Who was refused only since others held what was left was told so; the last one spent it.
    assert "insufficient_quota" in {code for _, code in said} <= {"insufficient_quota", "rate_limit_exceeded"}
    kept = [int(spent) for spent, _ in said]
    # One that is refused ends, while another holds tokens that come back; so the last one goes to the end of it.
    assert 3000 - 10 < sum(kept) <= 3000
    assert sum(spent > 0 for spent in kept) > 1


def test_stages_and_keys_are_counted_apart(on_server: Places, of_node: ServerQuotas) -> None:
    assert of_node.hold("a", "standard", prompt=100, answer=0)
    in_test = ServerQuotas(replace(on_server, stage=Stage.TEST), LimitsSection(tokens_per_day=100), FixedClock(NOW))

    with closing(in_test):
        assert in_test.hold("a", "standard", prompt=100, answer=0)
    assert of_node.hold("b", "standard", prompt=100, answer=0)
    with pytest.raises(Problem):
        of_node.hold("a", "standard", prompt=1, answer=0)


def test_without_the_server_requests_are_refused_and_counted_again_when_it_is_back(tmp_path: Path) -> None:
    with postgres_server() as server:
        places = server.places(tmp_path, server.database())
        migrating.migrate(places, "up")
        clock = FixedClock(NOW)
        quotas = ServerQuotas(places, LimitsSection(tokens_per_day=100), clock)
        held = quotas.hold("a", "standard", prompt=0, answer=60)
        assert held is not None
        server.admin("SELECT pg_switch_wal()")  # as does the server's own writer soon after
        server.kill()
        for _ in range(2):
            with pytest.raises(DatabaseError) as refused:
                quotas.take("key a", per_minute=10)
            assert problems.from_error(refused.value).status == 503
        with pytest.raises(DatabaseError):
            quotas.settle(held, 10)

        server.start()
        clock.advance(2)
        assert quotas.take("key a", per_minute=10).retry_after_seconds is None
        with pytest.raises(Problem):  # what was held when it went stays charged
            quotas.hold("a", "standard", prompt=0, answer=41)
        assert quotas.hold("a", "standard", prompt=0, answer=40)
        quotas.close()


def test_a_connection_that_the_server_ended_while_nobody_used_it_is_replaced(
    on_server: Places, postgres: PostgresServer
) -> None:
    assert on_server.server is not None
    clock = FixedClock(NOW)
    with closing(ServerQuotas(on_server, LimitsSection(tokens_per_day=100), clock)) as quotas:
        held = quotas.hold("a", "standard", prompt=100, answer=0)
        assert held is not None
        postgres.admin(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sealift-reader'",
            on_server.server.name,
        )
        clock.advance(60)
        quotas.settle(held, 40)
        assert quotas.hold("a", "standard", prompt=60, answer=0)


def test_without_counters_nothing_is_answered_and_doctor_and_check_say_why(alone_on_server: Places) -> None:
    assert alone_on_server.server is not None
    with connect(alone_on_server, "owner") as connection:
        connection.execute("DROP SCHEMA sealift_limits CASCADE")
    section = alone_on_server.server.model_copy(update={"node": "a"})
    config = Config(site="demo", places=PlacesSection(root=str(alone_on_server.root)), database=section)
    quotas = ServerQuotas(alone_on_server, LimitsSection(), FixedClock(NOW))

    for ask in (quotas.require, lambda: quotas.take("key a", per_minute=10)):
        with pytest.raises(DatabaseError) as refused:
            ask()
        assert refused.value.fix == "`sealift db migrate up`"
    (found,) = (one for one in nodes.findings(config) if one.name == "limits")
    assert (found.is_good, found.fix) == (False, "`sealift db migrate up`")
    (found_too,) = (one for one in checking.check(config, clock=SystemClock()) if one.name == "limits")
    assert (found_too.state, found_too.fix) == ("fault", "`sealift db migrate up`")

    assert [change.part for change in migrating.migrate(alone_on_server, "up")] == ["limits"]
    quotas = ServerQuotas(alone_on_server, LimitsSection(), FixedClock(NOW))
    with closing(quotas):
        assert quotas.take("key a", per_minute=10).retry_after_seconds is None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sealift_limits.spent SET tokens = 0",
        "DELETE FROM sealift_limits.bucket",
        "INSERT INTO sealift_limits.format VALUES(2)",
        "SELECT sealift_limits.moment()",
    ],
)
def test_who_counts_has_no_other_way_to_the_counters(on_server: Places, statement: str) -> None:
    with connect(on_server, "reader") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())
    with connect(on_server, "state") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT sealift_limits.prune('9999-12')")


def test_old_rows_go_when_they_are_old_by_both_clocks(on_server: Places, postgres: PostgresServer) -> None:
    assert on_server.server is not None
    name = on_server.server.name
    month = datetime.now(UTC).strftime("%Y-%m")
    for period in ("2020-01", "2020-01-31", month):
        postgres.admin(f"INSERT INTO sealift_limits.spent VALUES('production', 'a', '{period}', 5)", name)
    for bucket, age in (("requests key old", "2 hours"), ("requests key new", "1 second")):
        postgres.admin(
            f"INSERT INTO sealift_limits.bucket VALUES('production', '{bucket}', 0, now() - interval '{age}')",
            name,
        )

    behind = FixedClock(datetime(2020, 2, 1, tzinfo=UTC))
    with closing(ServerQuotas(on_server, LimitsSection(), behind)) as quotas:
        quotas.take("key a", per_minute=10)
    assert len(postgres.admin("SELECT period FROM sealift_limits.spent", name)) == 3

    ahead = FixedClock(datetime(2099, 1, 1, tzinfo=UTC))
    with closing(ServerQuotas(on_server, LimitsSection(), ahead)) as quotas:
        quotas.take("key a", per_minute=10)

    assert postgres.admin("SELECT period FROM sealift_limits.spent", name) == [(month,)]
    rows = postgres.admin("SELECT name FROM sealift_limits.bucket ORDER BY name", name)
    assert rows == [("requests key a",), ("requests key new",)]
