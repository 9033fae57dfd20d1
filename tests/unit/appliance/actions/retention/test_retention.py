"""Holds, erasure, expiry, and looking at what was kept."""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.actions.boxkeys import ROTATED, Changed
from appliance.actions.retention import audityears, overdue
from appliance.actions.retention.deeds import kept_until
from appliance.actions.retention.keyslots import SLOT_BYTES, KeySlots
from appliance.actions.retention.reviewstore import ReviewStore
from appliance.audit.leaf import Via
from appliance.errors import CiphertextError, KeyMissingError, LedgerUnavailableError, LegalHoldError, StoreWriteError
from media.clock import to_text
from media.errors import MalformedError, UsageError
from tests.support.retention import BEGIN, DAY, WHO, Kept, kept


@pytest.fixture
def site(tmp_path: Path) -> Kept:
    return kept(tmp_path)


def test_a_sample_opens_until_its_time_is_over_and_every_look_is_recorded_first(site: Kept) -> None:
    site.store.add("req_1", subject="pat", content=b"prompt and answer", days=30)

    assert site.retention.read("req_1", **WHO) == b"prompt and answer"
    site.ledger.available = False
    with pytest.raises(LedgerUnavailableError):
        site.retention.read("req_1", **WHO)
    site.ledger.available = True
    site.clock.advance(30 * DAY)
    assert site.retention.expire() == 1
    with pytest.raises(UsageError):
        site.retention.read("req_1", **WHO)
    assert site.kinds() == ["review.read", "retention.expiring", "retention.expired"]


def test_nothing_of_a_prompt_or_a_person_is_in_the_files_or_the_ledger(site: Kept) -> None:
    site.store.add("req_1", subject="patient 4711", content=b"chest pain since monday", days=30)
    site.retention.erase("patient 4711", subject_hash="f" * 64, **WHO)

    content = b"".join(path.read_bytes() for path in (site.folder / "review").iterdir())
    told = b"".join(leaf.raw for leaf in site.ledger.leaves(0, 1000))
    assert not any(word in content + told for word in (b"chest", b"4711", b"monday"))


def test_erasing_a_person_takes_their_samples_of_every_year_and_nobody_elses(site: Kept) -> None:
    for number, subject in enumerate(("pat", "sam", "pat")):
        site.store.add(f"req_{number}", subject=subject, content=b"text", days=4000)
        site.clock.advance(200 * DAY)
    taken = site.store.of_subject("pat")

    assert [sample.request_id for sample in taken] == ["req_0", "req_2"]
    assert {sample.year for sample in taken} == {2026, 2027}
    assert site.retention.erase("pat", subject_hash="f" * 64, **WHO) == 2
    assert [sample.request_id for sample in site.store.samples()] == ["req_1"]
    for sample in taken:
        with pytest.raises(KeyMissingError):
            site.store.content(sample)


def test_samples_made_while_the_clock_ran_years_ahead_are_erased_and_held_like_any_other(site: Kept) -> None:
    site.clock.advance(14 * 365 * DAY)
    taken = site.store.add("req_1", subject="pat", content=b"text", days=30)
    held = site.store.add("req_2", subject="sam", content=b"text", days=30)
    site.clock.advance(-14 * 365 * DAY)

    assert site.store.tidy() == 0  # as the service does when it starts
    assert site.store.content(held) == b"text"
    assert site.retention.erase("pat", subject_hash="f" * 64, **WHO) == 1
    with pytest.raises(KeyMissingError):
        site.store.content(taken)


def test_a_row_that_survives_its_key_stays_shut(site: Kept) -> None:
    sample = site.store.add("req_1", subject="pat", content=b"text", days=30)
    copy = (site.folder / "review/review.db").read_bytes()
    site.retention.erase("pat", subject_hash="f" * 64, **WHO)
    (site.folder / "review/review.db").write_bytes(copy)

    assert site.store.samples() == (sample,)
    with pytest.raises(KeyMissingError):
        site.store.content(sample)


