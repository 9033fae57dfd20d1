"""A paired box goes on believing the other after its ledger's key was rotated, and nobody who has the old key."""

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.actions.standby import introducing, keeping, reporting
from appliance.audit import note, rotating, succession, tree
from appliance.audit.client import OfflineLedger
from appliance.audit.leaf import Via
from appliance.audit.log import Entry, Log, Signer
from appliance.audit.memory import MemoryBackend
from appliance.audit.verify import verify
from appliance.errors import PairingRefusedError
from appliance.standby import bundle, mirror, peerkeys, vouched
from appliance.standby.carried import Carried
from appliance.standby.pairing import Relation, require_paired
from appliance.standby.report import PAYLOAD_TYPE, Report
from media.dsse import Envelope
from media.errors import SealiftError
from tests.support import boxes
from tests.support.boxes import first, second
from tests.support.promotion import Site, digest
from tests.support.signatories import signatories
from tests.unit.appliance.standby.test_keeping import receive
from tests.unit.appliance.standby.test_report import accept, register, report_of

__all__ = ["first", "second"]  # fixtures

VERSION, NEXT = digest("version"), digest("next")


def versions(box: Site) -> tuple[int, ...]:
    return boxes.keys_of(box).versions(rotating.KEY_NAME)


def old_signer(box: Site, version: int = 1) -> Signer:
    """Return what somebody signs with who took a copy of an older key."""
    return rotating.signer_of(boxes.keys_of(box), version)


def test_the_standby_follows_a_rotation_and_takes_what_was_decided_after_it(first: Site, second: Site) -> None:
    boxes.carry(first, second, name="two", peer="one")
    for version in (VERSION, NEXT):
        boxes.rotate(first)
        first.promote(version)
        receive(second, version)

    taken = boxes.carry(first, second, name="two", peer="one")

    assert (taken.promotions, taken.waits) == (2, "")
    peer = require_paired(second.config.at, "one").peer
    copy = OfflineLedger.of_folder(mirror.folder_of(second.config.at, peer), clock=second.clock)
    assert verify(copy, pinned=peer.vkey).findings == ()
    told = second.ledger.find(kind="standby.key-followed", newest_first=False)
    held = first.ledger.log.keys.of(peer.origin)
    assert [leaf.body["vkey"] for leaf in told] == [one.key.to_text() for one in held[1:]]
    boxes.grow(second, boxes.bundle(first, "two"), "one")
    assert len(second.ledger.find(kind="standby.key-followed")) == 2


def test_a_rotation_before_the_first_bundle_and_on_both_boxes_is_followed(first: Site, second: Site) -> None:
    boxes.rotate(first)
    boxes.rotate(second)
    first.promote(VERSION)
    receive(second, VERSION)

    there = boxes.carry(first, second, name="two", peer="one")
    second.promote(NEXT)
    receive(first, NEXT)
    back = boxes.carry(second, first, name="one", peer="two")

    assert (there.promotions, there.waits) == (1, "")
    assert (back.promotions, back.waits) == (1, "")


def test_what_the_older_key_signs_after_it_is_refused(first: Site, second: Site) -> None:
    boxes.rotate(first)
    boxes.grow(second, boxes.bundle(first, "two"), "one")
    before = len(second.ledger.find(kind="standby.imported"))
    made = boxes.bundle(first, "two")
    payload = Envelope.from_bytes(made.envelope).payload
    stolen = vouched.vouch(bundle.PAYLOAD_TYPE, payload, old_signer(first))

    with pytest.raises(PairingRefusedError, match="refused"):
        keeping.grow(second.config, stolen, made.leaves, peer="one", ledger=second.ledger)

    box = require_paired(second.config.at, "one").peer
    record = Carried.of(first.ledger, 0)
    text, _ = note.parts(record.proof.note)
    by_old = replace(record, proof=replace(record.proof, note=note.sign(text, box.vkey, old_signer(first).sign)))
    assert record.require(box, peerkeys.known(second.ledger, box)).sequence == 0
    with pytest.raises(SealiftError, match="not one of this ledger's keys"):
        by_old.require(box, peerkeys.known(second.ledger, box))
    assert len(second.ledger.find(kind="standby.imported")) == before


def test_a_rotation_to_somebody_elses_key_that_the_box_did_not_sign_is_refused(
    first: Site, second: Site, tmp_path: Path
) -> None:
    """Somebody builds a ledger of the box's own beginning that goes on under a key of theirs."""
    boxes.grow(second, boxes.bundle(first, "two"), "one")
    thief, log = boxes.signer(boxes.open_box(tmp_path / "three")), first.ledger.log
    boxes.rotate(first)
    (leaf,) = log.find(kind=succession.ROTATED)
    body = dict(leaf.body)
    head = succession.read(leaf, log.keys.of(log.origin)[0].key)[1]
    forged = succession.body_of(
        head,
        old=succession.Signing(key=log.keys.of(log.origin)[0].key, sign=thief.sign),
        new=succession.Signing(key=replace(log.key, public=thief.public), sign=thief.sign),
        reason=str(body["reason"]),
        version=2,
    )
    fork, frontier = MemoryBackend(), list[bytes]()
    for row in log.backend.rows(0, leaf.sequence):
        fork.append([row], tree.push(frontier, row.sequence, row.hash))
    other = Log.open(fork, clock=first.clock, site="demo", signer=old_signer(first))
    other.append([Entry.of(succession.ROTATED, forged, via=Via(door="ledger", uid=0))])
    records = [row.raw for row in fork.rows(0, 1000)]

    with pytest.raises(SealiftError, match="signed note"):
        peerkeys.followed(second.ledger, require_paired(second.config.at, "one").peer, records)

    assert second.ledger.find(kind="standby.key-followed") == []


