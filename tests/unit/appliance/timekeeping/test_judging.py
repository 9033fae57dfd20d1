"""What is thought of a clock that was never set, that runs fifty years ahead, drifts, or jumps while running."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ApplianceError
from appliance.timekeeping import judging
from appliance.timekeeping.judging import MOST_AWAY, SMALL_SECONDS, Reading
from appliance.timekeeping.record import MOST_UNTOLD, ClockRecord, Verdict
from appliance.verify.freshness import BUILT
from media.errors import MediaError

NOW = datetime(2027, 3, 4, 8, 0, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SESSION = "ab" * 16


def start(at: datetime, last: ClockRecord | None = None, *, ticks: int = 20) -> ClockRecord:
    return judging.at_start(last, Reading(wall=at, ticks=ticks), floor=BUILT, session=SESSION)


def good(at: datetime = NOW) -> ClockRecord:
    return judging.confirmed(start(at), Reading(wall=at, ticks=20), by="Iris")


def later(last: ClockRecord, seconds: int, *, off: int = 0, synchronised: bool = False) -> ClockRecord:
    reading = Reading(
        wall=last.wall + timedelta(seconds=seconds + off), ticks=last.ticks + seconds, is_synchronised=synchronised
    )
    return judging.after(last, reading)


def kinds(found: ClockRecord) -> list[str]:
    return [str(one["kind"]) for one in found.untold]


def test_a_new_machine_is_unconfirmed_and_its_clock_raises_no_floor() -> None:
    found = later(start(NOW), 3600)

    assert (found.verdict, found.floor) == (Verdict.UNCONFIRMED, BUILT)


@pytest.mark.parametrize("at", [EPOCH, BUILT - timedelta(seconds=1)])
def test_a_new_machine_with_a_dead_battery_is_behind(at: datetime) -> None:
    found = start(at)

    assert (found.verdict, kinds(found)) == (Verdict.BEHIND, ["clock.behind"])
    assert found.believed(20) == BUILT + timedelta(seconds=20)


def test_a_new_machine_fifty_years_ahead_is_not_believed() -> None:
    found = start(NOW + 50 * 365 * DAY)

    assert found.verdict is Verdict.JUMPED
    assert found.believed(80) == BUILT + timedelta(seconds=80)


def test_a_clock_that_somebody_answered_for_raises_the_floor_and_a_dead_battery_cannot_undercut_it() -> None:
    ran = later(good(), 7200)
    assert ran.floor == NOW + timedelta(hours=2)

    found = start(EPOCH, ran)
    assert found.verdict is Verdict.BEHIND
    assert found.floor == ran.floor
    assert later(found, 60).believed(found.ticks + 60) >= ran.floor


def test_a_restart_after_a_weekend_changes_nothing_and_after_half_a_year_asks_people() -> None:
    assert start(NOW + 3 * DAY, good()).verdict is Verdict.GOOD
    assert start(NOW + MOST_AWAY + DAY, good()).verdict is Verdict.JUMPED
    assert start(NOW - timedelta(minutes=3), good()).verdict is Verdict.BEHIND


def test_a_hardware_clock_that_is_somewhat_slow_is_a_small_step_and_many_such_starts_are_a_dead_battery() -> None:
    ran = later(good(), 3600)

    found = start(ran.wall - timedelta(seconds=50), ran)

    assert (found.verdict, kinds(found)) == (Verdict.GOOD, ["clock.jumped"])
    assert found.untold[-1]["body"]["seconds"] == -50
    assert (found.floor, found.believed(found.ticks + 9)) == (found.wall, found.wall + timedelta(seconds=9))
    again = start(found.wall - timedelta(seconds=50), found)
    assert (again.verdict, again.stepped_seconds) == (Verdict.GOOD, 100)
    assert start(again.wall - timedelta(seconds=50), again).verdict is Verdict.BEHIND
    assert judging.confirmed(again, Reading(wall=again.wall, ticks=again.ticks), by="Iris").stepped_seconds == 0


def test_nothing_that_is_certain_besides_is_undercut_by_a_slow_clock_nor_is_one_that_was_in_doubt() -> None:
    made = later(start(BUILT + timedelta(seconds=30)), 5)
    doubted = later(good(), 3600, off=-(10**6))

    assert start(BUILT - timedelta(seconds=1), made).verdict is Verdict.BEHIND
    assert start(doubted.believed(doubted.ticks) - timedelta(seconds=30), doubted).verdict is Verdict.BEHIND


@pytest.mark.parametrize("drift", [-1, 1, 3, -3])
def test_small_drift_is_no_event(drift: int) -> None:
    found = later(good(), 3600, off=drift)

    assert (found.verdict, found.untold) == (Verdict.GOOD, ())


@pytest.mark.parametrize("off", [50 * 365 * 86400, 86400, SMALL_SECONDS + 5, -(SMALL_SECONDS + 5)])
def test_a_jump_while_running_is_noticed_recorded_and_not_believed(off: int) -> None:
    before = good()
    found = later(before, 5, off=off)

    assert not found.verdict.is_certain
    assert found.jump_seconds == off
    assert found.believed(found.ticks) == NOW + timedelta(seconds=5)
    assert found.floor == before.floor
    assert kinds(found) == ["clock.jumped"]
    assert kinds(later(found, 5)) == ["clock.jumped"]


def test_a_small_step_is_recorded_and_many_of_them_are_a_jump() -> None:
    found = good()
    for _ in range(2):
        found = later(found, 600, off=50)
        assert found.verdict is Verdict.GOOD
    found = later(found, 600, off=50)

    assert (found.verdict, kinds(found)) == (Verdict.JUMPED, ["clock.jumped"] * 3)


def test_small_steps_of_the_sites_time_servers_do_not_add_up() -> None:
    found = good()
    for _ in range(5):
        found = later(found, 600, off=50, synchronised=True)

    assert found.verdict is Verdict.GOOD


def test_trouble_outlives_a_restart_and_ends_when_the_clock_is_back() -> None:
    jumped = later(good(), 5, off=86400)
    back = later(jumped, 5, off=-86400)
    assert (back.verdict, kinds(back)) == (Verdict.GOOD, ["clock.jumped", "clock.jumped", "clock.returned"][::2])

    again = start(jumped.wall + DAY, jumped)
    assert (again.verdict, again.jump_seconds > 86400) == (Verdict.JUMPED, True)
    assert again.believed(again.ticks) < NOW + timedelta(minutes=1)
    assert start(NOW + DAY, jumped).verdict is Verdict.JUMPED, "nobody knows how long it was off"


def test_after_a_dead_battery_the_sites_time_servers_are_enough_within_reason() -> None:
    behind = start(EPOCH, good())
    to_now = int((NOW - EPOCH).total_seconds())

    assert later(behind, 60, off=to_now + 3600, synchronised=True).verdict is Verdict.GOOD
    assert not later(behind, 60, off=to_now + 3600).verdict.is_certain
    assert not later(behind, 60, off=to_now + 86400 * 365, synchronised=True).verdict.is_certain


def test_a_jump_is_not_excused_by_a_time_server() -> None:
    assert later(good(), 60, off=86400, synchronised=True).verdict is Verdict.JUMPED


def test_a_correction_that_people_approved_is_believed_when_it_is_seen_and_may_lower_the_floor() -> None:
    far = 50 * 365 * 86400
    wrong = good(NOW + timedelta(seconds=far))
    expects = judging.after(
        wrong, Reading(wall=wrong.wall + timedelta(seconds=5), ticks=wrong.ticks + 5), corrections=[-far]
    )
    assert (expects.verdict, expects.awaited) == (Verdict.GOOD, -far)

    found = later(expects, 5, off=-far)

    assert (found.verdict, found.awaited, found.jump_seconds) == (Verdict.GOOD, None, 0)
    assert found.floor == NOW + timedelta(seconds=10)


def test_another_correction_than_the_approved_one_is_a_jump() -> None:
    behind = start(EPOCH, good())
    expects = judging.after(behind, Reading(wall=behind.wall, ticks=behind.ticks), corrections=[1_000_000_000])

    assert not later(expects, 5, off=1_000_000_000 + 3600).verdict.is_certain
    assert later(expects, 5, off=1_000_000_000).verdict is Verdict.GOOD


def test_a_correction_of_nothing_answers_for_what_is_shown() -> None:
    jumped = later(good(), 5, off=86400)

    found = judging.after(
        jumped, Reading(wall=jumped.wall + timedelta(seconds=5), ticks=jumped.ticks + 5), corrections=[0]
    )

    assert (found.verdict, found.floor) == (Verdict.GOOD, jumped.wall + timedelta(seconds=5))


@given(st.lists(st.integers(min_value=-(10**9), max_value=10**9), max_size=60))
def test_whatever_the_clock_does_without_people_the_floor_never_falls_nor_is_it_burnt(jumps: list[int]) -> None:
    found, true = good(), NOW
    for jump in jumps:
        true += timedelta(seconds=5)
        wall = found.wall + timedelta(seconds=5 + jump)
        before = found
        found = judging.after(found, Reading(wall=max(wall, EPOCH), ticks=found.ticks + 5))
        assert before.floor <= found.floor <= true + timedelta(seconds=SMALL_SECONDS + 3 * len(jumps) + 3)
        assert len(found.untold) <= MOST_UNTOLD
        assert ClockRecord.from_bytes(found.to_bytes()) == found


@given(st.binary(max_size=200))
def test_a_file_that_is_not_in_its_form_is_refused_by_an_error_of_ours(raw: bytes) -> None:
    with pytest.raises((MediaError, ApplianceError)):
        ClockRecord.from_bytes(raw)


@given(st.integers(min_value=0, max_value=len(good().to_bytes())))
def test_a_record_with_a_stray_byte_is_refused(place: int) -> None:
    raw = good().to_bytes()

    with pytest.raises(MediaError):
        ClockRecord.from_bytes(raw[:place] + b"\0" + raw[place:])


def test_a_record_of_an_unknown_boot_belongs_to_none() -> None:
    raw = replace(good(), session="../" + "a" * 29).to_bytes()

    assert ClockRecord.from_bytes(raw).session == "0" * 32
