"""A caller that people stopped on one box is stopped on the other, whatever else waits, until people there free it."""

from pathlib import Path

import pytest

from appliance.actions.standby import status, stopping
from appliance.actions.standby.taking import TakenOver
from appliance.errors import ApprovalRefusedError, UnknownPersonError
from appliance.promote.reviews import FREED, STOPPED, stopped_callers
from tests.support import boxes
from tests.support.boxes import first, second
from tests.support.promotion import PASSWORD, Site, digest
from tests.support.signatories import signatories
from tests.unit.appliance.standby.test_keeping import receive

__all__ = ["first", "second"]  # fixtures

ANA, BEN, CHI, *_ = signatories()
KEY = ("key", "abcdefgh")


def stop(box: Site, who: str = ANA.id, *, name: str = KEY[1]) -> int:
    return box.client.stop_caller(what="key", name=name, person=who, reason="it asks for patients by name")


def free(box: Site, who: str = BEN.id, *, name: str = KEY[1]) -> int:
    return box.client.free_caller(what="key", name=name, person=who, reason="its people were told")


def over(first: Site, second: Site) -> TakenOver:
    return boxes.carry(first, second, name="two", peer="one")


def back(first: Site, second: Site) -> TakenOver:
    return boxes.carry(second, first, name="one", peer="two")


def test_a_stop_and_its_end_hold_on_the_other_box(first: Site, second: Site) -> None:
    stop(first)

    assert over(first, second).stops == 1
    assert list(stopped_callers(second.ledger)) == [KEY]
    assert over(first, second).stops == 0
    free(first)
    assert over(first, second).stops == 1
    assert not stopped_callers(second.ledger)
    ended = second.ledger.find(kind=FREED)[0].body
    assert ended["stopped"] == second.ledger.find(kind=STOPPED)[0].sequence
    assert ended["carried"]["origin"] == first.ledger.head().origin
    assert over(first, second).stops == back(first, second).stops == 0


def test_a_stop_waits_for_no_release_that_is_missing(first: Site, second: Site) -> None:
    first.promote(digest("version"))
    stop(first)

    taken = over(first, second)

    assert "not registered" in taken.waits
    assert (taken.stops, list(stopped_callers(second.ledger))) == (1, [KEY])
    assert boxes.take(second, "one").waits == taken.waits  # nor is the promotion passed over


def test_what_people_freed_where_it_came_to_is_free_where_it_was_stopped(first: Site, second: Site) -> None:
    stop(first)
    over(first, second)
    free(second)

    assert over(first, second).stops == 0  # it is not stopped again, though it holds there still
    assert back(first, second).stops == 1
    assert not stopped_callers(first.ledger)
    assert not stopped_callers(second.ledger)


def test_a_stop_of_each_box_is_ended_by_itself(first: Site, second: Site) -> None:
    over(first, second)
    stop(second, BEN.id)
    stop(first, ANA.id)

    assert over(first, second).stops == 0  # it is stopped here, by this box's own
    with pytest.raises(UnknownPersonError):
        free(second, BEN.id)  # who made it
    free(first, BEN.id)
    taken = over(first, second)

    assert (taken.stops, taken.stopped) == (0, ())
    assert [leaf.body["person"] for leaf in stopped_callers(second.ledger).values()] == [BEN.id]
    assert back(first, second).stops == 1  # and holds there, too
    free(second, ANA.id)
    assert back(first, second).stops == 1
    assert not stopped_callers(first.ledger)
    assert not stopped_callers(second.ledger)


def test_where_one_stop_ends_and_another_holds_the_other_comes_at_once(first: Site, second: Site) -> None:
    stop(first)
    over(first, second)
    free(first)
    stop(first, BEN.id)

    assert over(first, second).stops == 2
    assert [leaf.body["person"] for leaf in stopped_callers(second.ledger).values()] == [BEN.id]


def test_an_end_by_somebody_who_is_not_known_here_waits_for_that_person(first: Site, second: Site) -> None:
    stop(first)
    over(first, second)
    first.promote(digest("version"))  # so that who is enrolled after it waits, too
    code = first.client.invite([(one.id, PASSWORD) for one in (ANA, BEN)])
    first.client.enrol(code=code, name=CHI.name, certificate=CHI.certificate, password=PASSWORD)
    free(first, CHI.id)

    taken = over(first, second)

    assert list(stopped_callers(second.ledger)) == [KEY]
    assert [one.split(":")[0] for one in taken.stopped] == ["key abcdefgh"]
    receive(second, digest("version"))
    assert boxes.take(second, "one").stops == 1
    assert not stopped_callers(second.ledger)


def test_the_promoter_takes_no_end_without_its_stop_or_by_whoever_stopped(first: Site, second: Site) -> None:
    stop(first)
    over(first, second)
    at = first.ledger.find(kind=STOPPED)[0]
    alone = first.ledger.append(FREED, {**at.body, "stopped": at.sequence}).sequence
    boxes.grow(second, boxes.bundle(first, "two"), "one")

    with pytest.raises(ApprovalRefusedError, match="not taken over"):
        second.client.carry("one", boxes.proven(first, alone), [])
    with pytest.raises(ApprovalRefusedError, match="not taken over"):
        second.client.carry("one", boxes.proven(first, alone), [boxes.proven(first, at.sequence)])
    forged = first.ledger.append(FREED, {**at.body, "person": "nobody", "stopped": at.sequence}).sequence
    with pytest.raises(UnknownPersonError):
        second.client.carry("one", boxes.proven(first, forged), [boxes.proven(first, at.sequence)])
    assert list(stopped_callers(second.ledger)) == [KEY]


@pytest.mark.parametrize("freed_on", ["new", "two"])
def test_a_box_set_up_anew_stops_whom_the_lost_one_stopped_until_that_ends_on_either(
    first: Site, second: Site, tmp_path: Path, freed_on: str
) -> None:
    stop(first)
    over(first, second)
    new = boxes.set_up_anew(second, tmp_path / "new")

    assert boxes.carry(second, new, name="new", peer="two").stops == 1
    assert list(stopped_callers(new.ledger)) == [KEY]
    if freed_on == "new":
        free(new)
        assert boxes.carry(new, second, name="two", peer="new").stops == 1
    else:
        free(second)
        assert boxes.carry(second, new, name="new", peer="two").stops == 1
    assert not stopped_callers(new.ledger)
    assert not stopped_callers(second.ledger)


def test_a_turn_that_failed_lets_the_next_one_stop_whom_it_brought(first: Site, second: Site) -> None:
    stop(first)
    boxes.grow(second, boxes.bundle(first, "two"), "one")
    assert status.read(second.config, ledger=second.ledger, clock=second.clock)[0].waiting >= 1

    followed = stopping.take_over(
        second.config, "one", ledger=second.ledger, promoter=second.client, clock=second.clock
    )

    assert (followed.count, followed.stay) == (1, ())
    assert list(stopped_callers(second.ledger)) == [KEY]
    before = stopping.take_over(first.config, "two", ledger=first.ledger, promoter=first.client, clock=first.clock)
    assert before.count == 0  # nothing was ever brought there
