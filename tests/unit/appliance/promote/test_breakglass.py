"""Emergency access: one person, recorded first, for hours, loud, and looked at by another afterwards."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.actions.breakglass import key_for
from appliance.errors import LedgerUnavailableError, UnknownPersonError
from appliance.gateway.auth import StateApiKeys, authenticate
from appliance.gateway.problems import Problem
from appliance.gateway.routing import StateRoutes
from appliance.keys.files import FileKeys, create_missing
from appliance.promote.breakglass import MOST_HOURS, running
from appliance.promote.desk import OPERATOR_DOOR
from appliance.promote.reviews import stopped_callers
from appliance.state.database import open_state
from media.errors import MalformedError, UsageError
from tests.support.promotion import PASSWORD, Site, open_site
from tests.support.signatories import signatories

ANA, BEN, *_ = signatories()
NEED: dict[str, Any] = {
    "department": "emergency room",
    "hours": 4,
    "reason": "key expired, stroke team waits",
    "password": None,
}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(tmp_path)


def test_it_is_recorded_before_there_is_a_key_ends_by_itself_and_waits_for_another_persons_look(site: Site) -> None:
    begun = site.client.begin_emergency(person=ANA.id, **NEED)
    assert [one["number"] for one in site.client.emergencies()] == [begun["number"]]
    assert site.ledger.leaf(begun["number"]).body["reason"] == NEED["reason"]

    (review,) = site.client.reviews()
    assert (review["what"], review["person"]) == ("used emergency access", ANA.id)
    with pytest.raises(UnknownPersonError):
        site.client.review(review["sequence"], person=ANA.id, note="it was me")
    site.client.review(review["sequence"], person=BEN.id, note="it was right")

    site.clock.advance(4 * 3600)
    assert site.client.emergencies() == ()
    assert site.client.reviews() == ()


def test_without_a_record_there_is_no_access(site: Site) -> None:
    site.ledger.available = False

    with pytest.raises(LedgerUnavailableError):
        site.client.begin_emergency(person=ANA.id, **NEED)

    site.ledger.available = True
    assert site.client.emergencies() == ()


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"hours": 0}, UsageError),
        ({"hours": MOST_HOURS + 1}, UsageError),
        ({"hours": "4"}, MalformedError),
        ({"reason": "  "}, MalformedError),
        ({"department": ""}, MalformedError),
        ({"person": "mallory"}, UnknownPersonError),
    ],
)
def test_no_one_unknown_nothing_endless_and_nothing_without_a_reason(
    site: Site, changed: dict[str, object], error: type[Exception]
) -> None:
    asked: dict[str, Any] = {"person": ANA.id, **NEED, **changed}
    with pytest.raises(error):
        site.client.begin_emergency(**asked)

    assert site.ledger.find(kind="emergency.", limit=5) == []


def test_operators_and_the_page_give_the_persons_password(site: Site) -> None:
    door = site.at_door(OPERATOR_DOOR)

    for wrong in (None, "not the password of anybody"):
        with pytest.raises(UnknownPersonError):
            door.begin_emergency(person=ANA.id, **{**NEED, "password": wrong})
    door.begin_emergency(person=ANA.id, **{**NEED, "password": PASSWORD})
    assert len(door.emergencies()) == 1


def test_the_key_answers_until_the_hour_that_was_said_and_no_longer(site: Site, tmp_path: Path) -> None:
    create_missing(folder := tmp_path / "keys")
    keys, state = FileKeys(folder), open_state(site.config.at)
    begun = site.client.begin_emergency(person=ANA.id, **NEED)

    access = key_for(site.ledger, state, keys, begun)

    known = StateApiKeys(site.config.at, site.clock)
    assert authenticate(access.text, api_keys=known, keys=keys).department == NEED["department"]
    assert access.text not in repr(access)
    site.clock.advance(4 * 3600)
    with pytest.raises(Problem):
        authenticate(access.text, api_keys=StateApiKeys(site.config.at, site.clock), keys=keys)
    state.dispose()


def test_whoever_ends_it_stops_its_key_at_once_and_it_ends_once(site: Site, tmp_path: Path) -> None:
    create_missing(folder := tmp_path / "keys")
    state = open_state(site.config.at)
    begun = site.client.begin_emergency(person=ANA.id, **NEED)
    access = key_for(site.ledger, state, FileKeys(folder), begun)
    state.dispose()

    site.client.end_emergency(begun["number"], person=BEN.id, reason="new key in place", password=None)

    assert site.client.emergencies() == ()
    assert ("key", access.key_id) in stopped_callers(site.ledger)
    # As a gateway sees it, though nobody brought the state up to the ledger.
    assert StateRoutes(site.config.at, site.clock, ledger=site.ledger).is_stopped(key_id=access.key_id, department="x")
    with pytest.raises(UsageError) as refused:
        site.client.end_emergency(begun["number"], person=BEN.id, reason="again", password=None)
    assert refused.value.fix == "see `sealift emergency list`"
    assert running(site.ledger, site.clock.now() - timedelta(hours=1)) == ()


def test_a_promoter_that_starts_again_knows_what_runs(site: Site) -> None:
    begun = site.client.begin_emergency(person=ANA.id, **NEED)

    site.restart()

    assert [one["number"] for one in site.client.emergencies()] == [begun["number"]]
