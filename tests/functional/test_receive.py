"""Receiving end to end, with the copier as a real child process: what is accepted, what is refused, what stays."""

import base64
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib import dsse

from appliance.actions import believing
from appliance.actions.recorded import RECEIVED
from appliance.audit.spool import Spool
from appliance.errors import NoSpaceError, StoreBusyError, StoreWriteError
from appliance.keys.files import FileKeys, create_missing
from appliance.store.content import StoredRelease
from appliance.store.incoming import publish
from appliance.verify import trust
from appliance.verify.freshness import CustodyAcceptance, Decisions, StaleAcceptance
from media import layout
from media.errors import CustodyError, NoTrustError, SealiftError, StaleError, UsageError, WrongEnvironmentError
from tests.support.medium import SimulatedMedium, make_medium, throwaway_ceremony
from tests.support.receiving import Shelf, Site, copy_here, make_site, rotated

pytestmark = pytest.mark.slow  # whole commands and processes, seconds in all

Spoil = Callable[[SimulatedMedium], object]


def test_a_first_release_is_received_recorded_and_believed(tmp_path: Path, genuine: Shelf) -> None:
    medium = genuine()
    site = make_site(tmp_path / "box", medium.root_json)

    facts = site.receive(medium)

    assert (facts.outcome, facts.release, facts.serial, facts.code) == ("received", "demo-1", 1, medium.code)
    assert site.record.serial == 1
    assert site.record.timestamp_version == 1000
    assert site.record.floor == datetime(2026, 11, 20, 7, 0, tzinfo=UTC)
    release = StoredRelease.load(site.store, 1)
    assert {path: release.read(path) for path in release.files} == medium.payload
    (record,) = site.facts("release.")
    assert record["kind"] == "release.received"
    assert record["body"]["code"] == medium.code
    assert record["body"]["site"] == "demo-clinic"
    assert [signer["name"] for signer in record["body"]["signers"]] == ["Alice Archer", "Bob Baker"]
    assert site.seen[-1][0] == site.seen[-1][1] == facts.moved["read_bytes"]
    assert os.listdir(site.store.incoming) == []  # noqa: PTH208
    assert not (site.config.at.trust / believing.PENDING).exists()


def test_the_next_release_is_received_beside_the_first(site: Site, genuine: Shelf) -> None:
    facts = site.receive(genuine(serial=2))

    assert facts.outcome == "received"
    assert [release.serial for release in site.store.releases()] == [1, 2]
    assert site.record.serial == 2


def test_the_same_release_again_is_read_and_proven_and_changes_nothing(site: Site, genuine: Shelf) -> None:
    before = site.untouched()
    medium = genuine()

    facts = site.receive(medium)

    assert facts.outcome == "reverified"
    assert facts.moved["read_bytes"] == sum(map(len, medium.payload.values()))
    assert facts.moved["written_bytes"] == 0
    assert site.untouched() == before
    assert site.facts()[-1]["kind"] == "release.reverified"


@pytest.mark.parametrize("serial", [1, 2])
def test_what_was_received_is_not_recorded_as_refused_for_want_of_a_receipt(
    site: Site, genuine: Shelf, serial: int
) -> None:
    shutil.rmtree(site.config.at.receipts)
    site.config.at.receipts.write_text("no folder")

    with pytest.raises(StoreWriteError, match="the receipt could not be written"):
        site.receive(genuine(serial=serial))

    assert site.record.serial == serial
    assert site.facts()[-1]["kind"] == ("release.reverified" if serial == 1 else "release.received")
    site.config.at.receipts.unlink()
    assert site.receive(genuine(serial=serial)).receipt.startswith(f"receipt-{serial}-")


