"""A standby is kept current by bundles: proven against the signed tree, judged by its own promoter, recorded anew."""

import json
import shutil
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.actions import keys as api_keys
from appliance.actions.backups import erasures
from appliance.actions.standby import introducing, keeping, pepper, status
from appliance.audit import tree
from appliance.audit.client import OfflineLedger
from appliance.audit.log import Log, Signer
from appliance.audit.memory import MemoryBackend
from appliance.audit.verify import verify
from appliance.errors import CiphertextError, ConflictError, PairingRefusedError, UnknownPersonError
from appliance.promote.doubted import DOUBTED
from appliance.promote.policy import IN_EVERY_POLICY
from appliance.promote.presented import Presented
from appliance.promote.standing import require_promoted
from appliance.standby import bundle, mirror, sealed, vouched
from appliance.standby.carried import Carried
from appliance.standby.pairing import Relation, require_paired
from appliance.state.database import open_state
from media.errors import SealiftError
from tests.support import boxes
from tests.support.boxes import first, second
from tests.support.promotion import PASSWORD, Site, digest
from tests.support.signatories import signatories

__all__ = ["first", "second"]  # fixtures

VERSION, NEXT = digest("version"), digest("next")


def copied(first: Site, second: Site) -> OfflineLedger:
    """Return the first box's ledger as the second keeps it."""
    boxes.grow(second, boxes.bundle(first, "two"), "one")
    box = require_paired(second.config.at, "one").peer
    return OfflineLedger.of_folder(mirror.folder_of(second.config.at, box), clock=second.clock)


def receive(box: Site, model_digest: str, *, level: str = "Q4_K_M") -> None:
    """Register a version as the box's own install does; no gates run there."""
    box.ledger.append(
        "model.registered",
        {
            "model_digest": model_digest,
            "name": "tiny",
            "version": "1",
            "weights_digest": digest("weights" + model_digest),
            "serial": 1,
            "descriptor": {"quantization": level},
        },
    )


def make_key(box: Site) -> api_keys.NewKey:
    state = open_state(box.config.at)
    try:
        return api_keys.create(
            box.ledger, state, boxes.keys_of(box), department="radiology", owner="Ana", phi_mode="tokenise"
        )
    finally:
        state.dispose()


def test_people_and_promotions_reach_the_standby_and_verify_there(first: Site, second: Site) -> None:
    first.promote(VERSION)
    receive(second, VERSION)

    taken = boxes.carry(first, second, name="two", peer="one")

    assert (taken.people, taken.promotions, taken.waits) == (2, 1, "")
    standing = require_promoted(second.config.at, VERSION)
    assert standing.people == tuple(one.name for one in signatories()[:2])
    leaf = second.ledger.find(kind="promotion.made")[0]
    assert leaf.body["carried"]["origin"] == first.ledger.head().origin
    assert leaf.origin == second.ledger.head().origin


def test_the_mirror_is_the_primarys_ledger_and_is_not_merged(first: Site, second: Site) -> None:
    boxes.grow(second, boxes.bundle(first, "two"), "one")
    first.promote(VERSION)
    grown = boxes.grow(second, boxes.bundle(first, "two"), "one")

    peer = require_paired(second.config.at, "one").peer
    copy = OfflineLedger.of_folder(mirror.folder_of(second.config.at, peer), clock=second.clock)
    found = verify(copy, pinned=peer.vkey)
    assert found.ok, found.findings
    assert (found.size, found.root) == (grown.size, first.ledger.consistency(grown.size, grown.size).new_root)
    assert second.ledger.find(kind="promotion.made") == []


def test_a_release_that_is_missing_holds_back_what_needs_it_and_all_after_it(first: Site, second: Site) -> None:
    first.promote(VERSION)
    make_key(first)

    waiting = boxes.carry(first, second, name="two", peer="one")
    receive(second, VERSION)
    done = boxes.take(second, "one")

    assert (waiting.people, waiting.promotions, waiting.keys) == (2, 0, 0)
    assert "not registered" in waiting.waits
    assert (done.promotions, done.keys, done.waits) == (1, 1, "")
    assert boxes.take(second, "one").to_json() == {**done.to_json(), "promotions": 0, "keys": 0}