@pytest.mark.parametrize("about", ["all", "req_1"])
def test_a_hold_wins_over_expiry_and_erasure_until_it_is_released(site: Kept, about: str) -> None:
    site.store.add("req_1", subject="pat", content=b"text", days=1)
    hold = site.retention.hold(about, **WHO)
    site.clock.advance(DAY)

    assert site.retention.expire() == 0
    with pytest.raises(LegalHoldError):
        site.retention.erase("pat", subject_hash="f" * 64, **WHO)
    assert site.retention.read("req_1", **WHO) == b"text"
    site.retention.release(hold.number, **WHO)
    with pytest.raises(UsageError):
        site.retention.release(hold.number, **WHO)
    assert (site.retention.holds(), site.retention.expire()) == ((), 1)


def test_a_hold_over_one_request_keeps_no_other(site: Kept) -> None:
    for number in range(2):
        site.store.add(f"req_{number}", subject=f"s{number}", content=b"text", days=1)
    site.retention.hold("req_0", **WHO)
    site.clock.advance(DAY)

    assert site.retention.expire() == 1
    assert [sample.request_id for sample in site.store.samples()] == ["req_0"]


def test_a_hold_holds_however_many_came_after_it(site: Kept) -> None:
    site.store.add("req_0", subject="pat", content=b"text", days=1)
    first = site.retention.hold("req_0", **WHO)
    for number in range(1001):
        site.ledger.append("retention.held", {"about": f"req_{number + 1}", **WHO})
    site.clock.advance(2 * DAY)

    assert site.retention.expire() == 0
    assert first.number in {hold.number for hold in site.retention.holds()}


def test_a_sample_whose_subjects_key_goes_meanwhile_is_refused_and_leaves_nothing(site: Kept) -> None:
    site.store.add("req_0", subject="pat", content=b"text", days=1)
    (first,) = site.store.samples()

    class Meanwhile(ReviewStore):
        @contextmanager
        def _opened(self) -> Iterator[sqlite3.Connection]:
            site.store.remove(first)  # another process, after this one made its keys and before it has a row
            with super()._opened() as database:
                yield database

    with pytest.raises(StoreWriteError):
        Meanwhile(site.folder / "review", keys=site.keys, clock=site.clock).add(
            "req_1", subject="pat", content=b"text", days=30
        )

    assert site.store.samples() == ()
    assert site.store.tidy() == 0
    site.store.add("req_2", subject="pat", content=b"text", days=30)
    assert site.store.content(site.store.samples()[0]) == b"text"


def test_a_hold_needs_a_name_and_a_reason(site: Kept) -> None:
    for words in ({"person": "", "reason": "x"}, {"person": "ada", "reason": " "}):
        with pytest.raises(MalformedError):
            site.retention.hold("all", **words)


def test_a_years_key_goes_after_the_sites_years_never_below_the_floor_and_not_under_a_hold(site: Kept) -> None:
    site.store.add("req_1", subject="pat", content=b"text", days=9000)
    with pytest.raises(UsageError, match="floor"):
        site.retention.end_year(2026, years=5)
    with pytest.raises(UsageError, match="kept until"):
        site.retention.end_year(2026, years=7)
    site.clock.advance((kept_until(2026, 7) - BEGIN).total_seconds())
    hold = site.retention.hold("all", **WHO)
    with pytest.raises(LegalHoldError):
        site.retention.end_year(2026, years=7)
    site.retention.release(hold.number, **WHO)

    assert site.retention.end_year(2026, years=7) == 1
    assert (site.store.years(), site.store.samples()) == ((), ())


def test_what_is_not_recorded_does_not_happen(site: Kept) -> None:
    site.store.add("req_1", subject="pat", content=b"text", days=1)
    site.clock.advance(DAY)
    site.ledger.available = False

    with pytest.raises(LedgerUnavailableError):
        site.retention.expire()
    with pytest.raises(LedgerUnavailableError):
        site.retention.erase("pat", subject_hash="f" * 64, **WHO)

    assert len(site.store.samples()) == 1