def test_a_release_that_is_recorded_and_not_yet_in_place_is_not_refused(
    site: Site, genuine: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise NoSpaceError(what="the disk is full")

    with monkeypatch.context() as disk:
        disk.setattr(believing, "publish", full)
        with pytest.raises(NoSpaceError):
            site.receive(genuine(serial=2))
    assert [fact["kind"] for fact in site.facts()] == ["release.received", "release.received"]

    assert site.receive(genuine(serial=2)).outcome == "reverified"
    assert len(site.facts("release.received")) == 2


def test_the_same_release_again_with_a_flipped_bit_is_refused(site: Site, genuine: Shelf) -> None:
    before = site.untouched()
    medium = genuine()
    medium.flip_bit("data/models/tiny/tiny.gguf", offset=5000)

    with pytest.raises(SealiftError) as refusal:
        site.receive(medium)

    assert refusal.value.exit_code == 15
    assert site.untouched() == before


def test_a_release_signed_anew_gives_its_newer_signatures_only(site: Site, genuine: Shelf) -> None:
    objects = {name for name in site.untouched() if "/objects/" in name}
    again = genuine(issue=1)

    facts = site.receive(again)

    assert facts.outcome == "reissued"
    assert site.record.timestamp_version == 1001
    assert StoredRelease.load(site.store, 1).code == again.code
    assert {name for name in site.untouched() if "/objects/" in name} == objects
    assert site.facts()[-1]["body"]["reissued"]


def _flip(name: str) -> Spoil:
    return lambda medium: medium.flip_bit(name)


def _flip_signature(medium: SimulatedMedium) -> None:
    medium.flip_bit(medium.signature("bob").name, offset=-1)


def _beside(medium: SimulatedMedium) -> None:
    (medium.volumes[0] / "holiday.jpg").write_bytes(b"")


def _link(medium: SimulatedMedium) -> None:
    medium.remove("data/debs/Packages")
    (medium.volumes[0] / "release/data/debs/Packages").symlink_to("/etc/passwd")


def _pipe(medium: SimulatedMedium) -> None:
    medium.remove("data/debs/Packages")
    os.mkfifo(medium.volumes[0] / "release/data/debs/Packages")


def _same_volume_twice(medium: SimulatedMedium) -> None:
    medium.volumes[1] = medium.volumes[0]


def _foreign_volume(medium: SimulatedMedium) -> None:
    medium.volumes[1] = make_medium(medium.folder / "foreign", serial=3).volumes[1]


def _flip_custody(medium: SimulatedMedium) -> None:
    entry = next((medium.volumes[0] / layout.CUSTODY).iterdir())
    data = bytearray(entry.read_bytes())
    data[100] ^= 1
    entry.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "exit_code"),
    [
        pytest.param(lambda medium: medium.add("metadata/2.root.json", b"{"), 10, id="malformed"),
        pytest.param(lambda medium: medium.remove("data/evals/tiny.jsonl"), 11, id="missing file"),
        pytest.param(lambda medium: medium.add("data/extra"), 12, id="extra file"),
        pytest.param(_beside, 12, id="extra file beside the release"),
        pytest.param(_link, 13, id="link"),
        pytest.param(_pipe, 13, id="pipe"),
        pytest.param(_same_volume_twice, 14, id="swapped volume"),
        pytest.param(_foreign_volume, 14, id="foreign volume"),
        pytest.param(_flip("data/models/tiny/tiny.gguf"), 15, id="weights"),
        pytest.param(_flip("data/wheels/tiny-1.0-py3-none-any.whl"), 15, id="wheel"),
        pytest.param(_flip("attest/sbom.dsse.json"), 15, id="attestation"),
        pytest.param(_flip("check/VERIFY.txt"), 15, id="check"),
        pytest.param(_flip("metadata/2.targets.json"), 15, id="metadata"),
        pytest.param(lambda medium: medium.volumes.pop(), 17, id="missing volume"),
        pytest.param(_flip_signature, 20, id="flipped signature"),
        pytest.param(_flip("tagmanifest-sha256.txt"), 20, id="tag manifest"),
        pytest.param(lambda medium: medium.drop_signature("bob"), 21, id="one signature gone"),
        pytest.param(lambda medium: medium.sign_twice_as("alice", instead_of="bob"), 22, id="one person twice"),
        pytest.param(_flip_custody, 26, id="custody"),
    ],
)
def test_a_refusal_changes_nothing_and_is_recorded_once(
    site: Site, genuine: Shelf, spoil: Spoil, exit_code: int
) -> None:
    medium = genuine(serial=2)
    before, recorded = site.untouched(), len(site.facts())

    spoil(medium)
    with pytest.raises(SealiftError) as refusal:
        site.receive(medium)

    assert refusal.value.exit_code == exit_code
    assert refusal.value.what
    assert refusal.value.fix
    assert str(medium.folder) not in str(refusal.value.to_json())
    assert site.untouched() == before
    records = site.facts()[recorded:]
    kind = "release.partly-received" if exit_code == 17 else "release.refused"
    assert [(each["kind"], each["body"]["error"]) for each in records] == [(kind, refusal.value.code)]