def test_an_api_key_of_the_primary_works_on_the_standby(first: Site, second: Site) -> None:
    made = make_key(first)

    boxes.carry(first, second, name="two", peer="one")

    leaf = second.ledger.find(kind="key.created")[0]
    assert leaf.body["secret_hmac"] == boxes.keys_of(second).hmac("api-key-pepper", made.text.encode()).hex()
    assert second.ledger.find(kind="standby.pepper-adopted")


def test_a_standby_that_made_keys_of_its_own_does_not_lose_them(first: Site, second: Site) -> None:
    made = make_key(second)

    grown = boxes.grow(second, boxes.bundle(first, "two"), "one")

    assert isinstance(grown.refused, ConflictError)
    assert (grown.pepper, "cannot be taken" in grown.refused.what) == ("refused", True)
    assert second.ledger.find(kind="standby.imported")  # what came is here all the same
    leaf = second.ledger.find(kind="key.created")[0]
    assert leaf.body["secret_hmac"] == boxes.keys_of(second).hmac("api-key-pepper", made.text.encode()).hex()


def fits(box: Site, made: api_keys.NewKey) -> bool:
    """Tell whether a box knows a key by the version that its record names."""
    body = box.ledger.find(kind="key.created", field="key_id", value=made.facts.key_id)[0].body
    keys, version = boxes.keys_of(box), int(body["key_version"])
    is_here = version in keys.versions("api-key-pepper")
    return is_here and keys.hmac("api-key-pepper", made.text.encode(), version=version).hex() == body["secret_hmac"]


def test_a_renewed_secret_ends_no_key_on_the_other_box(first: Site, second: Site) -> None:
    before = make_key(first)
    boxes.carry(first, second, name="two", peer="one")
    boxes.keys_of(first).create("api-key-pepper")
    after = make_key(first)

    grown = boxes.grow(second, boxes.bundle(first, "two"), "one")
    boxes.take(second, "one")

    assert grown.pepper == "adopted"
    assert fits(second, before)
    assert fits(second, after)
    assert second.ledger.find(kind="standby.pepper-adopted", limit=1)[0].body["versions"] == [2]
    # Until the units were told, as after a cut.
    assert boxes.grow(second, boxes.bundle(first, "two"), "one").pepper == "adopted"
    pepper.told(second.config, "one")
    assert boxes.grow(second, boxes.bundle(first, "two"), "one").pepper == "kept"
    assert len(second.ledger.find(kind="standby.pepper-adopted")) == 2  # one for each version


def test_a_secret_that_the_standby_renewed_while_it_served_comes_back_and_replaces_nothing(
    first: Site, second: Site
) -> None:
    before = make_key(first)
    boxes.carry(first, second, name="two", peer="one")
    boxes.keys_of(second).create("api-key-pepper")
    after = make_key(second)

    boxes.carry(second, first, name="one", peer="two")

    assert fits(first, before)
    assert fits(first, after)


def test_the_first_box_keeps_its_own_secret_whatever_the_standby_has(first: Site, second: Site) -> None:
    made = make_key(first)
    boxes.keys_of(first).create("api-key-pepper")

    boxes.grow(first, boxes.bundle(second, "one"), "two")

    assert fits(first, made)
    assert not first.ledger.find(kind="standby.pepper-adopted")


def test_a_version_that_was_destroyed_here_does_not_come_back(first: Site, second: Site) -> None:
    boxes.carry(first, second, name="two", peer="one")
    boxes.keys_of(first).create("api-key-pepper")
    boxes.carry(first, second, name="two", peer="one")
    gone = boxes.keys_of(second)
    body = {"name": "api-key-pepper", "digests": [erasures.digest(gone.get("api-key-pepper", version=1).bytes)]}
    second.ledger.append(erasures.DESTROYED, {**body, "files": [], "reason": "somebody left"})
    gone.remove("api-key-pepper", 1)

    boxes.carry(first, second, name="two", peer="one")

    assert boxes.keys_of(second).versions("api-key-pepper") == (2,)


