"""Whoever lacks more records than one bundle takes gets them in several, each ending with a signed checkpoint."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine

from appliance.actions.standby import drilling, keeping, sending, status
from appliance.actions.standby.drilling import Surroundings
from appliance.actions.standby.keeping import Made
from appliance.errors import PairingRefusedError
from appliance.standby import bundle, mirror
from appliance.standby.pairing import require_paired
from tests.support import boxes
from tests.support.boxes import first, second
from tests.support.promotion import Site
from tests.unit.appliance.standby.test_sending import reachable

__all__ = ["first", "second"]  # fixtures

AIM = 20_000
PAD = "x" * 400


def serve(box: Site, *, records: int = 120, every: int = 10) -> None:
    """Let a box record much, with a checkpoint now and then as the hourly timer makes it; 0 for none."""
    for number in range(records):
        box.ledger.append("request.intent", {"request_id": f"req_{number}", "pad": PAD})
        if every and number % every == every - 1:
            box.ledger.checkpoint()


def make(box: Site, since: int | None = None, *, aim: int = AIM) -> Made:
    return keeping.make(
        box.config, "two", since=since, ledger=box.ledger, keys=boxes.keys_of(box), clock=box.clock, aim=aim
    )


def surroundings(box: Site) -> Surroundings:
    return Surroundings(
        config=box.config,
        ledger=box.ledger,
        state=create_engine("sqlite://"),
        keys=boxes.keys_of(box),
        clock=box.clock,
        lease=lambda: None,
        ask=lambda *_: None,
    )


def brought(first: Site, second: Site, *, since: int | None = None) -> list[Made]:
    """Bring all of the first box's records to the second, bundle after bundle."""
    made = [make(first, since)]
    boxes.grow(second, made[0], "one")
    while made[-1].more:
        assert len(made) < 99
        made.append(make(first))
        boxes.grow(second, made[-1], "one")
    return made


def test_bundles_follow_each_other_until_all_is_there(first: Site, second: Site) -> None:
    serve(first)

    made = brought(first, second)

    assert len(made) > 3
    assert [one.start for one in made[1:]] == [one.size for one in made[:-1]]
    assert all(len(one.leaves) <= AIM for one in made)
    assert made[-1].size == first.ledger.head().size
    box = require_paired(second.config.at, "one").peer
    held = mirror.reader(second.config.at, box, clock=second.clock)
    assert (held.head().size, held.head().root) == (made[-1].size, first.ledger.head().root)
    assert boxes.take(second, "one").people == 2


def test_over_the_network_each_turn_brings_some(first: Site, second: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(first)
    monkeypatch.setattr(sending, "AIM_BYTES", AIM)
    turns: list[sending.Sent] = []
    with reachable(first, second) as config:
        while not turns or turns[-1].more:
            turns.append(sending.send(config, "two", ledger=first.ledger, keys=boxes.keys_of(first), clock=first.clock))
            grown = sending.take_in(second.config, "one", ledger=second.ledger)
            assert grown is not None
            assert grown.size == turns[-1].size
    assert len(turns) > 3
    assert all(one.is_taken for one in turns)


def test_what_the_other_box_did_not_take_in_is_not_called_sent(first: Site, second: Site) -> None:
    with reachable(first, second) as config:
        keys = boxes.keys_of(first)
        assert sending.send(config, "two", ledger=first.ledger, keys=keys, clock=first.clock).is_taken
        first.ledger.append("key.revoked", {"key_id": "abcdefghij", "reason": "something is news"})

        again = sending.send(config, "two", ledger=first.ledger, keys=keys, clock=first.clock)

    assert (again.start, again.is_taken) == (0, False)


def test_where_no_checkpoint_lies_within_what_fits_it_is_the_next(first: Site, second: Site) -> None:
    serve(first, every=100)

    made = brought(first, second, since=0)

    assert len(made[0].leaves) > AIM
    assert made[0].more
    assert made[-1].size == first.ledger.head().size


def test_a_bundle_ends_where_the_other_box_knows_the_key(first: Site, second: Site) -> None:
    """The key is renewed in the midst of what is missing: what the new one signs has to show how it came to it."""
    serve(first, records=60)
    boxes.rotate(first)
    rotated = first.ledger.head().size
    serve(first, records=60)

    made = brought(first, second)

    assert made[0].size >= rotated
    assert made[-1].size == first.ledger.head().size
    assert len(made) > 1


def test_records_from_before_the_key_of_the_card_come_with_the_first_of_it(tmp_path: Path) -> None:
    first, second = boxes.open_box(tmp_path / "one"), boxes.open_box(tmp_path / "two")
    serve(first, records=60)
    boxes.rotate(first)
    rotated = first.ledger.head().size
    boxes.pair(first, second)
    serve(first, records=60)

    made = brought(first, second)

    assert made[0].size > rotated
    assert len(made) > 1
    assert made[-1].size == first.ledger.head().size


@pytest.mark.usefixtures("second")
def test_more_than_any_bundle_takes_without_a_checkpoint_is_refused_with_the_reason(
    first: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    first.ledger.log.backend.checkpoints = lambda *_: []  # type: ignore[method-assign]
    serve(first, every=0)
    monkeypatch.setattr(bundle, "MOST_BYTES", AIM)

    with pytest.raises(PairingRefusedError, match="bytes of records are missing there") as refused:
        make(first)

    assert "no checkpoint" in refused.value.why


def test_a_standby_that_gets_its_records_bundle_by_bundle_is_not_ready_before_the_last(
    first: Site, second: Site
) -> None:
    serve(first)
    for site in (first, second):
        site.clock.advance(3 * 24 * 3600)
    one = make(first)
    boxes.grow(second, one, "one")

    (box,) = status.read(second.config, ledger=second.ledger, clock=second.clock)
    behind = drilling._mirror(surroundings(second), box)
    while one.more:
        one = make(first)
        boxes.grow(second, one, "one")
    (box,) = status.read(second.config, ledger=second.ledger, clock=second.clock)

    assert (behind.holds, "later ones are still to come" in behind.text) == (False, True)
    assert drilling._mirror(surroundings(second), box).holds is True
