"""The ledger's own count of requests, which monitoring holds against the gateway's."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from appliance.audit.memory import MemoryLedger
from appliance.observe.completeness import KINDS, LOGINS, Completeness
from media.clock import FixedClock

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


class Site:
    def __init__(self) -> None:
        self.clock = FixedClock(NOW)
        self.ledger = MemoryLedger(self.clock)
        self.ledger.append("request.intent", {"request_id": "before"})
        self.counted = Completeness(self.ledger, self.clock)
        self.counts()

    def counts(self) -> dict[str, float]:
        samples = [sample for family in self.counted.collect() for sample in family.samples]
        return {
            sample.labels.get("kind", "open"): sample.value for sample in samples if not sample.name.startswith(LOGINS)
        }

    def logins_refused(self) -> float:
        samples = [sample for family in self.counted.collect() for sample in family.samples]
        (found,) = (sample.value for sample in samples if sample.name.startswith(LOGINS))
        return found


def test_records_are_counted_from_the_start_of_the_process_and_refusals_by_how_many_they_stand_for() -> None:
    site = Site()
    assert site.counts() == {**dict.fromkeys(KINDS, 0), "open": 0}

    for kind, body in (
        ("request.intent", {"request_id": "a"}),
        ("request.outcome", {"request_id": "a", "outcome": "ok"}),
        ("request.refused", {"request_id": "b", "repeated": 7}),
    ):
        site.ledger.append(kind, body)

    assert site.counts() == {"request.intent": 1, "request.outcome": 1, "request.refused": 7, "open": 0}
    assert site.counts()["request.outcome"] == 1  # counted once


def test_what_came_by_another_node_is_its_own_to_count_and_has_to_end_all_the_same() -> None:
    site = Site()
    site.ledger.log.node = "b"
    site.ledger.append("request.intent", {"request_id": "a"})

    assert site.counts() == {**dict.fromkeys(KINDS, 0), "open": 0}
    site.clock.advance(15 * 60 + 1)
    assert site.counts()["open"] == 1


def test_what_developers_try_makes_up_for_nothing_that_production_did_not_record() -> None:
    site = Site()
    site.ledger.append("request.intent", {"request_id": "a", "stage": "test"})
    site.ledger.append("request.outcome", {"request_id": "a", "outcome": "ok", "stage": "test"})
    site.ledger.append("request.intent", {"request_id": "b", "stage": "test"})

    assert site.counts() == {**dict.fromkeys(KINDS, 0), "open": 0}
    site.clock.advance(15 * 60 + 1)
    assert site.counts()["open"] == 1


def test_an_intent_that_has_no_end_is_seen_when_no_answer_could_take_so_long_and_no_more_when_it_ends() -> None:
    site = Site()
    site.ledger.append("request.intent", {"request_id": "a"})
    site.counts()
    site.clock.advance(15 * 60)
    assert site.counts()["open"] == 0

    site.clock.advance(1)
    assert site.counts()["open"] == 1
    site.ledger.append("request.outcome", {"request_id": "a", "outcome": "unknown"})

    assert site.counts()["open"] == 0


def test_a_scrape_reads_no_more_than_it_may_and_the_next_one_goes_on() -> None:
    site = Site()
    many = Completeness(site.ledger, site.clock, pages=1)
    list(many.collect())
    for number in range(1200):
        site.ledger.append("request.outcome", {"request_id": f"r{number}", "outcome": "ok"})

    first = {sample.labels["kind"]: sample.value for family in list(many.collect())[:1] for sample in family.samples}
    second = {sample.labels["kind"]: sample.value for family in list(many.collect())[:1] for sample in family.samples}

    assert (first["request.outcome"], second["request.outcome"]) == (1000, 1200)


def test_refused_logins_are_counted_and_good_ones_and_those_of_other_nodes_are_not() -> None:
    site = Site()
    for kind in ("admin.login-refused", "admin.login", "admin.login-refused"):
        site.ledger.append(kind, {"code": "denied"})
    site.ledger.log.node = "b"
    site.ledger.append("admin.login-refused", {"code": "denied"})

    assert site.logins_refused() == 2
    assert site.logins_refused() == 2  # counted once
    assert site.counts() == {**dict.fromkeys(KINDS, 0), "open": 0}


def test_what_two_scrapes_read_at_one_moment_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario: the site's own Prometheus reads this box as well, and a lost record would pass unseen."""
    site, both_are_here, asked = Site(), threading.Barrier(2), MemoryLedger.leaves
    site.ledger.append("request.intent", {"request_id": "a"})
    site.ledger.append("request.outcome", {"request_id": "a", "outcome": "ok"})

    def leaves(*words: Any, **more: Any) -> Any:
        with suppress(threading.BrokenBarrierError):  # one alone
            both_are_here.wait(timeout=0.5)
        return asked(site.ledger, *words, **more)

    monkeypatch.setattr(site.ledger, "leaves", leaves)
    with ThreadPoolExecutor(2) as scrapers:
        told = [scraper.result() for scraper in [scrapers.submit(site.counts) for _ in range(2)]]

    assert max(one["request.outcome"] for one in told) == 1
    assert site.counts()["request.outcome"] == 1