def test_a_changed_file_does_not_open(site: Kept) -> None:
    sample = site.store.add("req_1", subject="pat", content=b"text", days=30)
    path = site.folder / "review/review.keys"
    content = bytearray(path.read_bytes())
    content[2 * SLOT_BYTES + 60] ^= 1
    path.write_bytes(content)

    with pytest.raises(CiphertextError):
        site.store.content(sample)


def test_a_slot_is_used_again_and_what_was_in_it_is_gone(tmp_path: Path) -> None:
    slots = KeySlots(tmp_path / "slots")
    slots.put(b"a" * 32, b"first key")
    slots.put(b"b" * 32, b"second key")

    assert slots.destroy(b"a" * 32)
    assert not slots.destroy(b"a" * 32)
    assert b"first key" not in (tmp_path / "slots").read_bytes()
    slots.put(b"c" * 32, b"third key")
    assert (tmp_path / "slots").stat().st_size == 2 * SLOT_BYTES
    assert (slots.get(b"b" * 32), slots.get(b"c" * 32)) == (b"second key", b"third key")
    with pytest.raises(KeyMissingError):
        slots.put(b"c" * 32, b"again")


@pytest.mark.parametrize("shown", [datetime(1970, 1, 1, tzinfo=UTC), BEGIN + 50 * 366 * timedelta(days=1)])
def test_a_key_that_was_renewed_by_a_wrong_clock_is_kept_its_years_and_no_longer(site: Kept, shown: datetime) -> None:
    body = {"name": "identity-hmac", "version": site.keys.create("identity-hmac"), "reason": "an operator left"}
    right = site.clock.at
    site.clock.at = shown
    site.ledger.append(ROTATED, body | {"believed": to_text(right)})

    site.clock.at = right + timedelta(days=7 * 365)
    assert audityears.due(site.ledger, site.keys, years=7, clock=site.clock) == ()
    site.clock.advance(3 * DAY)
    due = audityears.due(site.ledger, site.keys, years=7, clock=site.clock)
    assert [(each.name, each.version) for each in due] == [("identity-hmac", 1)]


def test_a_run_that_a_clock_recorded_while_it_ran_ahead_hides_no_overdue_one(site: Kept) -> None:
    site.ledger.append(overdue.RAN, {})
    site.clock.at += timedelta(days=50 * 365)
    site.ledger.append(overdue.RAN, {})

    site.clock.at += timedelta(days=3 - 50 * 365)
    assert overdue.age_seconds(site.ledger, site.clock) == 3 * DAY
    assert [one.is_good for one in overdue.findings(site.ledger, site.clock)] == [False]


def test_what_nobody_knows_the_age_of_counts_as_overdue(site: Kept) -> None:
    """Scenario: the ledger began, and the one run was recorded, while the clock ran ahead."""
    site.clock.at += timedelta(days=50 * 365)
    site.ledger.append(overdue.RAN, {})
    site.clock.at -= timedelta(days=100 * 365)

    (found,) = overdue.findings(site.ledger, site.clock)
    assert (found.is_good, "at an unknown time" in found.text) == (False, True)
    assert round(overdue.age_seconds(site.ledger, site.clock)) > overdue.LIMIT_SECONDS


@contextmanager
def power_cut(where: object, deed: str, *, after: bool) -> Iterator[None]:
    """The power goes at a deed, or right behind it."""
    real = getattr(where, deed)

    def cut(*args: Any, **more: Any) -> None:
        if after:
            real(*args, **more)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as power:
        power.setattr(where, deed, cut)
        with pytest.raises(KeyboardInterrupt):
            yield


@contextmanager
def recorded_by(site: Kept, node: str) -> Iterator[None]:
    """Records of the same ledger by another node."""
    with pytest.MonkeyPatch.context() as other:
        other.setattr(site.ledger, "_via", Via(door="ledger-actions", uid=0, node=node))
        yield


