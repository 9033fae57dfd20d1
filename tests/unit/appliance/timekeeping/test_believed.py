"""What decisions rest on while the clock is wrong: approvals, certificates, one-time codes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.errors import ClockUncertainError
from appliance.timekeeping import record
from appliance.timekeeping.believed import BelievedClock, require_certain
from appliance.timekeeping.onetime import code_at, matching_step, step_now, step_of
from appliance.timekeeping.record import FILE, Verdict
from appliance.verify.freshness import BUILT
from media.clock import FixedClock
from tests.support.clocks import EPOCH, TODAY, Machine, machine
from tests.support.promotion import site_config

SECRET = b"12345678901234567890"


@pytest.fixture
def box(tmp_path: Path) -> Machine:
    return machine(tmp_path)


def believed(box: Machine) -> datetime:
    return BelievedClock(box.config.at, box.clock).now()


def test_where_nobody_watches_only_the_floor_is_kept(tmp_path: Path) -> None:
    places = site_config(tmp_path).at

    assert BelievedClock(places, FixedClock(EPOCH)).now() == BUILT
    assert BelievedClock(places, FixedClock(TODAY)).now() == TODAY
    with pytest.raises(ClockUncertainError, match="nobody watches"):
        require_certain(places, FixedClock(TODAY), what="a code")


def test_a_good_clock_is_believed(box: Machine) -> None:
    box.run(60)

    assert believed(box) == box.clock.now()


def test_a_dead_battery_neither_turns_time_back_nor_ends_it(box: Machine) -> None:
    box.run(3600)
    floor = box.record.floor

    assert box.boot(at=EPOCH, uptime=30).verdict is Verdict.BEHIND
    box.run(600)

    assert floor + timedelta(seconds=600) <= believed(box) <= floor + timedelta(seconds=700)


@pytest.mark.parametrize("by", [timedelta(days=50 * 365), timedelta(days=-400)])
def test_a_jump_is_not_believed_even_before_the_watch_has_looked(box: Machine, by: timedelta) -> None:
    box.run(60)
    right = box.clock.now()
    box.clock.at += by
    assert believed(box) == right
    box.watch.look()
    box.clock.advance(30)

    assert believed(box) == right + timedelta(seconds=30)


def test_a_record_of_another_boot_that_a_folder_kept_is_not_gone_by(box: Machine) -> None:
    box.run(3600)
    box.clock.ticks, box.clock.at = 3.0, TODAY + timedelta(days=3)

    assert believed(box) == TODAY + timedelta(days=3)
    session = box.record.session
    box.watch.start()
    assert box.record.session != session


def test_a_record_that_cannot_be_read_leaves_the_floor(box: Machine) -> None:
    box.run(3600)
    (box.config.at.clock_now / FILE).write_text("{}")
    box.clock.at = EPOCH

    assert believed(box) >= TODAY


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_codes_are_those_of_rfc_6238_appendix_b(seconds: int, expected: str) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)

    assert code_at(SECRET, step_of(moment), digits=8) == expected


def test_a_code_counts_one_step_to_either_side(box: Machine) -> None:
    box.run(5)
    here = step_now(box.config.at, box.clock)

    found = [matching_step(SECRET, code_at(SECRET, here + off), here) for off in (-2, -1, 0, 1, 2)]

    assert found == [None, here - 1, here, here + 1, None]
    assert matching_step(b"", code_at(b"", here), here) is None


def test_codes_are_not_judged_by_a_clock_that_is_wrong_and_the_error_names_the_way_back(box: Machine) -> None:
    box.run(600)
    box.boot(at=EPOCH)

    with pytest.raises(ClockUncertainError, match="behind") as caught:
        step_now(box.config.at, box.clock)
    assert "sealift clock set" in caught.value.fix

    box.boot(at=TODAY + timedelta(hours=1))
    box.clock.at += timedelta(days=1)
    with pytest.raises(ClockUncertainError):
        step_now(box.config.at, box.clock)


def test_codes_are_not_judged_while_a_watch_that_there_was_tells_nothing(box: Machine, tmp_path: Path) -> None:
    never = site_config(tmp_path / "demo").at
    assert step_now(never, box.clock) == step_of(box.clock.now())

    (box.config.at.clock_now / FILE).unlink()

    with pytest.raises(ClockUncertainError, match="nobody watches"):
        step_now(box.config.at, box.clock)


def test_a_clock_that_is_asked_often_sees_each_record_that_is_written(box: Machine) -> None:
    box.run(60)
    clock, places = BelievedClock(box.config.at, box.clock), box.config.at
    right = clock.now()
    box.clock.at += timedelta(days=400)
    assert clock.now() == right

    box.watch.look()
    (places.clock_now / FILE).unlink()
    assert clock.now() == max(box.clock.now(), BUILT)
    (places.clock_now / FILE).write_bytes(b"{}")
    assert clock.now() == max(box.clock.now(), BUILT)


def test_a_record_is_read_anew_only_where_it_was_replaced(box: Machine) -> None:
    box.run(60)
    published = record.published_of(box.config.at)
    first = published.read()
    assert first is not None
    assert published.read() is first

    box.run(60)
    assert published.read() == box.record != first
