"""Two boxes know each other by cards that people compared, and by one statement that both signed."""

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.actions.standby import introducing
from appliance.errors import ApprovalRefusedError, ConflictError, PairingRefusedError
from appliance.standby import pairing, vouched
from appliance.standby.card import PAYLOAD_TYPE, BoxCard
from appliance.standby.pairing import Pairing, Relation, paired
from media.errors import DigestMismatchError, MalformedError, SealiftError, UsageError
from tests.support import boxes
from tests.support.promotion import Site


@pytest.fixture
def first(tmp_path: Path) -> Site:
    return boxes.open_box(tmp_path / "one")


@pytest.fixture
def second(tmp_path: Path) -> Site:
    return boxes.open_box(tmp_path / "two")


def test_two_boxes_that_were_introduced_know_each_other_and_have_recorded_it(first: Site, second: Site) -> None:
    boxes.pair(first, second)

    (at_first,), (at_second,) = paired(first.config.at), paired(second.config.at)
    assert (at_first.peer.name, at_first.is_first) == ("two", True)
    assert (at_second.peer.name, at_second.is_first) == ("one", False)
    assert at_first.sha256 == at_second.sha256
    assert at_first.peer.origin == second.ledger.head().origin
    for box, kinds in ((first, 1), (second, 1)):
        assert len(box.ledger.find(kind="standby.paired")) == kinds
        assert box.ledger.find(kind="standby.pairing-offered")[0].body["by"] == ["Ana", "Ben"]


def test_a_card_is_made_once_and_no_key_leaves_with_it(first: Site) -> None:
    made = boxes.card(first, "one")

    assert boxes.card(first, "one").file == made.file
    assert len(first.ledger.find(kind="standby.card-made")) == 1
    assert b"PRIVATE" not in made.file
    assert b"PRIVATE" not in base64.b64decode(made.file.split(b'"payload":"')[1].split(b'"')[0])
    with pytest.raises(ConflictError):
        boxes.card(first, "other")


@pytest.mark.parametrize(
    ("codes", "by", "error"),
    [
        (["0" * 64, "0" * 64], ["Ana", "Ben"], DigestMismatchError),
        (None, ["Ana"], ApprovalRefusedError),
        (None, ["Ana", " ana "], ApprovalRefusedError),
        ([], ["Ana", "Ben"], UsageError),
    ],
)
def test_a_pairing_takes_two_people_who_typed_the_others_code(
    first: Site, second: Site, codes: list[str] | None, by: list[str], error: type[SealiftError]
) -> None:
    boxes.card(first, "one")
    two = boxes.card(second, "two")

    with pytest.raises(error) as refused:
        introducing.offer(
            first.config,
            two.file,
            relation=Relation.STANDBY,
            is_first=True,
            codes=[two.card.code] * 2 if codes is None else codes,
            by=by,
            ledger=first.ledger,
            keys=boxes.keys_of(first),
        )

    assert first.ledger.find(kind="standby.pairing-offered") == []
    assert "sheet" not in refused.value.fix  # of a release, which is not what was mistyped


def test_a_name_that_no_box_can_have_makes_no_card(first: Site) -> None:
    with pytest.raises(UsageError, match="'Room 1' is no name of a box"):
        boxes.card(first, "Room 1")

    assert first.ledger.find(kind="standby.card-made") == []


def test_one_half_alone_or_one_halfs_signature_twice_pairs_nobody(first: Site, second: Site) -> None:
    one, two = boxes.card(first, "one"), boxes.card(second, "two")
    mine = boxes.half(first, two, is_first=True)
    boxes.half(second, one, is_first=False)

    with pytest.raises(SealiftError):
        introducing.join(first.config, mine, mine, ledger=first.ledger)
    (first.config.at.boxes / "two.json").write_bytes(mine)

    with pytest.raises(PairingRefusedError, match="refused"):
        paired(first.config.at)


def test_halves_that_disagree_on_who_is_the_standby_do_not_join(first: Site, second: Site) -> None:
    one, two = boxes.card(first, "one"), boxes.card(second, "two")
    mine, theirs = boxes.half(first, two, is_first=True), boxes.half(second, one, is_first=True)

    with pytest.raises(PairingRefusedError):
        introducing.join(first.config, mine, theirs, ledger=first.ledger)

    assert paired(first.config.at) == ()


def test_a_box_that_made_the_card_of_another_is_not_believed(first: Site, second: Site) -> None:
    """Someone sends a card that names the standby's ledger and their own keys, signed with their own."""
    two = boxes.card(second, "two").card
    forged = replace(two, sealing=bytes(range(32)))

    envelope = vouched.vouch(PAYLOAD_TYPE, forged.to_payload(), boxes.signer(first))

    with pytest.raises(PairingRefusedError):
        BoxCard.from_envelope(envelope)


def test_boxes_of_two_sites_or_with_one_ledger_key_are_not_paired(first: Site, second: Site) -> None:
    one, two = boxes.card(first, "one").card, boxes.card(second, "two").card

    for other in (replace(two, site="elsewhere"), replace(two, environment="production"), replace(two, vkey=one.vkey)):
        with pytest.raises(PairingRefusedError):
            pairing.statement(one, other, Relation.STANDBY)


def test_a_pairing_is_not_replaced_unseen_and_parting_takes_two_people(first: Site, second: Site) -> None:
    boxes.pair(first, second)
    one, two = boxes.card(first, "one"), boxes.card(second, "two")
    halves = boxes.half(first, two, is_first=True), boxes.half(second, one, is_first=False)

    with pytest.raises(ConflictError):
        introducing.join(first.config, *halves, ledger=first.ledger)
    with pytest.raises(ApprovalRefusedError):
        introducing.part(first.config, "two", by=["Ana"], reason="moved", ledger=first.ledger)
    introducing.part(first.config, "two", by=["Ana", "Ben"], reason="moved", ledger=first.ledger)

    assert paired(first.config.at) == ()
    assert first.ledger.find(kind="standby.parted")[0].body["reason"] == "moved"


def test_any_change_of_a_pairings_file_is_refused(first: Site, second: Site) -> None:
    boxes.pair(first, second)
    file = first.config.at.boxes / "two.json"
    right = file.read_bytes()

    for place in range(0, len(right), 97):
        file.write_bytes(right[:place] + bytes([right[place] ^ 1]) + right[place + 1 :])
        with pytest.raises(SealiftError):
            paired(first.config.at)
    file.write_bytes(right)

    assert len(paired(first.config.at)) == 1
    with pytest.raises(MalformedError):
        Pairing.from_bytes(right + b"\n")


def test_the_file_of_the_own_card_is_no_other_boxs(first: Site) -> None:
    """`own.json` lies beside the pairings: parting from a box of that name would take this box's own card away."""
    boxes.card(first, "one")

    with pytest.raises(UsageError):
        introducing.part(first.config, "own", by=["Ana", "Ben"], reason="x", ledger=first.ledger)

    assert (first.config.at.boxes / pairing.OWN).exists()
    with pytest.raises(UsageError):
        boxes.card(first, "own")