def test_a_process_that_sees_no_key_file_keeps_what_came_for_one_that_does(
    first: Site, second: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = make_key(first)
    credentials = shutil.copytree(second.config.at.key_files, tmp_path / "credentials")
    hidden = second.config.at.key_files.rename(tmp_path / "hidden")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))

    assert boxes.grow(second, boxes.bundle(first, "two"), "one").pepper == "waits"
    assert pepper.adopt_waiting(second.config, "one", ledger=second.ledger) == "waits"
    boxes.take(second, "one")
    assert not second.ledger.find(kind="standby.pepper-adopted")

    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    hidden.rename(second.config.at.key_files)
    assert pepper.adopt_waiting(second.config, "one", ledger=second.ledger) == "adopted"
    assert fits(second, made)
    assert pepper.adopt_waiting(second.config, "one", ledger=second.ledger) == "adopted"  # units go by the old one
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(shutil.copytree(second.config.at.key_files, tmp_path / "new")))
    hidden = second.config.at.key_files.rename(tmp_path / "hidden")
    assert pepper.adopt_waiting(second.config, "one", ledger=second.ledger) == "waits"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    hidden.rename(second.config.at.key_files)
    pepper.told(second.config, "one")
    assert pepper.adopt_waiting(second.config, "one", ledger=second.ledger) == "kept"


def as_before(box: Site, peer: str) -> bytes:
    """Return the newest secret sealed as a release of before does it: without a number."""
    pair = require_paired(box.config.at, peer)
    return sealed.seal(boxes.keys_of(box).get("api-key-pepper").bytes, pair.peer.sealing, bundle.context(pair))


def test_a_release_of_before_that_renewed_its_secret_overwrites_no_version(first: Site, second: Site) -> None:
    before = make_key(first)
    boxes.carry(first, second, name="two", peer="one")
    boxes.keys_of(first).create("api-key-pepper")
    boxes.carry(first, second, name="two", peer="one")
    pair = require_paired(second.config.at, "one")

    assert pepper.adopt(second.config, as_before(first, "two"), pair, ledger=second.ledger) == "adopted"
    pepper.told(second.config, "one")
    assert pepper.adopt(second.config, as_before(first, "two"), pair, ledger=second.ledger) == "kept"
    boxes.keys_of(first).create("api-key-pepper")
    with pytest.raises(ConflictError, match="cannot be taken"):
        pepper.adopt(second.config, as_before(first, "two"), pair, ledger=second.ledger)
    assert fits(second, before)


def test_a_standby_that_renewed_its_own_before_pairing_takes_the_first_boxs(first: Site, second: Site) -> None:
    boxes.keys_of(second).create("api-key-pepper")
    made = make_key(first)

    assert boxes.grow(second, boxes.bundle(first, "two"), "one").pepper == "adopted"
    boxes.take(second, "one")
    assert fits(second, made)


def test_what_was_sealed_under_a_pairing_that_ended_is_dropped(first: Site, second: Site) -> None:
    make_key(first)
    boxes.grow(second, boxes.bundle(first, "two"), "one")  # and nobody was told
    folder = mirror.folder_of(second.config.at, require_paired(second.config.at, "one").peer)
    (folder / pepper.WAITING).write_bytes(b"of another pairing" * 8)

    assert pepper.adopt_waiting(second.config, "one", ledger=second.ledger) == "kept"
    assert not (folder / pepper.WAITING).exists()


def test_a_first_box_with_its_keys_on_a_token_takes_all_else(first: Site, second: Site) -> None:
    keys = first.config.keys.model_copy(update={"provider": "token"})
    config = first.config.model_copy(update={"keys": keys})

    assert pepper.adopt(config, b"sealed", require_paired(first.config.at, "two"), ledger=first.ledger) == "kept"


@pytest.mark.parametrize(
    "secret",
    [
        b"",
        b"s" * 31,
        b"s" * 37,
        bytes(4) + b"s" * 32,
        (2).to_bytes(4) + b"s" * 32 + (1).to_bytes(4) + b"s" * 32,
        2 * ((1).to_bytes(4) + b"s" * 32),
        b"".join(number.to_bytes(4) + b"s" * 32 for number in range(1, 66)),
    ],
    ids=lambda one: str(len(one)),
)
def test_a_sealed_secret_of_another_form_is_refused(first: Site, second: Site, secret: bytes) -> None:
    pair = require_paired(first.config.at, "two")
    untrusted = sealed.seal(secret, pair.peer.sealing, bundle.context(pair))

    with pytest.raises(CiphertextError, match="does not read"):
        pepper.adopt(second.config, untrusted, require_paired(second.config.at, "one"), ledger=second.ledger)


