"""All that count together never give more than a limit, and what a request did not cost comes back.

The same for a file, which the gateways of a box share, and for the site's server, which those of several nodes share.
"""

import itertools
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.config import DatabaseSection, LimitsSection, Places
from appliance.errors import StoreDamagedError
from appliance.gateway.filequotas import FileQuotas
from appliance.gateway.limits import ceiling
from appliance.gateway.problems import Problem
from appliance.gateway.quotas import Held, Quotas
from appliance.gateway.serverquotas import ServerQuotas
from media.clock import FixedClock

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer

NOW = datetime(2026, 11, 30, 23, 0, tzinfo=UTC)
SERVER = pytest.mark.interop  # the same, on a PostgreSQL server
# The server's clock stands like the other one, so that no bucket fills while a test runs.
_STANDS = """
CREATE TABLE sealift_limits.told(at timestamptz NOT NULL);
INSERT INTO sealift_limits.told VALUES(now());
ALTER TABLE sealift_limits.told OWNER TO sealift_owner;
CREATE OR REPLACE FUNCTION sealift_limits.moment() RETURNS timestamptz LANGUAGE sql VOLATILE
  AS 'SELECT at FROM sealift_limits.told';
"""
_PASSES = "UPDATE sealift_limits.told SET at = at + interval '{} seconds'"
_NAMES = (f"key{number}" for number in itertools.count())


@dataclass(slots=True, kw_only=True)
class Counting:
    """One place to count in, whose time passes when `wait` says so."""

    clock: FixedClock
    make: Callable[[LimitsSection], Quotas]
    let_pass: Callable[[float], None]
    made: list[Quotas] = field(default_factory=list)

    def quotas(self, **limits: int) -> Quotas:
        """Return the counters, as one more process has them."""
        self.made.append(self.make(LimitsSection.model_validate(limits)))
        return self.made[-1]

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.let_pass(seconds)


@pytest.fixture(scope="module")
def standing(postgres: "PostgresServer", new_database: Callable[[], DatabaseSection]) -> DatabaseSection:
    section = new_database()
    postgres.admin(_STANDS, section.name)
    return section


@pytest.fixture(params=["file", pytest.param("server", marks=SERVER)])
def counting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Counting]:
    clock = FixedClock(NOW)
    if request.param == "file":
        file = tmp_path / "gateway/limits.db"
        found = Counting(clock=clock, make=lambda limits: FileQuotas(file, limits, clock), let_pass=lambda _: None)
    else:
        server, section = request.getfixturevalue("postgres"), request.getfixturevalue("standing")
        server.admin("TRUNCATE sealift_limits.bucket, sealift_limits.spent", section.name)
        places = Places(root=tmp_path, run=tmp_path, server=section)

        def let_pass(seconds: float) -> None:
            server.admin(_PASSES.format(seconds), section.name)

        found = Counting(clock=clock, make=lambda limits: ServerQuotas(places, limits, clock), let_pass=let_pass)
    yield found
    for one in found.made:
        one.close()


def _clock() -> FixedClock:
    return FixedClock(NOW)


def _quotas(folder: Path, clock: FixedClock, **limits: int) -> FileQuotas:
    return FileQuotas(folder / "gateway/limits.db", LimitsSection.model_validate(limits), clock)


@pytest.mark.parametrize("name", ["tokens_per_minute", "tokens_per_day", "tokens_per_month", "requests_per_minute"])
def test_a_limit_that_is_meant_as_none_is_counted_all_the_same(counting: Counting, name: str) -> None:
    nines = 9_999_999_999_999_999_999
    quotas = counting.quotas(**{name: nines})

    for tier in ("standard", "premium"):
        held = quotas.hold(f"nines-{tier}", tier, prompt=10, answer=10)
        assert held is None or held.tokens == 20
        assert quotas.take(f"nines-{tier}", per_minute=ceiling(tier, nines)).retry_after_seconds is None


def test_two_gateways_spend_one_allowance(counting: Counting) -> None:
    gateways = [counting.quotas(), counting.quotas()]

    def ask(number: int) -> bool:
        return gateways[number % 2].take("key a", per_minute=30).retry_after_seconds is None

    with ThreadPoolExecutor(8) as pool:
        allowed = sum(pool.map(ask, range(80)))

    assert allowed == 30
    counting.wait(2)
    assert gateways[0].take("key a", per_minute=30).retry_after_seconds is None
    assert gateways[1].take("key a", per_minute=30).retry_after_seconds == pytest.approx(2)


def test_gateways_that_begin_at_once_wait_for_each_other(tmp_path: Path) -> None:
    for number in range(20):
        gateways = [_quotas(tmp_path / str(number), _clock()) for _ in range(4)]
        at_once = threading.Barrier(4)

        def begin(quotas: FileQuotas, at_once: threading.Barrier = at_once) -> bool:
            at_once.wait(20)
            return quotas.take("key a", per_minute=2).retry_after_seconds is None

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(begin, gateways)) == 2
        for each in gateways:
            each.close()