def test_a_second_rotation_by_whoever_has_the_old_key_is_refused_once_the_box_said_otherwise(
    first: Site, second: Site
) -> None:
    boxes.rotate(first)
    boxes.grow(second, boxes.bundle(first, "two"), "one")
    log, box = first.ledger.log, require_paired(second.config.at, "one").peer
    old, new = (held.key for held in log.keys.of(log.origin))
    size = log.head().size
    theirs = boxes.keys_of(second)
    third = rotating.signer_of(theirs, theirs.create(rotating.KEY_NAME))
    body = succession.body_of(
        note.Checkpoint(origin=log.origin, size=size, root=bytes.fromhex(log.head().root)),
        old=succession.Signing(key=old, sign=old_signer(first).sign),
        new=succession.Signing(key=replace(new, public=third.public), sign=third.sign),
        reason="theirs",
        version=9,
    )
    fork, frontier = MemoryBackend(), list[bytes]()
    for row in log.backend.rows(0, size):
        fork.append([row], tree.push(frontier, row.sequence, row.hash))
    other = Log.open(fork, clock=first.clock, site="demo", signer=boxes.signer(first))
    other.append([Entry.of(succession.ROTATED, body, via=Via(door="ledger", uid=0))])

    with pytest.raises(SealiftError, match="rotates no key"):
        peerkeys.followed(second.ledger, box, [fork.rows(size, 1)[0].raw])


def test_a_record_that_leads_nowhere_stops_nobody(first: Site, second: Site) -> None:
    """Any process that may record something about boxes could have written it."""
    boxes.rotate(first)
    origin = first.ledger.head().origin
    second.ledger.append(peerkeys.FOLLOWED, {"peer": "one", "origin": origin, "vkey": "x", "record": "{}"})
    second.ledger.append(peerkeys.FOLLOWED, {"peer": "one", "origin": origin})

    boxes.grow(second, boxes.bundle(first, "two"), "one")

    assert len(peerkeys.known(second.ledger, require_paired(second.config.at, "one").peer).of(origin)) == 2


def test_a_card_is_made_anew_after_a_rotation_and_pairs_with_a_third_box(
    first: Site, second: Site, tmp_path: Path
) -> None:
    stale, third = boxes.card(first, "one"), boxes.open_box(tmp_path / "three")
    three = boxes.card(third, "three")
    old_half = boxes.half(first, three, is_first=True, relation=Relation.TEST)
    boxes.rotate(first)
    with pytest.raises(PairingRefusedError, match="refused") as refused:
        boxes.half(first, three, is_first=True, relation=Relation.TEST)
    assert "rotated since" in refused.value.why

    fresh = boxes.card(first, "one")

    assert (fresh.card.channel, fresh.card.sealing) == (stale.card.channel, stale.card.sealing)
    assert fresh.card.code != stale.card.code
    mine = boxes.half(first, three, is_first=True, relation=Relation.TEST)
    theirs = boxes.half(third, fresh, is_first=False, relation=Relation.TEST)
    with pytest.raises(PairingRefusedError):
        introducing.join(first.config, old_half, theirs, ledger=first.ledger)
    introducing.join(third.config, theirs, mine, ledger=third.ledger)
    introducing.join(first.config, mine, theirs, ledger=first.ledger)
    boxes.rotate(first)
    assert boxes.grow(third, boxes.bundle(first, "three"), "one").size == first.ledger.head().size
    assert boxes.carry(first, second, name="two", peer="one").waits == ""  # paired before, by the older card


def test_a_report_of_the_test_appliance_brings_the_keys_that_signed_it(tmp_path: Path) -> None:
    production, tester = boxes.open_box(tmp_path / "one"), boxes.open_box(tmp_path / "two")
    boxes.pair(production, tester, Relation.TEST)
    production.enrol(*signatories()[:2])
    register(production)
    boxes.rotate(tester)
    report = report_of(tester)
    altered = replace(Report.from_payload(Envelope.from_bytes(report).payload), succession=())
    bare = vouched.vouch(PAYLOAD_TYPE, altered.to_payload(), boxes.signer(tester))
    with pytest.raises(PairingRefusedError):
        accept(production, bare)
    stolen = vouched.vouch(PAYLOAD_TYPE, Envelope.from_bytes(report).payload, old_signer(tester))
    with pytest.raises(PairingRefusedError):
        accept(production, stolen)
    assert production.ledger.find(kind="standby.key-followed") == []

    reporting.accept(production.config, "two", report, ledger=production.ledger, clock=production.clock, dry_run=True)
    assert production.ledger.find(kind="standby.key-followed") == []
    accept(production, report)

    assert len(production.ledger.find(kind="standby.key-followed")) == 1
    with pytest.raises(PairingRefusedError):
        accept(production, vouched.vouch(PAYLOAD_TYPE, altered.to_payload(), old_signer(tester)))
