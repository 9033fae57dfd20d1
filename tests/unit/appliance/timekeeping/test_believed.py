"""What decisions rest on while the clock is wrong: approvals, certificates, one-time codes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.errors import ApprovalRefusedError, ClockUncertainError
from appliance.timekeeping.believed import BelievedClock, require_certain
from appliance.timekeeping.onetime import code_at, require_code, step_of
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


def test_a_code_counts_once_and_one_step_to_either_side(box: Machine) -> None:
    box.run(5)
    here = step_of(box.clock.now())

    def take(step: int, last: int = 0) -> int:
        code = code_at(SECRET, step)
        return require_code(box.config.at, SECRET, code, last_step=last, clock=box.clock)

    assert [take(here + off) for off in (-1, 0, 1)] == [here - 1, here, here + 1]
    for step, last in ((here, here), (here - 1, here), (here + 2, 0), (here - 2, 0)):
        with pytest.raises(ApprovalRefusedError):
            take(step, last)


def test_codes_are_not_judged_by_a_clock_that_is_wrong_and_the_error_names_the_way_back(box: Machine) -> None:
    box.run(600)
    old = code_at(SECRET, step_of(box.clock.now()))
    box.boot(at=EPOCH)

    with pytest.raises(ClockUncertainError, match="behind") as caught:
        require_code(box.config.at, SECRET, old, last_step=0, clock=box.clock)
    assert "sealift clock set" in caught.value.fix

    box.boot(at=TODAY + timedelta(hours=1))
    box.clock.at += timedelta(days=1)
    with pytest.raises(ClockUncertainError):
        require_code(box.config.at, SECRET, old, last_step=0, clock=box.clock)