def test_the_sealed_secret_opens_on_the_right_box_and_pairing_only(first: Site, second: Site, tmp_path: Path) -> None:
    pair = require_paired(first.config.at, "two")
    secret = sealed.seal(b"s" * 32, pair.peer.sealing, bundle.context(pair))

    assert sealed.unseal(secret, second.config.at.key_files, bundle.context(pair)) == b"s" * 32
    for folder, context in ((first.config.at.key_files, bundle.context(pair)), (second.config.at.key_files, b"other")):
        with pytest.raises(CiphertextError):
            sealed.unseal(secret, folder, context)
    with pytest.raises(CiphertextError):
        sealed.unseal(secret[:-1], second.config.at.key_files, bundle.context(pair))


def test_what_the_standby_decides_after_the_change_comes_back_and_is_not_taken_twice(first: Site, second: Site) -> None:
    first.promote(VERSION)
    receive(second, VERSION)
    boxes.carry(first, second, name="two", peer="one")
    second.promote(NEXT)
    receive(first, NEXT)

    back = boxes.carry(second, first, name="one", peer="two")

    assert (back.people, back.promotions, back.waits) == (0, 1, "")
    assert require_promoted(first.config.at, NEXT).number == 2
    assert boxes.carry(first, second, name="two", peer="one").promotions == 0


def test_a_box_set_up_anew_gets_from_the_one_in_service_what_a_lost_one_decided(
    first: Site, second: Site, tmp_path: Path
) -> None:
    """
    The first box promotes and makes a key; the second takes over and goes on; the first one is lost for good.
    A new box is introduced to the second, as its standby.
    Whoever it lacks, and whatever it cannot serve, would be found out with the next failure.
    """
    made = make_key(first)
    first.promote(VERSION)
    receive(second, VERSION)
    boxes.carry(first, second, name="two", peer="one")
    second.promote(NEXT)
    new = boxes.set_up_anew(second, tmp_path / "new")
    receive(new, VERSION)

    waiting = boxes.carry(second, new, name="new", peer="two")
    (told,) = status.read(new.config, ledger=new.ledger, clock=new.clock)
    receive(new, NEXT)
    done = boxes.take(new, "two")

    assert (waiting.people, waiting.promotions, waiting.keys) == (2, 1, 1)
    assert "not registered" in waiting.waits
    assert told.waiting == 1
    assert (done.promotions, done.waits) == (1, "")
    ids = [[leaf.body["person"] for leaf in box.ledger.find(kind="person.enrolled", limit=9)] for box in (new, second)]
    assert ids[0] == ids[1]
    assert require_promoted(new.config.at, NEXT).number == 2
    leaf = new.ledger.find(kind="key.created")[0]
    assert leaf.body["secret_hmac"] == boxes.keys_of(new).hmac("api-key-pepper", made.text.encode()).hex()
    # It decides in its turn; nothing that came from the other one goes back there.
    back = boxes.carry(new, second, name="two", peer="new")
    assert (back.people, back.promotions, back.keys, back.waits) == (0, 0, 0, "")


def test_what_a_box_took_from_another_itself_it_does_not_take_again_from_a_third(
    first: Site, second: Site, tmp_path: Path
) -> None:
    first.promote(VERSION)
    receive(second, VERSION)
    boxes.carry(first, second, name="two", peer="one")
    third = boxes.open_box(tmp_path / "three")
    for box, name in ((first, "one"), (second, "two")):
        boxes.pair(box, third, names=(name, "three"))
    receive(third, VERSION)
    boxes.carry(first, third, name="three", peer="one")

    again = boxes.carry(second, third, name="three", peer="two")

    assert (again.people, again.promotions, again.waits) == (0, 0, "")


def test_two_boxes_that_decided_apart_are_left_to_people(first: Site, second: Site) -> None:
    boxes.carry(first, second, name="two", peer="one")
    first.promote(VERSION)
    second.promote(NEXT)
    receive(second, VERSION)

    taken = boxes.carry(first, second, name="two", peer="one")

    assert taken.promotions == 0
    assert "does not follow" in taken.waits
    assert second.client.current()["model_digest"] == NEXT