@pytest.mark.slow  # processes of their own, a second and more each
def test_another_process_counts_on(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from appliance.config import LimitsSection\n"
        "from appliance.gateway.filequotas import FileQuotas; from media.clock import SystemClock\n"
        "quotas = FileQuotas(Path(sys.argv[1]), LimitsSection(tokens_per_day=100), SystemClock())\n"
        "try: quotas.hold('a', 'standard', prompt=10, answer=50); print('held')\n"
        "except Exception as error: print(error.code)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "limits.db")]
    said = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() for _ in range(2)]

    assert said == ["held", "rate_limit_exceeded"], "the first one's tokens were never settled"


def test_what_is_held_counts_until_it_is_settled(counting: Counting) -> None:
    quotas = counting.quotas(tokens_per_day=1000)
    first = quotas.hold("a", "standard", prompt=100, answer=800)
    assert first is not None

    with pytest.raises(Problem) as refused:
        quotas.hold("a", "standard", prompt=100, answer=100)
    assert refused.value.status == 429
    assert quotas.hold("b", "standard", prompt=100, answer=100) is not None

    quotas.settle(first, 150)
    assert quotas.hold("a", "standard", prompt=50, answer=800) is not None


@pytest.mark.parametrize("minute", [0, 100_000])
@pytest.mark.parametrize("period", ["day", "month"])
def test_what_running_requests_hold_is_told_from_what_was_spent(counting: Counting, period: str, minute: int) -> None:
    quotas, other = (counting.quotas(**{f"tokens_per_{period}": 1000, "tokens_per_minute": minute}) for _ in range(2))
    first = other.hold("a", "standard", prompt=100, answer=800)
    assert first is not None
    with pytest.raises(Problem) as refused:
        quotas.hold("a", "standard", prompt=100, answer=100)
    assert (refused.value.status, refused.value.code) == (429, "rate_limit_exceeded")
    assert refused.value.retry_after_seconds == 2
    assert "running requests" in refused.value.message
    assert "x-should-retry" not in refused.value.headers

    other.settle(first, 850)
    with pytest.raises(Problem) as refused:
        quotas.hold("a", "standard", prompt=100, answer=100)
    assert (refused.value.code, refused.value.renews) == ("insufficient_quota", True)
    assert refused.value.headers["x-should-retry"] == "false"
    assert quotas.hold("a", "standard", prompt=100, answer=50) is not None


def test_a_request_above_a_whole_day_is_told_that_none_has_so_many(counting: Counting) -> None:
    quotas = counting.quotas(tokens_per_day=100, tokens_per_month=1000)
    assert quotas.hold("a", "standard", prompt=10, answer=0) is not None

    with pytest.raises(Problem) as refused:
        quotas.hold("a", "standard", prompt=1, answer=100)
    assert (refused.value.code, refused.value.renews) == ("insufficient_quota", False)


def test_what_a_process_that_died_held_is_spent_after_two_hours(counting: Counting) -> None:
    counting.clock.at = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
    quotas = counting.quotas(tokens_per_day=100)
    late = quotas.hold("a", "standard", prompt=60, answer=0)
    assert late is not None
    for hours, code in ((1, "rate_limit_exceeded"), (1, "insufficient_quota")):
        counting.wait(3600 * hours)
        quotas.take("key a", per_minute=30)
        with pytest.raises(Problem) as refused:
            quotas.hold("a", "standard", prompt=60, answer=0)
        assert refused.value.code == code
    quotas.settle(late, 10)  # it lived, and took long
    assert quotas.hold("a", "standard", prompt=90, answer=0) is not None


def test_what_was_held_before_midnight_is_the_months_and_not_the_new_days(counting: Counting) -> None:
    counting.clock.at = datetime(2026, 11, 20, 23, 30, tzinfo=UTC)
    quotas = counting.quotas(tokens_per_day=100, tokens_per_month=150)
    quotas.hold("a", "standard", prompt=90, answer=0)
    counting.wait(3600)
    spent = quotas.hold("a", "standard", prompt=60, answer=0)
    assert spent is not None
    quotas.settle(spent, 60)
    for tokens, code in ((41, "insufficient_quota"), (10, "rate_limit_exceeded")):
        with pytest.raises(Problem) as refused:
            quotas.hold("a", "standard", prompt=tokens, answer=0)
        assert refused.value.code == code


