"""What a drill counts: keys that callers of production can still use, and times that have come."""

import pytest

from appliance.actions import keys as api_keys
from appliance.actions.backups import erasures
from appliance.actions.keys import Validity
from appliance.actions.standby import drilling
from appliance.actions.standby.drilling import Check, Surroundings
from appliance.state import projection
from appliance.state.database import open_state
from media.clock import FixedClock
from tests.support import boxes
from tests.support.boxes import first, second
from tests.support.promotion import Site

__all__ = ["first", "second"]  # fixtures


def made(box: Site, stage: str = "production", days: int = 0) -> str:
    state = open_state(box.config.at)
    try:
        new = api_keys.create(
            box.ledger,
            state,
            boxes.keys_of(box),
            department="radiology",
            owner="Ana",
            phi_mode="tokenise",
            validity=Validity.of(stage, days, box.clock),
        )
    finally:
        state.dispose()
    return new.facts.key_id


def revoked(box: Site, key_id: str) -> None:
    state = open_state(box.config.at)
    try:
        api_keys.revoke(box.ledger, state, key_id=key_id, reason="renewed")
    finally:
        state.dispose()


def looked_at(box: Site) -> Check:
    state = open_state(box.config.at)
    projection.catch_up(state, box.ledger)
    try:
        found = drilling.drill(
            Surroundings(
                config=box.config,
                ledger=box.ledger,
                state=state,
                keys=boxes.keys_of(box),
                clock=box.clock,
                lease=lambda: None,
                ask=lambda *_: None,
            )
        )
    finally:
        state.dispose()
    (keys,) = [one for one in found.checks if one.check == "keys"]
    return keys


def destroyed(box: Site, version: int) -> None:
    """Destroy a version of the secret, as `sealift box-keys destroy` does."""
    keys = boxes.keys_of(box)
    gone = erasures.digest(keys.get("api-key-pepper", version=version).bytes)
    body = {"name": "api-key-pepper", "digests": [gone], "files": [], "reason": "somebody left"}
    box.ledger.append(erasures.DESTROYED, body)
    keys.remove("api-key-pepper", version)


@pytest.fixture
def renewed(first: Site, second: Site) -> str:
    """A key under a version of the secret that was destroyed on both boxes since, and came over."""
    old = made(first)
    boxes.keys_of(first).create("api-key-pepper")
    new = made(first)
    boxes.carry(first, second, name="two", peer="one")
    assert new != old
    assert looked_at(second).holds is True
    for box in (first, second):
        destroyed(box, 1)
    return old


def test_keys_that_ended_ask_for_no_secret(first: Site, second: Site, renewed: str) -> None:
    assert looked_at(second) == Check(
        check="keys", holds=False, text="2 keys of callers came from the other box; 1 cannot be checked"
    )
    revoked(first, renewed)
    boxes.carry(first, second, name="two", peer="one")

    assert looked_at(second) == Check(check="keys", holds=True, text="1 keys of callers came from the other box")


@pytest.mark.usefixtures("renewed")
def test_a_key_past_its_end_asks_for_none_either(first: Site, second: Site) -> None:
    made(first, days=1)
    boxes.carry(first, second, name="two", peer="one")
    assert "3 keys" in looked_at(second).text
    second.clock.advance(2 * 24 * 3600)
    assert "2 keys" in looked_at(second).text


def test_keys_of_the_test_stage_have_another_secret_which_is_never_carried(first: Site, second: Site) -> None:
    made(first, stage="test")
    boxes.carry(first, second, name="two", peer="one")

    assert looked_at(second) == Check(check="keys", holds=True, text="0 keys of callers came from the other box")


def test_a_drill_that_was_recorded_while_the_clock_ran_ahead_does_not_count_until_then(
    first: Site, second: Site
) -> None:
    boxes.carry(first, second, name="two", peer="one")
    now = second.clock.now()
    second.clock.advance(300 * 24 * 3600)
    second.ledger.append(drilling.DRILLED, {"level": "checked", "ready": True, "checks": [], "milliseconds": 1})

    assert drilling.is_due(second.ledger, now)
    (found,) = drilling.findings(second.config, second.ledger, FixedClock(now))
    assert (found.is_good, found.text) == (False, "it was recorded while the clock ran ahead")
    assert not drilling.is_due(second.ledger, second.clock.now())