def test_a_box_that_goes_back_follows_again_and_the_other_one_passes_over_what_it_left(
    first: Site, second: Site
) -> None:
    apart, later = digest("apart"), digest("later")
    first.promote(VERSION)
    receive(second, VERSION)
    boxes.carry(first, second, name="two", peer="one")
    first.promote(NEXT)
    second.promote(apart)
    for box, version in ((second, NEXT), (first, apart), (first, later)):
        receive(box, version)
    for source, target, name, peer in ((first, second, "two", "one"), (second, first, "one", "two")):
        stuck = boxes.carry(source, target, name=name, peer=peer)
        assert (stuck.promotions, stuck.passed) == (0, 0)
        assert "does not follow" in stuck.waits

    second.client.rollback(person=signatories()[0].id, reason="this box is to follow")
    still = boxes.carry(second, first, name="one", peer="two")
    followed = boxes.carry(first, second, name="two", peer="one")
    passed = boxes.carry(second, first, name="one", peer="two")
    again = boxes.carry(second, first, name="one", peer="two")
    (told,) = status.read(first.config, ledger=first.ledger, clock=first.clock)

    assert "does not follow" in still.waits  # it went back, and does not serve what this box serves yet
    assert (followed.promotions, followed.waits) == (1, "")
    assert (passed.promotions, passed.passed, passed.waits) == (0, 2, "")
    assert (again.passed, told.waiting) == (0, 0)
    assert first.ledger.find(kind="standby.taken-over", limit=1)[0].body["passed"] == 2
    second.promote(later)
    assert boxes.carry(second, first, name="one", peer="two").promotions == 1
    assert first.client.current()["model_digest"] == later


def test_a_stop_that_the_other_box_has_left_again_stops_nothing_here(first: Site, second: Site) -> None:
    """Both boxes stop production apart, both bring it back; the second one then takes over what the first one did."""
    first.promote(VERSION)
    receive(second, VERSION)
    boxes.carry(first, second, name="two", peer="one")
    for box in (first, second):
        box.client.stop(person=signatories()[0].id, reason="apart")
        box.clock.advance(60)
        box.promote(VERSION)

    followed = boxes.carry(first, second, name="two", peer="one")
    back = boxes.carry(second, first, name="one", peer="two")

    assert (followed.promotions, followed.waits) == (2, "")
    assert (back.promotions, back.passed, back.waits) == (0, 2, "")
    assert first.client.current()["model_digest"] == VERSION


def test_no_record_that_only_says_so_lets_a_promotion_be_passed_over(first: Site, second: Site) -> None:
    """The second box's root writes that it follows the first one: with another leaf than the first one recorded."""
    boxes.carry(first, second, name="two", peer="one")
    first.promote(VERSION)
    second.promote(NEXT)
    made = second.ledger.find(kind="promotion.made", limit=1)[0].body
    for sequence, leaf_hash in ((3, digest("a leaf")), (9999, digest("none"))):
        mark = {"origin": first.ledger.head().origin, "sequence": sequence, "leaf_hash": leaf_hash}
        second.ledger.append("promotion.made", {**made, "carried": mark})

    taken = boxes.carry(second, first, name="one", peer="two")

    assert (taken.promotions, taken.passed) == (0, 0)
    assert "does not follow" in taken.waits


def test_a_promotion_is_judged_again_by_the_standbys_own_people_and_gates(first: Site, second: Site) -> None:
    """A primary that was taken over by its root records a promotion nobody signed, or whose gates failed."""
    made = first.promote(VERSION)
    receive(second, VERSION)
    receive(second, NEXT)
    boxes.carry(first, second, name="two", peer="one")
    body = dict(first.ledger.leaf(made.sequence).body)
    first.ledger.append("promotion.made", {**body, "model_digest": NEXT, "previous": VERSION})

    taken = boxes.carry(first, second, name="two", peer="one")

    assert taken.promotions == 0
    assert "another version than its statement" in taken.waits