def test_what_an_answer_cost_beyond_what_was_held_is_paid_by_the_day_and_the_month(counting: Counting) -> None:
    quotas = counting.quotas(tokens_per_day=1000, tokens_per_month=1000, tokens_per_minute=600)
    held = quotas.hold("a", "standard", prompt=10, answer=90)
    assert held is not None
    quotas.settle(held, 400)  # a version's own prompt was read, too
    counting.wait(60)

    with pytest.raises(Problem):
        quotas.hold("a", "standard", prompt=601, answer=0)
    assert quotas.hold("a", "standard", prompt=600, answer=0) is not None
    uncounted = quotas.hold("b", "standard", prompt=10, answer=90)
    assert uncounted is not None
    quotas.settle(uncounted, None, delivered="x" * 400)  # what was delivered are bytes, of which a token has several
    counting.wait(60)
    assert quotas.hold("b", "standard", prompt=900, answer=0) is not None
    broken = quotas.hold("c", "standard", prompt=10, answer=90)
    assert broken is not None
    quotas.settle(broken, 2**80)


def test_where_nobody_counted_a_byte_that_was_delivered_costs_a_token(counting: Counting) -> None:
    quotas = counting.quotas(tokens_per_day=1000)
    held = quotas.hold("a", "standard", prompt=100, answer=800)
    assert held is not None
    quotas.settle(held, None, delivered="x" * 40)

    assert quotas.hold("a", "standard", prompt=60, answer=800) is not None
    with pytest.raises(Problem):
        quotas.hold("a", "standard", prompt=0, answer=1)


def test_a_day_ends_and_a_month_does_not_forget_it(counting: Counting) -> None:
    counting.clock.at = datetime(2026, 11, 20, 23, 0, tzinfo=UTC)
    quotas = counting.quotas(tokens_per_day=100, tokens_per_month=150)
    assert quotas.hold("a", "standard", prompt=50, answer=50)
    with pytest.raises(Problem):
        quotas.hold("a", "standard", prompt=1, answer=0)
    counting.wait(7200)
    assert quotas.hold("a", "standard", prompt=25, answer=25)
    with pytest.raises(Problem):
        quotas.hold("a", "standard", prompt=1, answer=0)
    counting.clock.at = datetime(2026, 12, 1, tzinfo=UTC)
    assert quotas.hold("a", "standard", prompt=50, answer=50)


def test_what_comes_back_comes_back_to_the_day_and_the_month_that_were_charged(counting: Counting) -> None:
    quotas = counting.quotas(tokens_per_day=100, tokens_per_month=100)
    held = quotas.hold("a", "standard", prompt=10, answer=90)
    assert held is not None
    counting.wait(7200)  # the first hour of December
    assert quotas.hold("a", "standard", prompt=40, answer=0) is not None
    quotas.settle(held, 10)

    with pytest.raises(Problem):
        quotas.hold("a", "standard", prompt=61, answer=0)
    assert quotas.hold("a", "standard", prompt=60, answer=0) is not None
    counting.clock.at = NOW
    with pytest.raises(Problem):
        quotas.hold("a", "standard", prompt=91, answer=0)
    assert quotas.hold("a", "standard", prompt=90, answer=0) is not None


def test_a_minute_of_tokens_refills_evenly_and_says_when(counting: Counting) -> None:
    quotas = counting.quotas(tokens_per_minute=600)
    held = quotas.hold("a", "standard", prompt=100, answer=400)
    assert held is not None
    assert held.headers["x-ratelimit-remaining-tokens"] == "100"
    with pytest.raises(Problem) as refused:
        quotas.hold("a", "standard", prompt=100, answer=100)
    assert refused.value.retry_after_seconds == pytest.approx(10)
    assert "tokens a minute" in refused.value.message
    assert refused.value.headers == quotas.left("a", "standard") == held.headers
    quotas.settle(held, 300)
    assert quotas.hold("a", "standard", prompt=100, answer=200) is not None
    counting.wait(60)
    assert quotas.hold("a", "standard", prompt=5000, answer=0) is not None, "a whole minute's worth, at most"


def test_a_minute_refills_after_the_machine_started_anew(tmp_path: Path) -> None:
    file, clock = tmp_path / "limits.db", FixedClock(NOW, ticks=500_000.0)
    limits = LimitsSection.model_validate({"tokens_per_minute": 1000})
    before = FileQuotas(file, limits, clock)
    assert before.hold("key", "standard", prompt=1000, answer=0) is not None
    before.close()

    clock.ticks = 10.0
    after = FileQuotas(file, limits, clock)
    with pytest.raises(Problem) as refused:
        after.hold("key", "standard", prompt=500, answer=0)
    assert refused.value.retry_after_seconds == pytest.approx(20)
    clock.advance(20)
    assert after.hold("key", "standard", prompt=500, answer=0) is not None
    with pytest.raises(Problem):
        after.hold("key", "standard", prompt=500, answer=0)
    after.close()