@pytest.mark.parametrize(
    ("facts", "exit_code"), [({"serial": 2, "sites": ("other",)}, 24), ({"serial": 1002}, 100)], ids=["site", "jump"]
)
def test_a_release_that_is_not_for_here_or_not_for_now_is_refused(
    site: Site, genuine: Shelf, facts: dict[str, Any], exit_code: int
) -> None:
    before = site.untouched()

    with pytest.raises(SealiftError) as refusal:
        site.receive(genuine(**facts))

    assert refusal.value.exit_code == exit_code
    assert site.untouched() == before
    assert site.facts()[-1]["body"]["release"] == f"demo-{facts['serial']}"


def test_a_superseded_release_is_refused_whatever_people_accept(site: Site, genuine: Shelf) -> None:
    site.receive(genuine(serial=2))
    before = site.untouched()
    older = genuine()
    stale = StaleAcceptance(code=older.code, reason="because", names=("Ann", "Bo"))
    custody = CustodyAcceptance(name="Ann", reason="because")

    with pytest.raises(SealiftError) as refusal:
        site.receive(older, decisions=Decisions(stale=stale, custody=custody))

    assert refusal.value.exit_code == 23
    assert site.untouched() == before


def test_a_stale_release_is_received_when_two_people_take_it_by_its_code(site: Site, genuine: Shelf) -> None:
    medium = genuine(serial=2, stale_after="2026-11-20T09:00:00Z")
    before = site.untouched()
    with pytest.raises(StaleError):
        site.receive(medium)
    assert site.untouched() == before

    stale = StaleAcceptance(code=medium.code, reason="no courier until spring", names=("Ann", "Bo"))
    facts = site.receive(medium, decisions=Decisions(stale=stale))

    assert facts.outcome == "received"
    said = {"names": ["Ann", "Bo"], "reason": "no courier until spring"}
    assert site.facts()[-1]["body"]["accepted_stale_by"] == said


def test_odd_custody_is_received_when_a_person_takes_it_by_name(site: Site, genuine: Shelf) -> None:
    medium = genuine(serial=2)
    _flip_custody(medium)
    with pytest.raises(CustodyError):
        site.receive(medium)

    facts = site.receive(medium, decisions=Decisions(custody=CustodyAcceptance(name="Dana", reason="seals intact")))

    assert facts.outcome == "received"
    custody = site.facts()[-1]["body"]["custody"]
    assert custody["accepted_by"] == {"name": "Dana", "reason": "seals intact"}
    assert custody["findings"]


def test_litter_passes(site: Site, genuine: Shelf) -> None:
    medium = genuine(serial=2)
    medium.add_litter(volume=1)
    medium.add_litter(volume=2)

    assert site.receive(medium).outcome == "received"


def test_a_dry_run_proves_every_byte_and_leaves_no_trace(site: Site, genuine: Shelf) -> None:
    medium, before, recorded = genuine(serial=2), site.untouched(), site.facts()

    facts = site.receive(medium, dry_run=True)

    assert facts.outcome == "checked"
    assert facts.moved["read_bytes"] == sum(map(len, medium.payload.values()))
    assert (site.untouched(), site.facts()) == (before, recorded)

    medium.flip_bit("data/models/tiny/tiny.gguf")
    with pytest.raises(SealiftError):
        site.receive(medium, dry_run=True)
    assert site.facts() == recorded


def test_a_rotation_is_believed_even_when_its_release_is_refused(site: Site, genuine: Shelf) -> None:
    medium = genuine(serial=2, keys=rotated(throwaway_ceremony("demo"), without="carol"))
    medium.flip_bit("data/models/tiny/tiny.gguf")

    with pytest.raises(SealiftError):
        site.receive(medium)

    assert len(site.record.root_chain) == 2
    assert site.record.serial == 1
    assert [fact["kind"] for fact in site.facts()[-2:]] == ["trust.root-rotated", "release.refused"]


def test_without_a_pinned_root_nothing_is_received_and_that_is_recorded(tmp_path: Path, genuine: Shelf) -> None:
    medium = genuine()
    site = make_site(tmp_path / "box", medium.root_json)
    (site.config.at.pinned_trust / trust.PINNED_ROOT).unlink()

    with pytest.raises(NoTrustError):
        site.receive(medium)

    assert site.facts()[-1]["body"]["error"] == "no-trust"