def test_a_level_that_may_not_serve_production_is_not_taken_over_either(first: Site, second: Site) -> None:
    first.promote(VERSION)
    receive(second, VERSION, level="Q2_K")

    taken = boxes.carry(first, second, name="two", peer="one")

    assert taken.promotions == 0
    assert "its level is Q2_K" in taken.waits
    assert second.ledger.find(kind="promotion.made", limit=1) == []


def test_evidence_of_failed_gates_opens_no_way(first: Site, second: Site) -> None:
    first.promote(VERSION)
    receive(second, VERSION)
    copy = copied(first, second)
    for leaf in copy.leaves(0, 1000, kinds=["person.enrolled"]):
        second.client.carry("one", Carried.of(copy, leaf.sequence), [])
    record = Carried.of(copy, copy.find(kind="promotion.made")[0].sequence)
    gates = [Carried.of(copy, leaf.sequence) for leaf in copy.find(kind="gate.result")]

    for evidence in ([], gates[1:]):
        with pytest.raises(SealiftError, match="not proven"):
            second.client.carry("one", record, evidence)

    assert second.client.carry("one", record, gates)
    with pytest.raises(ConflictError):
        second.client.carry("one", record, gates)


def test_under_another_policy_what_every_policy_asks_is_still_asked(first: Site, second: Site) -> None:
    first.promote(VERSION)
    receive(second, VERSION)
    copy = copied(first, second)
    for leaf in copy.leaves(0, 1000, kinds=["person.enrolled"]):
        second.client.carry("one", Carried.of(copy, leaf.sequence), [])
    people = signatories()[:2]
    text = 'format = 1\nname = "ward"\n[task_evaluation]\nminimum_accuracy_millis = 400\n'
    request = second.client.request_policy(policy=text, meaning="ours", requested_by=people[0].id)
    for person in people:
        second.client.approve_policy(request.statement.sha256, person.sign(request.statement.to_bytes()))
    record = Carried.of(copy, copy.find(kind="promotion.made")[0].sequence)
    gates = {leaf.body["gate"]: Carried.of(copy, leaf.sequence) for leaf in copy.find(kind="gate.result")}

    for gate in IN_EVERY_POLICY:
        with pytest.raises(SealiftError, match="not proven") as caught:
            second.client.carry("one", record, [one for name, one in gates.items() if name != gate])
        assert caught.value.why == f"missing: {gate}"

    assert second.client.carry("one", record, [gates[name] for name in IN_EVERY_POLICY])


def test_only_roots_door_may_take_over(first: Site, second: Site) -> None:
    copy = copied(first, second)
    record = Carried.of(copy, copy.find(kind="person.enrolled")[0].sequence)

    for door in ("promoter-admin", "promoter-operator"):
        with pytest.raises(SealiftError, match="not for this door"):
            second.at_door(door).carry("one", record, [])


def test_people_enrolled_with_another_key_on_both_boxes_stop_it(first: Site, second: Site) -> None:
    ana, _, chi, dag = signatories()
    codes = second.client.codes(2)
    second.client.enrol(code=codes[0], name=ana.name, certificate=chi.certificate, password=PASSWORD)
    second.client.enrol(code=codes[1], name=dag.name, certificate=dag.certificate, password=PASSWORD)

    taken = boxes.carry(first, second, name="two", peer="one")

    assert taken.people == 0
    assert "cannot be enrolled" in taken.waits


def altered_leaf(made: keeping.Made, _: Site) -> tuple[bytes, bytes]:
    return made.envelope, made.leaves.replace(b'"person.enrolled"', b'"person.enrollee"', 1)


def cut_leaves(made: keeping.Made, _: Site) -> tuple[bytes, bytes]:
    return made.envelope, made.leaves[: made.leaves.rindex(b"\n", 0, -1) + 1]


def signed_by_the_receiver(made: keeping.Made, second: Site) -> tuple[bytes, bytes]:
    payload = b64decode(json.loads(made.envelope)["payload"])
    return vouched.vouch(bundle.PAYLOAD_TYPE, payload, boxes.signer(second)), made.leaves


def as_another_type(made: keeping.Made, _: Site) -> tuple[bytes, bytes]:
    return made.envelope.replace(b"standby-bundle", b"standby-bundlf"), made.leaves