def test_what_is_left_of_a_minute_is_told_without_spending_any(counting: Counting) -> None:
    quotas = counting.quotas(tokens_per_minute=600)

    assert quotas.left("a", "premium")["x-ratelimit-remaining-tokens"] == "2400", "nothing was asked yet"
    quotas.hold("a", "standard", prompt=100, answer=400)
    for _ in range(2):
        assert quotas.left("a", "standard") == {
            "x-ratelimit-limit-tokens": "600",
            "x-ratelimit-remaining-tokens": "100",
            "x-ratelimit-reset-tokens": "50s",
        }
    counting.wait(10)
    assert quotas.left("a", "standard")["x-ratelimit-remaining-tokens"] == "200"
    assert counting.quotas(tokens_per_day=600).left("a", "standard") == {}


def test_a_request_larger_than_a_minutes_worth_pays_for_what_it_cost(counting: Counting) -> None:
    quotas = counting.quotas(tokens_per_minute=600)
    for cost, left in ((400, 200), (5000, 0)):
        held = quotas.hold("a", "standard", prompt=100, answer=9900)
        assert held is not None
        quotas.settle(held, cost)
        with pytest.raises(Problem):
            quotas.hold("a", "standard", prompt=left + 1, answer=0)
        assert quotas.hold("a", "standard", prompt=left, answer=0) is not None
        counting.wait(60)


def test_tiers_have_their_part(counting: Counting) -> None:
    quotas = counting.quotas(tokens_per_day=100)
    assert quotas.hold("p", "premium", prompt=400, answer=0)
    with pytest.raises(Problem):
        quotas.hold("b", "basic", prompt=26, answer=0)


def test_callers_who_come_once_are_forgotten_when_their_bucket_is_full_again(tmp_path: Path) -> None:
    clock = _clock()
    quotas = _quotas(tmp_path, clock)
    for number in range(200):
        quotas.take(f"address {number}", per_minute=2)
    clock.advance(59)
    quotas.take("address 7", per_minute=2)
    clock.advance(1)
    assert quotas.take("address 7", per_minute=2).remaining == 0, "what it spent a second ago still counts"
    quotas.close()
    with closing(sqlite3.connect(tmp_path / "gateway/limits.db")) as file:
        assert file.execute("SELECT name FROM bucket").fetchall() == [("requests address 7",)]


def test_without_limits_nothing_is_written(tmp_path: Path) -> None:
    assert _quotas(tmp_path, _clock()).hold("a", "standard", prompt=1, answer=1) is None
    assert not (tmp_path / "gateway").exists()


def test_counters_that_cannot_be_read_refuse(tmp_path: Path) -> None:
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway/limits.db").write_bytes(b"no database, but long enough to be looked at" * 40)
    with pytest.raises(StoreDamagedError):
        _quotas(tmp_path, _clock(), tokens_per_day=10).hold("a", "standard", prompt=1, answer=1)


def test_counters_that_cannot_be_written_any_more_keep_what_was_held(tmp_path: Path) -> None:
    quotas = _quotas(tmp_path, _clock(), tokens_per_day=100)
    held = quotas.hold("a", "standard", prompt=10, answer=50)
    assert held is not None
    quotas.close()
    (tmp_path / "gateway/limits.db").write_bytes(b"no database, but long enough to be looked at" * 40)

    with pytest.raises(StoreDamagedError):
        quotas.settle(held, 20)


@settings(suppress_health_check=(*settings().suppress_health_check, HealthCheck.function_scoped_fixture))
@given(asked=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 120)), max_size=12))
def test_no_order_of_holding_and_settling_begins_above_the_limit_or_loses_tokens(
    counting: Counting, asked: list[tuple[int, int, int]]
) -> None:
    quotas, key = counting.made[0] if counting.made else counting.quotas(tokens_per_day=200), next(_NAMES)
    spent = 0
    codes: list[tuple[str, str]] = []
    open_ones: list[tuple[Held, int]] = []
    for prompt, answer, cost in asked:
        try:
            held = quotas.hold(key, "standard", prompt=prompt, answer=answer)
        except Problem as refused:
            fits_without = spent + prompt + answer <= 200
            codes.append((refused.code, "rate_limit_exceeded" if fits_without else "insufficient_quota"))
            assert spent + sum(one.tokens for one, _ in open_ones) + prompt + answer > 200
            if open_ones:
                one, cost_of_one = open_ones.pop(0)
                quotas.settle(one, cost_of_one)
                spent += cost_of_one
            continue
        assert held is not None
        open_ones.append((held, cost))
    for one, cost in open_ones:
        quotas.settle(one, cost)
        spent += cost
    assert all(said == due for said, due in codes), codes
    if spent < 200:
        assert quotas.hold(key, "standard", prompt=200 - spent, answer=0) is not None
    with pytest.raises(Problem):
        quotas.hold(key, "standard", prompt=1, answer=0)
