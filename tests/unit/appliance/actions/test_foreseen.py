"""A dry run of going back or stopping refuses what the promoter refuses, and leads where it leads."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from appliance.actions import foreseen
from appliance.actions.rollback import rollback
from appliance.actions.stop import free_caller, stop, stop_caller, stop_version
from appliance.errors import ConflictError
from appliance.wire import RemoteError
from media.errors import SealiftError
from tests.support import lines
from tests.support.floor import Floor, serving_floor
from tests.support.signatories import signatories
from tests.unit.appliance.actions.test_lines import requested
from tests.unit.appliance.actions.test_lines_windows import Two, two_lines

pytestmark = pytest.mark.slow  # whole sites, seconds in all

__all__ = ["serving_floor", "two_lines"]  # fixtures
ANA, BEN, *_ = signatories()
WHO: dict[str, Any] = {"person": ANA.id, "reason": "a bad night"}


def refusal(act: Callable[[], object]) -> int:
    """Return the exit code by which something is refused; 0 where it is not."""
    try:
        act()
    except RemoteError as error:
        return error.remote_exit_code
    except SealiftError as error:
        return error.exit_code
    return 0


@pytest.mark.parametrize("asked", [{}, {"to": "nosuch"}, {"to": "old"}, {"line": "nosuch"}])
def test_going_back_is_foreseen_as_refused_where_it_is(floor: Floor, asked: dict[str, str]) -> None:
    size = floor.site.ledger.head().size
    code = refusal(lambda: foreseen.going_back(floor.here, **asked))
    assert floor.site.ledger.head().size == size

    assert code == refusal(lambda: rollback(floor.here, **WHO, **asked)) != 0


def test_going_back_leads_where_it_was_foreseen_to_lead(floor: Floor) -> None:
    old = floor.in_production()
    floor.serve(floor.bring("next"))

    found = foreseen.going_back(floor.here)

    assert found.to_json() == {"canary": False, "model_digest": old, "returnable": [old], "in_doubt": []}
    assert rollback(floor.here, **WHO).promotion.model_digest == old


def test_while_a_canary_runs_going_back_ends_it(two: Two) -> None:
    floor = two.floor
    lines.start_canary(floor.site, requested(floor, two.new), two.number)

    assert foreseen.going_back(floor.here).model_digest is None


def test_of_several_lines_the_one_that_goes_back_is_said(two: Two) -> None:
    with pytest.raises(ConflictError, match="not said which line goes back"):
        foreseen.going_back(two.floor.here)

    assert refusal(lambda: foreseen.going_back(two.floor.here)) == refusal(lambda: rollback(two.floor.here, **WHO))


def test_what_cannot_be_stopped_is_foreseen(floor: Floor) -> None:
    here = floor.here
    other = floor.bring("other").model_digest

    for what, name, act in (
        ("key", "nosuch", lambda: stop_caller(here, what="key", name="nosuch", **WHO)),
        ("department", "nosuch", lambda: stop_caller(here, what="department", name="nosuch", **WHO)),
        ("version", "nosuch", lambda: stop_version(here, "nosuch", **WHO)),
        ("version", other, lambda: stop_version(here, other, **WHO)),
        ("line", "nosuch", lambda: stop(here, line="nosuch", **WHO)),
    ):
        code = refusal(partial(foreseen.require_stoppable, here, what=what, name=name))
        assert code == refusal(act) != 0, (what, name)
    lift = refusal(lambda: foreseen.require_stoppable(here, what="key", name="nosuch", lift=True))
    assert lift == refusal(lambda: free_caller(here, what="key", name="nosuch", **WHO)) != 0


def test_what_is_stopped_already_is_foreseen(floor: Floor) -> None:
    here = floor.here
    foreseen.require_stoppable(here, what="production", name="")
    stop(here, **WHO)

    code = refusal(lambda: foreseen.require_stoppable(here, what="production", name=""))

    assert code == refusal(lambda: stop(here, **WHO)) != 0
