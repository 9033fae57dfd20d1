"""The clock that is passed in, and the one form of time on a medium."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from media.clock import FixedClock, SystemClock, from_text, to_text


def test_the_machine_s_clock_is_aware_and_its_ticks_never_go_back() -> None:
    clock = SystemClock()

    assert clock.now().tzinfo is UTC
    assert clock.monotonic() <= clock.monotonic()


def test_a_fixed_clock_stands_until_it_is_moved() -> None:
    clock = FixedClock(at=datetime(2026, 11, 20, 8, tzinfo=UTC))

    before = (clock.now(), clock.monotonic())
    clock.advance(90)

    assert before == (datetime(2026, 11, 20, 8, tzinfo=UTC), 0.0)
    assert (clock.now(), clock.monotonic()) == (datetime(2026, 11, 20, 8, 1, 30, tzinfo=UTC), 90.0)


def test_times_are_written_in_utc_with_whole_seconds() -> None:
    moment = datetime(2026, 11, 20, 9, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=1)))

    assert to_text(moment) == "2026-11-20T08:00:00Z"
    assert from_text("2026-11-20T08:00:00Z") == datetime(2026, 11, 20, 8, tzinfo=UTC)


def test_another_form_of_time_is_refused() -> None:
    with pytest.raises(ValueError, match="does not match"):
        from_text("2026-11-20T08:00:00+00:00")