@pytest.mark.parametrize(("holds", "told"), [((), {"samples": 1}), (("req_9",), {})])
def test_samples_that_were_gone_when_the_power_went_are_recorded_as_gone_by_the_next_run(
    site: Kept, holds: tuple[str, ...], told: dict[str, int]
) -> None:
    site.store.add("req_1", subject="pat", content=b"x", days=30)
    site.clock.advance(31 * DAY)
    with power_cut(site.retention, "destroy", after=True):
        site.retention.expire()
    with recorded_by(site, "b"):  # its own run is between its two records
        site.ledger.append("retention.expiring", {"class": "review", "until": to_text(site.clock.now()), "samples": 9})
    for about in holds:  # then what is due tells nothing of what is gone
        site.retention.hold(about, **WHO)
    site.clock.advance(DAY)

    assert [site.retention.expire(), site.retention.expire()] == [0, 0]
    (leaf,) = site.ledger.find("retention.expired", limit=5)
    assert leaf.body == {"class": "review", "until": to_text(BEGIN + timedelta(days=31)), "cut_off": True, **told}


def test_an_erasure_that_was_cut_off_is_told_until_it_is_done(site: Kept) -> None:
    def told() -> list[tuple[str, bool | None]]:
        return [(one.name, one.is_good) for one in overdue.findings(site.ledger, site.clock)]

    site.ledger.append(overdue.RAN, {})
    with power_cut(site.store, "erase", after=False):
        site.retention.erase("pat", subject_hash="f" * 64, **WHO)
    site.retention.erase("kim", subject_hash="e" * 64, **WHO)
    with recorded_by(site, "b"):  # samples of its own went there
        site.ledger.append("erasure.begun", {"subject_hash": "d" * 64, **WHO})
        site.ledger.append("erasure.done", {"subject_hash": "f" * 64, "finishes": [99], "samples": 0, **WHO})

    assert told() == [("retention", True), ("erasure", False)]
    site.retention.erase("pat", subject_hash="c" * 64, former=["f" * 64, "c" * 64], **WHO)  # a year's key came between
    assert told() == [("retention", True)]


def test_an_erasure_that_a_release_before_ended_is_ended(site: Kept) -> None:
    body = {"subject_hash": "f" * 64, **WHO}
    for kind in (overdue.RAN, "erasure.begun", "erasure.done"):
        site.ledger.append(kind, body)

    assert all(one.is_good for one in overdue.findings(site.ledger, site.clock))
    site.ledger.append("erasure.begun", body)
    assert [one.is_good for one in overdue.findings(site.ledger, site.clock)] == [True, False]
    site.clock.advance(6 * 366 * DAY)  # nobody can tell any more whom it was about
    assert [one.name for one in overdue.findings(site.ledger, site.clock)] == ["retention"]


def test_a_key_that_was_gone_when_the_power_went_is_recorded_as_gone_by_the_next_run(site: Kept) -> None:
    ring: Any = Ring(site)
    ring.rotate("identity-hmac", reason="a year is over")
    site.clock.advance(8 * 366 * DAY)

    def run() -> None:
        audityears.run(site.ledger, site.keys, ring, site.retention, years=7, clock=site.clock)

    with power_cut(ring, "destroy", after=True):
        run()
    with recorded_by(site, "b"):
        site.ledger.append("retention.expiring", {"class": "audit", "key": "content-hmac.v9", "years": 7})
    assert site.ledger.find("retention.expired", limit=1) == []
    run()
    run()

    gone = [(leaf.body["key"], leaf.body.get("cut_off")) for leaf in site.ledger.find("retention.expired", limit=10)]
    assert gone.count(("identity-hmac.v1", True)) == 1
    assert [key for key, _ in gone].count("identity-hmac.v1") == 1
    assert "content-hmac.v9" not in dict(gone)