@pytest.mark.parametrize("change", [altered_leaf, cut_leaves, signed_by_the_receiver, as_another_type])
def test_a_bundle_that_is_not_what_the_peer_signed_changes_nothing(
    first: Site, second: Site, change: Callable[[keeping.Made, Site], tuple[bytes, bytes]]
) -> None:
    made = boxes.bundle(first, "two")
    envelope, leaves = change(made, second)

    with pytest.raises(SealiftError):
        keeping.grow(second.config, envelope, leaves, peer="one", ledger=second.ledger)

    assert status.read(second.config, ledger=second.ledger, clock=second.clock)[0].mirrored == 0
    assert second.ledger.find(kind="standby.imported") == []


def test_a_bundle_for_another_box_is_refused(first: Site, second: Site, tmp_path: Path) -> None:
    third = boxes.open_box(tmp_path / "three")
    one, three = boxes.card(first, "one"), boxes.card(third, "three")
    halves = boxes.half(first, three, is_first=True), boxes.half(third, one, is_first=False)
    introducing.join(first.config, *halves, ledger=first.ledger)
    introducing.join(third.config, halves[1], halves[0], ledger=third.ledger)

    with pytest.raises(PairingRefusedError, match="refused"):
        boxes.grow(third, boxes.bundle(first, "two"), "one")


def test_a_gap_is_named_with_what_closes_it(first: Site, second: Site) -> None:
    boxes.bundle(first, "two")  # lost on the way
    first.promote(VERSION)

    with pytest.raises(PairingRefusedError) as refused:
        boxes.grow(second, boxes.bundle(first, "two"), "one")

    assert "--since 0" in refused.value.why
    assert boxes.grow(second, boxes.bundle(first, "two", since=0), "one").before == 0


def test_a_bundle_of_before_is_no_fork_and_a_wrong_number_no_fault_of_the_other_box(first: Site, second: Site) -> None:
    older = boxes.bundle(first, "two", since=0)
    first.promote(VERSION)
    boxes.grow(second, boxes.bundle(first, "two", since=0), "one")

    with pytest.raises(PairingRefusedError) as refused:
        boxes.grow(second, older, "one")
    assert "older" in refused.value.what
    assert "fork" not in refused.value.fix
    with pytest.raises(PairingRefusedError) as mistyped:
        boxes.bundle(first, "two", since=99_999)
    assert "give the number" in mistyped.value.fix


def test_a_primary_whose_ledger_was_rewritten_or_cut_is_not_mirrored(first: Site, second: Site) -> None:
    kept, before = boxes.grow(second, boxes.bundle(first, "two"), "one"), first.ledger.log
    pinned = require_paired(second.config.at, "one").peer
    fork = MemoryBackend()
    rows = before.backend.rows(0, kept.size)  # the same beginning, then other history, by the same key
    frontier: list[bytes] = []
    for row in rows[:-2]:
        fork.append([row], tree.push(frontier, row.sequence, row.hash))
    keys = boxes.keys_of(first)
    signer = Signer(public=keys.public("ledger-checkpoint"), sign=lambda data: keys.sign("ledger-checkpoint", data))
    first.ledger.log = Log.open(fork, clock=first.clock, site="demo", signer=signer)

    with pytest.raises(PairingRefusedError):
        boxes.grow(second, boxes.bundle(first, "two", since=0), "one")
    for _ in range(5):
        first.ledger.append("key.revoked", {"key_id": "abc", "reason": "rewritten"})
    with pytest.raises(PairingRefusedError, match="mirror"):
        boxes.grow(second, boxes.bundle(first, "two", since=0), "one")

    copy = OfflineLedger.of_folder(mirror.folder_of(second.config.at, pinned), clock=second.clock)
    assert copy.head().size == kept.size


