"""A canary reaches the other box as it stands there, also where a script held it; a key's word does nothing else."""

import pytest

from appliance.promote.automation_key import Scope
from appliance.promote.desk import ACTIONS_DOOR, ADMIN_DOOR
from tests.support import boxes
from tests.support.boxes import first, second
from tests.support.promotion import PASSWORD, Site, digest
from tests.support.signatories import signatories

__all__ = ["first", "second"]  # fixtures

ANA, BEN, *_ = signatories()
ACTOR = f"automation:nightly@{ANA.id}"
OLD, NEW = digest("old"), digest("new")


def start(first: Site, second: Site) -> None:
    """Let a canary of the new version run beside the old one at the first box; the second knows both versions."""
    for version in (OLD, NEW):
        second.validate(version)
    first.promote(OLD)
    request = first.approve(first.request(NEW), ANA, BEN)
    first.client.start_canary(request.statement.sha256, percent=20, hours=48, watch_hours=48)


def hold(box: Site) -> None:
    """Hold the canary as a script of the box's does."""
    fields = {"name": "nightly", "person": ANA.id, "password": PASSWORD, "scopes": [str(Scope.HOLD)], "days": 30}
    key = box.at_door(ACTIONS_DOOR)._call("automation-make", **fields)["text"]
    box.at_door(ADMIN_DOOR)._call("automation-hold", key=key, reason="errors rise")


def test_a_canary_that_a_script_held_is_held_on_the_other_box_and_goes_on_there_by_a_person(
    first: Site, second: Site
) -> None:
    start(first, second)
    hold(first)

    taken = boxes.carry(first, second, name="two", peer="one")

    assert (taken.promotions, taken.waits) == (3, "")
    standing = second.client.canary()["canary"]
    assert (standing["version"], standing["held"]) == (NEW, True)
    [held] = second.ledger.find(kind="promotion.canary-held")
    assert (held.body["person"], held.body["class"]) == (ACTOR, "automation")
    second.client.step_canary("resume", person=BEN.id, reason="they are fine")
    assert second.client.canary()["canary"]["held"] is False


@pytest.mark.parametrize("kind", ["canary-resumed", "canary-aborted", "rolled-back", "stopped"])
def test_a_keys_word_for_anything_but_a_hold_is_not_taken(first: Site, second: Site, kind: str) -> None:
    """Scenario: the first box's promoter was taken over and records decisions in a key's name."""
    start(first, second)
    hold(first)
    assert boxes.carry(first, second, name="two", peer="one").waits == ""
    [held] = first.ledger.find(kind="promotion.canary-held")
    first.ledger.append(f"promotion.{kind}", dict(held.body))

    taken = boxes.carry(first, second, name="two", peer="one")

    assert taken.promotions == 0
    assert "automation:nightly" in taken.waits
    assert second.client.canary()["canary"]["held"] is True


def test_a_hold_counts_only_while_who_answers_for_the_key_counts_here(first: Site, second: Site) -> None:
    start(first, second)
    boxes.carry(first, second, name="two", peer="one")
    hold(first)
    second.ledger.append("person.revoked", {"person": ANA.id, "by": [BEN.id], "reason": "left"})

    taken = boxes.carry(first, second, name="two", peer="one")

    assert (taken.promotions, ANA.id in taken.waits) == (0, True)
    assert second.client.canary()["canary"]["held"] is False