def test_a_key_that_another_node_renewed_or_renews_is_not_renewed_here_apart_from_it(site: Kept) -> None:
    ring, said = Ring(site), list[str]()
    site.clock.advance(366 * DAY)
    with recorded_by(site, "a"):
        site.ledger.append(ROTATED, {"name": "identity-hmac", "version": 2, "reason": "a year is over"})
    rotated = ring.rotate

    def refused(name: str, *, reason: str) -> None:
        raise LedgerUnavailableError(what="another node leads")

    def run(node: str) -> None:
        kind: Any = ring
        audityears.run(
            site.ledger, site.keys, kind, site.retention, years=7, clock=site.clock, say=said.append, node=node
        )

    ring.rotate = refused  # type: ignore[method-assign]
    run("b")
    assert (site.keys.versions("identity-hmac"), site.keys.versions("content-hmac")) == ((1,), (1,))
    assert [("on node a: copy it" in text, "another node leads" in text) for text in said] == [
        (True, False),
        (False, True),
    ]
    with pytest.raises(LedgerUnavailableError):
        run("")  # where a single one answers, it is down

    ring.rotate = rotated  # type: ignore[method-assign]
    site.keys.create("identity-hmac")  # copied from there
    said.clear()
    run("b")
    assert (site.keys.versions("identity-hmac"), site.keys.versions("content-hmac")) == ((1, 2), (1, 2))
    assert said == []


class Ring:
    """What the audit class asks of the keyring, over the keys themselves."""

    def __init__(self, site: Kept) -> None:
        self.site = site
        self.mended: list[str] = []

    def mend(self, name: str) -> None:
        self.mended.append(name)

    def rotate(self, name: str, *, reason: str) -> None:
        self.site.ledger.append(ROTATED, {"name": name, "version": self.site.keys.create(name), "reason": reason})

    def destroy(self, name: str, *, reason: str, only: Collection[int]) -> Changed:
        for version in only:
            self.site.keys.remove(name, version)
        return Changed(name=name, versions=self.site.keys.versions(name), gone=tuple(only), restarted=(), unnoted="off")


def test_keys_of_keyed_hashes_have_a_version_for_each_year_and_go_after_the_sites_years(site: Kept) -> None:
    ring: Any = Ring(site)
    gone, said = [], list[str]()
    for _ in range(9):  # years of 366 days
        done = audityears.run(
            site.ledger,
            site.keys,
            ring,
            site.retention,
            years=7,
            clock=site.clock,
            say=said.append,
        )
        gone += [(each.name, each.version) for each in done]
        site.clock.advance(timedelta(days=366).total_seconds())

    assert gone == [("identity-hmac", 1), ("content-hmac", 1)]
    assert said == ["identity-hmac.v1: off", "content-hmac.v1: off"]
    assert ring.mended == ["identity-hmac", "content-hmac"] * 9
    assert site.keys.versions("identity-hmac")[0] == 2
    site.retention.hold("all", **WHO)
    with pytest.raises(LegalHoldError):
        audityears.run(
            site.ledger,
            site.keys,
            ring,
            site.retention,
            years=7,
            clock=site.clock,
        )
    with pytest.raises(UsageError):
        audityears.due(site.ledger, site.keys, years=5, clock=site.clock)


def test_keys_that_a_restore_made_anew_are_kept_their_years_and_renewed_each_year(site: Kept) -> None:
    """Scenario: a token burnt with its box; the new one's keys are numbered from 1, and the ledger knows eight."""
    ring: Any = Ring(site)
    for _ in range(8):
        site.clock.advance(366 * DAY)
        site.ledger.append(ROTATED, {"name": "identity-hmac", "version": len(site.kinds()) + 2, "reason": "a year"})
    assert site.keys.versions("identity-hmac") == (1,)

    gone = []
    for _ in range(3):
        site.clock.advance(DAY)
        done = audityears.run(site.ledger, site.keys, ring, site.retention, years=7, clock=site.clock)
        gone += [each.version for each in done if each.name == "identity-hmac"]
        site.clock.advance(366 * DAY)

    assert gone == []
    assert site.keys.versions("identity-hmac") == (1, 2, 3, 4)
    site.clock.advance((5 * 366 - 30) * DAY)
    due = audityears.due(site.ledger, site.keys, years=7, clock=site.clock)
    assert [each.version for each in due if each.name == "identity-hmac"] == [1]


@pytest.mark.parametrize("years", [7974, 9999, 10**30])
def test_keys_that_are_kept_for_ever_are_never_due(site: Kept, years: int) -> None:
    Ring(site).rotate("identity-hmac", reason="a year is over")
    site.clock.advance(70 * 366 * DAY)

    assert audityears.due(site.ledger, site.keys, years=years, clock=site.clock) == ()