def test_a_box_whose_disk_was_put_back_learns_it_from_what_the_other_one_recorded(first: Site, second: Site) -> None:
    image = first.ledger.log.backend.rows(0, 999)
    kept, whole = boxes.grow(second, boxes.bundle(first, "two"), "one"), first.ledger.log
    fork, frontier = MemoryBackend(), list[bytes]()
    for row in image:
        fork.append([row], tree.push(frontier, row.sequence, row.hash))
    first.ledger.log = Log.open(fork, clock=first.clock, site="demo", signer=boxes.signer(first))
    for number in range(kept.size):  # by now its new history is longer than the one that was lost
        first.ledger.append("key.revoked", {"key_id": "abc", "reason": str(number)})
    before = len(fork.rows(0, 999))

    with pytest.raises(PairingRefusedError, match="lost records that two holds"):
        boxes.grow(first, boxes.bundle(second, "one"), "two")
    with pytest.raises(PairingRefusedError, match="lost records that two holds"):
        boxes.bundle(first, "two")

    assert len(fork.rows(0, 999)) > before  # what came is kept and recorded all the same
    first.ledger.log = whole
    assert boxes.bundle(first, "two").size > kept.size


def test_status_says_how_far_the_mirror_is_and_what_waits(first: Site, second: Site) -> None:
    first.ledger.append("install.done", {"serial": 7, "release": "2026.11"})
    first.promote(VERSION)
    boxes.carry(first, second, name="two", peer="one")

    (found,) = status.read(second.config, ledger=second.ledger, clock=second.clock)

    assert (found.waiting, found.missing) == (1, (7,))
    assert "lacks serial 7" in found.line()
    assert found.pair.relation is Relation.STANDBY


def test_a_bundle_goes_through_a_folder_as_it_is(first: Site, second: Site, tmp_path: Path) -> None:
    made = boxes.bundle(first, "two")

    keeping.write(tmp_path / "medium", made)
    shutil.copytree(tmp_path / "medium", tmp_path / "carried")

    assert keeping.read(tmp_path / "carried") == (made.envelope, made.leaves)
    assert b"api-key" not in made.envelope


def test_a_reset_and_new_roles_reach_the_standby_and_void_there_what_they_void_here(first: Site, second: Site) -> None:
    ana, ben, chi, *_ = signatories()
    boxes.carry(first, second, name="two", peer="one")
    vouchers = [(one.id, PASSWORD) for one in (ana, ben)]
    code = first.client.invite(vouchers)
    first.client.enrol(code=code, name=chi.name, certificate=chi.certificate, password=PASSWORD)
    first.client.give_roles(chi.id, ["operator"], vouchers)
    first.client.reset(chi.id, vouchers)

    taken = boxes.carry(first, second, name="two", peer="one")

    assert (taken.people, taken.waits) == (3, "")
    found = second.folder.people().require_active(chi.id)
    assert (found.present, found.roles) == ((), ("operator",))
    assert found.counts_from == first.folder.people().require_active(chi.id).counts_from
    assert second.ledger.find(kind="person.reset")[0].body["carried"]["origin"] == first.ledger.head().origin


def test_a_promotion_of_what_is_in_doubt_here_waits_and_serves_nobody(first: Site, second: Site) -> None:
    first.promote(VERSION)
    receive(second, VERSION)
    second.ledger.append(DOUBTED, {"model_digests": [VERSION]})

    waiting = boxes.carry(first, second, name="two", peer="one")

    assert (waiting.people, waiting.promotions) == (2, 0)
    assert "came with a release in doubt" in waiting.waits
    assert second.client.current()["model_digest"] is None
    second.ledger.append(DOUBTED, {"model_digests": []})  # a release under other keys brought it
    assert boxes.take(second, "one").promotions == 1


def test_a_reset_that_is_carried_ends_the_password_that_a_signature_gave_here(first: Site, second: Site) -> None:
    ana, ben, chi, _ = signatories()
    vouchers = [(ana.id, PASSWORD), (ben.id, PASSWORD)]
    code = first.client.invite(vouchers)
    first.client.enrol(code=code, name=chi.name, certificate=chi.certificate, password=PASSWORD)
    boxes.carry(first, second, name="two", peer="one")
    presented = Presented(signature=chi.sign(second.client.password_statement(chi.id)))
    second.client.set_first_password(chi.id, presented, PASSWORD)
    assert second.client.login(chi.id, PASSWORD)["person"] == chi.id

    first.client.reset(chi.id, vouchers)
    boxes.carry(first, second, name="two", peer="one")

    with pytest.raises(UnknownPersonError):
        second.client.login(chi.id, PASSWORD)
