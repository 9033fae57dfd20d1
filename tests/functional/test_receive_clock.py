"""Receiving with a clock that nobody set, or that runs fifty years ahead: no time is believed before the floor."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.actions.trust import recover
from appliance.timekeeping import record
from appliance.verify.freshness import BUILT, Decisions, StaleAcceptance
from appliance.verify.trust import RECORD
from media.clock import to_text
from media.errors import StaleError
from tests.support.clocks import answered_for, jumped_from
from tests.support.receiving import NOW, Shelf, make_site

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AHEAD = NOW + timedelta(days=50 * 365)


def test_a_box_whose_clock_was_never_set_receives_what_is_not_stale_by_its_floor(
    tmp_path: Path, genuine: Shelf
) -> None:
    medium = genuine()
    site = make_site(tmp_path / "box", medium.root_json)
    site.clock.at = EPOCH

    assert site.receive(medium).outcome == "received"
    assert site.record.floor > BUILT
    with pytest.raises(StaleError):
        site.receive(genuine(serial=2, stale_after=to_text(BUILT)))
    site.clock.at = EPOCH + timedelta(seconds=1)
    assert site.receive(genuine(serial=2)).outcome == "received"


def test_a_clock_fifty_years_ahead_needs_two_people_and_leaves_the_floor_where_it_was(
    tmp_path: Path, genuine: Shelf
) -> None:
    medium = genuine()
    site = make_site(tmp_path / "box", medium.root_json)
    site.clock.at = AHEAD
    with pytest.raises(StaleError):
        site.receive(medium)

    stale = StaleAcceptance(code=medium.code, reason="the clock is wrong", names=("Ann", "Bo"))
    assert site.receive(medium, decisions=Decisions(stale=stale)).outcome == "received"

    assert site.record.floor < NOW
    site.clock.at = NOW
    assert site.receive(genuine(serial=2)).outcome == "received"


def test_a_clock_that_is_known_to_have_jumped_makes_nothing_stale_and_nothing_fresh(
    tmp_path: Path, genuine: Shelf
) -> None:
    medium = genuine()
    site = make_site(tmp_path / "box", medium.root_json)
    places = site.config.at
    places.clock_now.mkdir(parents=True)
    record.publish(places, jumped_from(NOW, shown=AHEAD))
    site.clock.at = AHEAD

    assert site.receive(medium).outcome == "received"
    site.clock.at = EPOCH
    with pytest.raises(StaleError):
        site.receive(genuine(serial=2, stale_after=to_text(NOW - timedelta(seconds=1))))


def test_a_clock_that_jumps_while_receiving_changes_nothing(tmp_path: Path, genuine: Shelf) -> None:
    medium = genuine()
    site = make_site(tmp_path / "box", medium.root_json)

    class Jumping:
        """Tells the time once, then the end of days."""

        def __init__(self) -> None:
            self.readings = [NOW]

        def now(self) -> datetime:
            return self.readings.pop() if self.readings else AHEAD

        def monotonic(self) -> float:
            return 0.0

    site.clock = Jumping()  # type: ignore[assignment]

    assert site.receive(medium).outcome == "received"
    assert site.record.floor < NOW


def test_a_release_that_says_it_was_made_later_than_now_does_not_burn_the_floor(tmp_path: Path, genuine: Shelf) -> None:
    """Its time is typed into the recipe: a year too high would make the clock of every site wrong until then."""
    medium = genuine()  # made on 20 November
    site = make_site(tmp_path / "box", medium.root_json)
    right = BUILT + timedelta(days=9)
    site.clock.at = right
    site.config.at.clock_now.mkdir(parents=True)
    record.publish(site.config.at, answered_for(right))

    assert site.receive(medium).outcome == "received"
    assert site.record.floor == right

    (site.config.at.trust / RECORD).unlink()
    recover(site.config, [medium.code] * 2, ["Ann", "Bo"], checkpoint="", clock=site.clock)
    assert site.record.floor == right