def test_a_lost_trust_record_stops_receiving(site: Site, genuine: Shelf) -> None:
    (site.config.at.trust / trust.RECORD).unlink()

    with pytest.raises(NoTrustError, match="lost"):
        site.receive(genuine(serial=2))


def test_a_throwaway_root_works_on_a_fresh_rehearsal_only(tmp_path: Path, genuine: Shelf, site: Site) -> None:
    medium = genuine(environment="rehearsal")
    root = tmp_path / "root.json"
    root.write_bytes(medium.root_json)
    rehearsal = make_site(tmp_path / "r", medium.root_json, environment="rehearsal")
    with pytest.raises(UsageError, match="fresh"):
        rehearsal.receive(medium, trust_root=root)
    (rehearsal.config.at.pinned_trust / trust.PINNED_ROOT).unlink()

    with pytest.raises(WrongEnvironmentError, match="throwaway"):
        rehearsal.receive(medium)

    assert rehearsal.receive(medium, trust_root=root).outcome == "received"
    with pytest.raises(UsageError, match="fresh"):
        rehearsal.receive(medium, trust_root=root)
    with pytest.raises(WrongEnvironmentError):
        site.receive(medium, trust_root=root)


def test_two_receives_exclude_each_other(site: Site, genuine: Shelf) -> None:
    with site.store.locked(), pytest.raises(StoreBusyError):
        site.receive(genuine(serial=2))


@pytest.mark.parametrize("done", ["nothing", "recorded", "published", "believed"])
def test_what_a_power_cut_left_between_the_two_writes_is_finished_by_the_next_receive(
    site: Site, genuine: Shelf, done: str
) -> None:
    # The box stands as after a cut: every byte is stored, what is to follow is laid down, and some of it was done.
    medium, places = genuine(serial=2), site.config.at
    _, lines = copy_here(medium, site.store.root, trust=site.record)
    facts = next(line["facts"] for line in lines if line["event"] == "verified")
    pending = believing.Pending(
        kind=RECEIVED,
        body={**facts, "site": "demo-clinic"},
        key="receive-once",
        code=medium.code,
        believed=replace(
            site.record, serial=2, timestamp_version=2000, payload_digest=facts["payload_digest"], floor=site.clock.at
        ),
    )
    (places.trust / believing.PENDING).write_bytes(pending.to_bytes())
    if done != "nothing":
        Spool(places.spool, clock=site.clock).append(pending.kind, {**pending.body, "receive": pending.key})
    if done in {"published", "believed"}:
        publish(site.store, code=medium.code, serial=2)
    if done == "believed":
        trust.save(places.trust, pending.believed)

    again = site.receive(medium)

    assert again.outcome == "reverified"
    assert site.record.serial == 2
    assert [release.serial for release in site.store.releases()] == [1, 2]
    assert not (places.trust / believing.PENDING).exists()
    assert len([fact for fact in site.facts("release.received") if fact["body"]["serial"] == 2]) == 1


def test_what_a_cut_left_and_nobody_can_read_stops_receiving(site: Site, genuine: Shelf) -> None:
    (site.config.at.trust / believing.PENDING).write_bytes(b"{")

    with pytest.raises(NoTrustError, match="cut off"):
        site.receive(genuine(serial=2))


def test_the_receipt_is_signed_and_holds_nothing_that_people_typed(site: Site, genuine: Shelf) -> None:
    create_missing(site.config.at.key_files)
    medium = genuine(serial=2)
    _flip_custody(medium)
    words = "a reason nobody else should read"
    facts = site.receive(medium, decisions=Decisions(custody=CustodyAcceptance(name="Dana", reason=words)))

    file = site.config.at.receipts / facts.receipt
    envelope = json.loads(file.read_bytes())
    payload = base64.b64decode(envelope["payload"])
    (signature,) = envelope["signatures"]
    key = Ed25519PublicKey.from_public_bytes(FileKeys(site.config.at.key_files).public("ledger-checkpoint"))
    key.verify(base64.b64decode(signature["sig"]), dsse.Envelope(payload, envelope["payloadType"], {}).pae())
    said = json.loads(payload)
    assert (said["serial"], said["code"], said["outcome"]) == (2, medium.code, "received")
    assert words.encode() not in payload
    assert file.stat().st_size < 16_384
