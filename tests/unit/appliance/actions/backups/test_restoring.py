"""Restoring: who may, onto what, with which proof, and what never comes back."""

import errno
import json
import shutil
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import believing, receipt
from appliance.actions.backups import aside, doomed, drill, erasures, making, rebuilt, restoring, shelf
from appliance.actions.backups.rebuilt import Rebuilt
from appliance.actions.backups.restoring import Decisions, Restored
from appliance.actions.databases import copying
from appliance.audit import epochs, exclusive, offline, pin, sqlite_backend, storage
from appliance.audit.client import OfflineLedger
from appliance.audit.rights import ACTIONS, PROMOTER
from appliance.audit.verify import verify
from appliance.cli.backup import media_lines, restored_text
from appliance.config import DatabaseSection
from appliance.errors import (
    ApprovalRefusedError,
    BackupDamagedError,
    ConflictError,
    KeyMissingError,
    LedgerDamagedError,
    LedgerFullError,
    LedgerUnavailableError,
    NoSpaceError,
    ProofError,
    UnitError,
)
from appliance.promote.folder import PromoterFolder
from appliance.promote.record import Kind
from appliance.promote.withdrawing import WITHDRAWN
from appliance.verify import trust
from appliance.verify.trust import Checkpoint, TrustRecord
from media import canonical
from media.clock import FixedClock, SystemClock, to_text
from media.errors import NoTrustError, SealiftError, UsageError
from tests.support import lines
from tests.support.backups import Recipient, recipient
from tests.support.installable import small_release, store_release
from tests.support.promotion import digest, open_site
from tests.support.signatories import signatories
from tests.unit.appliance.actions.backups.conftest import ROOT, BackedUp

TWO = Decisions(by=("Ann Old", "Ben Young"), reason="the box burnt")


@pytest.fixture
def back(site: BackedUp, offline: Recipient, tmp_path: Path) -> Callable[..., Restored]:
    """Restore a backup onto a fresh box, or onto another."""
    fresh = site.fresh(tmp_path / "f")

    def restore(file: Path, *, onto: BackedUp = fresh, home: Path = offline.home, **changes: Any) -> Restored:
        dry_run = changes.pop("dry_run", False)
        return restoring.restore(
            onto.config, file, home=home, decisions=replace(TWO, **changes), clock=SystemClock(), dry_run=dry_run
        )

    return restore


def untouched(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_fresh_box_goes_on_in_a_new_epoch_with_a_key_of_its_own(
    site: BackedUp, back: Callable[..., Restored], tmp_path: Path
) -> None:
    made = site.make()
    fresh = site.fresh(tmp_path / "fresh")

    done = back(made.file, onto=fresh)

    ledger = OfflineLedger(fresh.config.at, clock=SystemClock())
    first, second = epochs.epochs(ledger)
    assert first.origin == made.kept.origin != second.origin
    assert first.vkey.public != second.vkey.public
    assert second.facts["continues"] == {"origin": first.origin, "size": made.kept.size, "root": made.kept.root}
    assert (second.facts["by"], second.facts["backup"]["sha256"]) == (["Ann Old", "Ben Young"], made.kept.sha256)
    assert second.facts["voided"] == ["d" * 64] == list(done.rebuilt.voided)
    assert verify(ledger, pinned=pin.read_pin(fresh.config.at)).findings == ()
    assert not (fresh.config.at.promoter / "codes.json").exists()
    assert (fresh.config.at.promoter / "passwords.json").exists()
    for name in ("api-key-pepper.v1", "identity-hmac.v1", "content-hmac.v1"):
        assert (fresh.config.at.key_files / name).read_bytes() == (site.config.at.key_files / name).read_bytes()
    for name in ("session.v1", "phi-map.v1", "ledger-checkpoint.v1"):
        assert (fresh.config.at.key_files / name).read_bytes() != (site.config.at.key_files / name).read_bytes()
    with fresh.box.running() as log:
        assert log.origin == second.origin


def test_only_media_that_the_store_lacks_are_named(
    site: BackedUp, back: Callable[..., Restored], tmp_path: Path
) -> None:
    store_release(site.config.at, small_release())
    made = site.make()
    bare, stocked = site.fresh(tmp_path / "bare"), site.fresh(tmp_path / "stocked")
    store_release(stocked.config.at, small_release())

    foreseen, done = back(made.file, onto=bare, dry_run=True), back(made.file, onto=bare)

    assert [one.serial for one in done.media] == [1]
    assert back(made.file, onto=stocked).media == ()
    # This site accepted serial 7, so the first one is refused from the restore on.
    assert "before the restore" in media_lines(foreseen)[0]
    assert "the sender has to bring its versions" in media_lines(done)[0]


def test_a_printed_head_later_than_the_backup_says_how_much_was_lost(
    site: BackedUp, back: Callable[..., Restored]
) -> None:
    made = site.make()
    with site.box.running() as log:
        printed = log.checkpoint()
        size = log.head().size

    assert back(made.file, printed=printed).rebuilt.lost == size - made.kept.size


def test_a_restored_ledger_answers_for_prints_of_both_epochs_and_not_for_more_than_was_said(
    site: BackedUp, back: Callable[..., Restored], tmp_path: Path
) -> None:
    with site.box.running() as log:
        early = log.checkpoint()
        made = making.make(site.config, clock=SystemClock())
        printed = log.checkpoint()
        site.record("release.refused", {"error": "after the print"})
        hidden = log.checkpoint()
    fresh = site.fresh(tmp_path / "fresh")
    back(made.file, onto=fresh, printed=printed)
    ledger, key = OfflineLedger(fresh.config.at, clock=SystemClock()), pin.read_pin(fresh.config.at)

    assert verify(ledger, pinned=key, notes=[early, printed]).findings == ()
    (finding,) = verify(ledger, pinned=key, notes=[hidden]).findings
    assert "more than the restore said" in finding


def test_what_receipts_attested_of_the_lost_box_still_binds_and_what_was_lost_does_not_stop_it(
    site: BackedUp, back: Callable[..., Restored], tmp_path: Path
) -> None:
    with site.box.running() as log:
        early = Checkpoint(origin=log.origin, size=2, root=log.consistency(2, log.head().size).old_root)
        made = making.make(site.config, clock=SystemClock())
        later = Checkpoint(origin=log.origin, size=log.head().size, root=log.head().root)
    fresh = site.fresh(tmp_path / "fresh")
    back(made.file, onto=fresh)
    ledger = OfflineLedger(fresh.config.at, clock=SystemClock())

    for point in (early, later):
        believing.require_history(ledger, {point.origin: point})
    with pytest.raises(LedgerDamagedError, match="restored from another ledger"):
        believing.require_history(ledger, {early.origin: replace(early, root="0" * 64)})


@pytest.mark.parametrize("by", [(), ("Ann",), ("Ann", "ann "), ("Ann", "Ann\u200b")])
def test_one_person_does_not_restore(site: BackedUp, back: Callable[..., Restored], by: tuple[str, ...]) -> None:
    with pytest.raises(ApprovalRefusedError):
        back(site.make().file, by=by)


def test_a_box_in_use_is_not_overwritten_by_mistake_and_put_aside_on_request(
    site: BackedUp, back: Callable[..., Restored]
) -> None:
    made = site.make()
    with site.box.running():
        site.record("person.enrolled", {"person": "x"}, PROMOTER)
    before = (site.config.at.ledger / "ledger.db").read_bytes()

    with pytest.raises(ConflictError):
        back(made.file, onto=site)
    assert (site.config.at.ledger / "ledger.db").read_bytes() == before

    done = back(made.file, onto=site, replace=True)
    assert (site.config.at.state / done.aside / "ledger/ledger.db").read_bytes() == before


def test_a_box_whose_ledger_is_on_a_server_is_not_overwritten_by_mistake(
    site: BackedUp, back: Callable[..., Restored]
) -> None:
    made = site.make()
    (site.config.at.ledger / "ledger.db").unlink()
    storage.mark_elsewhere(site.config.at.ledger)
    server = DatabaseSection(kind="postgresql", socket="/nowhere")
    with pytest.raises(ConflictError, match="as a file"):
        back(made.file, onto=replace(site, config=site.config.model_copy(update={"database": server})))

    with pytest.raises(ConflictError, match="in use"):
        back(made.file, onto=site)

    done = back(made.file, onto=site, replace=True)
    assert (site.config.at.state / done.aside / "ledger" / storage.ELSEWHERE).exists()
    assert not (site.config.at.ledger / storage.ELSEWHERE).exists()


def test_a_running_ledger_is_never_replaced(site: BackedUp, back: Callable[..., Restored]) -> None:
    made = site.make()
    for replace_it in (True, False):
        with site.box.running(), pytest.raises(LedgerUnavailableError, match="runs"):
            back(made.file, onto=site, replace=replace_it)


def test_another_site_s_backup_and_another_root_are_refused(
    site: BackedUp, back: Callable[..., Restored], tmp_path: Path
) -> None:
    made = site.make()
    other = site.fresh(tmp_path / "other")
    renamed = replace(other, config=other.config.model_copy(update={"site": "elsewhere"}))
    with pytest.raises(BackupDamagedError, match="another site"):
        back(made.file, onto=renamed)

    other.config.at.pinned_trust.mkdir(parents=True)
    (other.config.at.pinned_trust / trust.PINNED_ROOT).write_bytes(b'{"signed":{"other":1}}')
    with pytest.raises(NoTrustError):
        back(made.file, onto=other)
    assert not (other.config.at.ledger / "ledger.db").exists()


def test_the_wrong_key_opens_nothing(site: BackedUp, back: Callable[..., Restored], tmp_path: Path) -> None:
    made = site.make()
    fresh = site.fresh(tmp_path / "fresh")
    with recipient("Somebody else") as other, pytest.raises(KeyMissingError):
        back(made.file, onto=fresh, home=other.home)

    assert [name for name in untouched(fresh.config.at.root) if "lock" not in name] == []


@pytest.mark.parametrize("spoil", ["cut", "bit", "first", "empty", "longer", "plain"])
def test_a_spoilt_backup_leaves_a_fresh_box_as_it_was(
    site: BackedUp, back: Callable[..., Restored], tmp_path: Path, spoil: str
) -> None:
    content = bytearray(site.make().file.read_bytes())
    if spoil == "cut":
        content = content[: len(content) * 2 // 3]
    elif spoil == "bit":
        content[len(content) // 2] ^= 1
    elif spoil == "first":
        content[3] ^= 0x80
    elif spoil == "empty":
        content = bytearray()
    elif spoil == "longer":
        content += b"x" * 40
    else:
        content = bytearray(b"not encrypted at all\n" * 100)
    file = tmp_path / "spoilt.backup.gpg"
    file.write_bytes(bytes(content))
    fresh = site.fresh(tmp_path / "fresh")

    with pytest.raises(SealiftError) as refusal:
        back(file, onto=fresh)

    assert refusal.value.exit_code in {38, 56}
    assert [name for name in untouched(fresh.config.at.root) if "lock" not in name] == []


def test_a_print_of_another_history_stops_the_restore(
    site: BackedUp, back: Callable[..., Restored], tmp_path: Path
) -> None:
    made = site.make()
    with site.box.running() as log:
        printed = log.checkpoint()

    with pytest.raises(ProofError):
        back(made.file, printed=printed.replace(site_root(printed), "A" * 43 + "="))
    (site.config.at.ledger / "ledger.db").unlink()
    for left in site.config.at.ledger.glob("ledger.db-*"):
        left.unlink()
    with site.box.running() as log, pytest.raises(ProofError):
        back(made.file, printed=log.checkpoint())


def site_root(printed: str) -> str:
    return printed.split("\n")[2]


def signed_receipt(site: BackedUp, serial: int) -> bytes:
    """Return a receipt as the box writes it while its ledger runs."""
    facts = {
        "release": "demo-9",
        "serial": serial,
        "code": "c" * 64,
        "payload_digest": "b" * 64,
        "targets_sha256": "e" * 64,
        "root_version": 1,
        "timestamp_version": serial * 10**6,
        "signers": [],
        "volumes": [],
        "files": 1,
        "bytes": 1,
        "rehearsal_level": "none",
        "custody": {"complete": True, "findings": [], "entries": []},
    }
    ledger = site.box.door(ACTIONS)
    try:
        at = to_text(SystemClock().now().replace(microsecond=0))
        return receipt.write(site.config, facts, ledger, outcome="received", at=at).read_bytes()
    finally:
        ledger.close()


def test_a_receipt_keeps_the_serial_from_falling(site: BackedUp, back: Callable[..., Restored], tmp_path: Path) -> None:
    with site.box.running():
        made = making.make(site.config, clock=SystemClock())
        later = signed_receipt(site, 9)
    fresh = site.fresh(tmp_path / "fresh")

    assert back(made.file, onto=fresh, receipts=(later,)).rebuilt.serial == 9
    record = trust.load(fresh.config.at.trust, fresh.config.at.pinned_trust, may_begin=False)
    assert (record.serial, record.payload_digest) == (9, "b" * 64)
    with pytest.raises(ProofError):
        back(made.file, receipts=(forged(later),))
    assert back(made.file, serial=12).rebuilt.serial == 11


@pytest.mark.parametrize("shown", [{"serial": 12}, {"receipts": 1}])
def test_what_nothing_could_hold_is_refused_and_not_dropped(
    site: BackedUp, back: Callable[..., Restored], tmp_path: Path, shown: dict[str, Any]
) -> None:
    shutil.rmtree(site.config.at.trust)
    with site.box.running():
        made = making.make(site.config, clock=SystemClock())
        later = signed_receipt(site, 9)
    fresh = site.fresh(tmp_path / "fresh")
    given = {"receipts": (later,)} if "receipts" in shown else shown

    with pytest.raises(NoTrustError, match="cannot be kept"):
        back(made.file, onto=fresh, **given)

    assert not (fresh.config.at.ledger / sqlite_backend.FILE_NAME).exists()
    assert back(made.file, onto=fresh).rebuilt.serial == 0


@pytest.mark.parametrize("first", [True, False])
def test_a_restore_that_was_cut_inside_the_move_of_trust_lowers_no_serial(
    site: BackedUp, back: Callable[..., Restored], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, first: bool
) -> None:
    """What was believed lay put aside, nothing in its place, and the same command believed the backup alone."""
    made = site.make()
    fresh = site.fresh(tmp_path / "fresh")
    places = fresh.config.at
    for folder in (places.trust, places.pinned_trust):
        folder.mkdir(parents=True)
    (places.pinned_trust / trust.PINNED_ROOT).write_bytes(ROOT)
    trust.save(places.trust, TrustRecord(root_chain=(ROOT.decode(),), serial=12, payload_digest="c" * 64))
    real = restoring._move

    def cut(source: Path, target: Path) -> None:
        if target.name == "trust" and not first:
            real(source, target)
        if source.name == "trust" and aside.STAGE in str(source):
            raise KeyboardInterrupt
        if first or target.name != "trust":
            real(source, target)

    with monkeypatch.context() as power:
        power.setattr(restoring, "_move", cut)
        with pytest.raises(KeyboardInterrupt):
            back(made.file, onto=fresh)

    assert back(made.file, onto=fresh).rebuilt.serial == 12
    assert trust.load(places.trust, places.pinned_trust, may_begin=False).serial == 12


def forged(untrusted: bytes) -> bytes:
    """Return the receipt with another serial under its old signatures."""
    envelope = json.loads(untrusted)
    payload = b64decode(envelope["payload"]).replace(b'"serial":9', b'"serial":8')
    return json.dumps({**envelope, "payload": b64encode(payload).decode()}).encode()


def test_erased_keys_stay_erased_although_an_older_backup_has_them(
    site: BackedUp, back: Callable[..., Restored], tmp_path: Path
) -> None:
    made = site.make()
    key = site.config.at.key_files / "identity-hmac.v1"
    material = key.read_bytes()
    with site.box.running():
        site.record(erasures.DESTROYED, {"name": "identity-hmac", "digests": [erasures.digest(material)]})
        key.unlink()
        making.make(site.config, clock=SystemClock())
    fresh = site.fresh(tmp_path / "fresh")

    done = back(made.file, onto=fresh)

    assert done.rebuilt.erased == 1
    assert (fresh.config.at.key_files / "identity-hmac.v1").read_bytes() != material


def destroyed(site: BackedUp) -> bytes:
    """Destroy a key as `sealift box-keys destroy` does, with no disk plugged in; return its bytes."""
    key = site.config.at.key_files / "api-key-pepper.v1"
    material = key.read_bytes()
    with site.box.running():
        site.record(erasures.DESTROYED, {"name": "api-key-pepper", "digests": [erasures.digest(material)]})
    key.unlink()
    return material


def test_what_the_replaced_ledger_says_was_destroyed_after_the_backup_stays_destroyed(
    site: BackedUp, back: Callable[..., Restored]
) -> None:
    made, material = site.make(), destroyed(site)

    done = back(made.file, onto=site, replace=True)

    places, gone = site.config.at, {erasures.digest(material)}
    ledger = OfflineLedger(places, clock=SystemClock())
    assert (done.rebuilt.erased, done.unread) == (1, ())
    assert (places.key_files / "api-key-pepper.v1").read_bytes() != material
    assert ledger.find(kind=erasures.DESTROYED) == []
    assert erasures.recorded(ledger) == gone, "what is backed up and restored from now on knows it"
    assert verify(ledger, pinned=pin.read_pin(places)).findings == ()
    erasures.note(site.disk, ledger)
    assert erasures.noted(site.disk) == gone


def test_a_ledger_that_does_not_verify_still_says_what_was_destroyed(
    site: BackedUp, back: Callable[..., Restored]
) -> None:
    made, _ = site.make(), destroyed(site)
    with site.box.running():
        for body in ({"digests": 7}, {"digests": ["x", 7]}):
            site.record(erasures.DESTROYED, body)
    with closing(sqlite3.connect(site.config.at.ledger / "ledger.db")) as connection, connection:
        connection.execute("DROP TRIGGER leaf_update")
        for old, new in (("wrong-site", "right-site"), ('{"digests":7}', "[]")):
            changed = "CAST(replace(CAST(raw AS TEXT), ?, ?) AS BLOB)"
            connection.execute(f"UPDATE leaf SET raw = {changed}", (old, new))  # noqa: S608 - words of ours

    assert verify(OfflineLedger(site.config.at, clock=SystemClock())).findings
    assert back(made.file, onto=site, replace=True, dry_run=True).rebuilt.erased == 1


def test_one_record_that_does_not_read_hides_no_other_and_is_told(
    site: BackedUp, back: Callable[..., Restored]
) -> None:
    made, _ = site.make(), destroyed(site)
    with site.box.running():
        site.record(erasures.DESTROYED, {"name": "lost", "digests": ["f" * 64]})
    with closing(sqlite3.connect(site.config.at.ledger / "ledger.db")) as connection, connection:
        connection.execute("DROP TRIGGER leaf_update")
        changed = connection.execute("UPDATE leaf SET raw = x'00' WHERE instr(raw, ?)", (b"f" * 64,))
        assert changed.rowcount == 1
    before = site.config.at.state / f"{aside.PREFIX}20270304T080000Z/ledger"
    shutil.copytree(site.config.at.ledger, before)

    found = back(made.file, onto=site, replace=True, dry_run=True)

    assert found.rebuilt.erased == 1
    assert found.unread == ("ledger", f"{before.parent.name}/ledger")
    assert found.to_json()["unread"] == list(found.unread)
    text = restored_text(site.config.site, found)
    assert [line for line in text.splitlines() if "NOT ALL of ledger " in line and "--erased FILE" in line]


def test_a_ledger_that_cannot_be_read_at_all_is_put_aside_where_people_say_so(
    site: BackedUp, back: Callable[..., Restored]
) -> None:
    """Scenario: docs/operator/ledger.md, Recovery: the file is damaged, and nothing of it can be asked."""
    made = site.make()
    (site.config.at.ledger / "ledger.db").write_bytes(b"no database at all" * 1000)

    with pytest.raises(ConflictError) as refused:
        back(made.file, onto=site)
    assert refused.value.why == "its ledger cannot be read"
    done = back(made.file, onto=site, replace=True)

    ledger = OfflineLedger(site.config.at, clock=SystemClock())
    (record,) = ledger.find(kind="ledger.restored", limit=1)
    assert record.body["replaced"] == {"unreadable": True}
    assert done.unread == ("ledger",)
    assert (site.config.at.state / done.aside / "ledger/ledger.db").read_bytes().startswith(b"no database")
    assert verify(ledger, pinned=pin.read_pin(site.config.at)).findings == ()


@pytest.mark.parametrize("fault", ["the disk", "the key of its epoch", "its lock is gone"])
def test_a_ledger_that_cannot_be_read_for_another_reason_is_put_aside_likewise(
    site: BackedUp, back: Callable[..., Restored], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    made = site.make()
    file = site.config.at.ledger / "ledger.db"
    if fault == "the disk":
        real = sqlite_backend.open_reader

        def open_reader(path: Path, **how: Any) -> Any:
            if path == file:
                raise LedgerUnavailableError(what="the ledger cannot be read", why="SQLITE_IOERR")
            return real(path, **how)

        monkeypatch.setattr(offline, "open_reader", open_reader)
    elif fault == "its lock is gone":
        (site.config.at.ledger / exclusive.LOCK_NAME).unlink()
    else:
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("DROP TRIGGER leaf_update")
            changed = 'CAST(replace(CAST(raw AS TEXT), \'"vkey":"\', \'"vkey":"x\') AS BLOB)'
            connection.execute(f"UPDATE leaf SET raw = {changed} WHERE sequence = 0")  # noqa: S608 - words of ours

    with pytest.raises(ConflictError) as refused:
        back(made.file, onto=site)
    assert refused.value.why == "its ledger cannot be read"
    done = back(made.file, onto=site, replace=True)

    monkeypatch.undo()
    (record,) = OfflineLedger(site.config.at, clock=SystemClock()).find(kind="ledger.restored", limit=1)
    assert record.body["replaced"] == {"unreadable": True}
    assert (site.config.at.state / done.aside / "ledger/ledger.db").exists()
    assert done.unread == (("ledger",) if fault == "the disk" else ())


def test_it_stays_destroyed_when_power_goes_between_the_two_moves_of_the_ledger(
    site: BackedUp, back: Callable[..., Restored]
) -> None:
    made, _ = site.make(), destroyed(site)
    before = site.config.at.state / f"{aside.PREFIX}20270304T080000Z"
    before.mkdir()
    shutil.move(site.config.at.ledger, before / "ledger")  # and the new one is not in its place yet

    assert back(made.file, onto=site, dry_run=True).rebuilt.erased == 1


def test_keys_whose_destruction_people_show_on_paper_stay_away(site: BackedUp, back: Callable[..., Restored]) -> None:
    made, gone = site.make(), erasures.digest(destroyed(site))

    assert back(made.file, dry_run=True).rebuilt.erased == 0
    done = back(made.file, erased=erasures.named(f"DIGEST {gone.upper()}\n{'f' * 64}".encode()))
    assert (done.rebuilt.erased, done.to_json()["shown"]) == (1, 2)
    assert "  --erased named 2 destroyed keys: " in restored_text(site.config.site, done)


PRINTED = f"""7  2027-03-04T08:00:00Z  key.destroyed  via ledger-actions, user 0
{{
  "digests": [
    "{"a" * 64}"
  ],
  "name": "api-key-pepper"
}}
leaf hash {"c" * 64}
included in the tree of 9 leaves, root {"d" * 64}; signed by 0123abcd"""


@pytest.mark.parametrize(
    "text",
    [
        PRINTED,
        f"{'a' * 64}\n",
        f'7  2027-03-04T08:00:00Z  key.destroyed\n{{"digests": ["{"a" * 64}"]}}\nleaf hash',
        f"{PRINTED}\n\n{PRINTED}",
        f"{PRINTED}\n\n{'a' * 64}\nfound by deadbeef on 20270304",
        f'{{"leaves": [{{"kind": "key.destroyed", "body": {{"digests": ["{"a" * 64}"]}}}}]}}',
        f'{{"format":1,"keys":["{"a" * 64}"]}}',
        f'{{"leaf": {{"body": {{"digests": ["{"a" * 64}"], "name": "x"}}}}, "proof": {{"hashes": ["{"b" * 64}"]}}}}',
    ],
)
def test_erasures_are_read_as_people_have_them(text: str) -> None:
    assert erasures.named(text.encode()) == {"a" * 64}


@pytest.mark.parametrize(
    "text",
    [
        *("", "nothing", f"{'a' * 63}o", f"{'a' * 64} {'b' * 63}", '{"keys": ["short"]}', '{"keys": []}', "{", "\xff"),
        *(PRINTED.replace("a" * 64, digits) for digits in ("a" * 63, "a" * 63 + "o", f"{'a' * 40}\n{'a' * 24}", "")),
        PRINTED.replace("key.destroyed", "key.created"),
        f"{PRINTED}\n{PRINTED.replace('key.destroyed', 'key.created')}",
        PRINTED.partition('    "')[2].partition('"')[2],  # the hashes of record and tree alone
        f"{'a' * 64}\n{'b' * 40}\n",
        f"{'a' * 64}\n{'b' * 48} {'b' * 15}\n",
        f'{{"kind": "key.created", "body": {{"digests": ["{"a" * 64}"]}}}}',
        f'{{"digests": ["{"a" * 64}", 7]}}',
        "{" * 100_000,
    ],
)
def test_an_erasure_that_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        erasures.named(text.encode())


def test_a_dry_run_tells_everything_and_changes_nothing(
    site: BackedUp, back: Callable[..., Restored], tmp_path: Path
) -> None:
    fresh = site.fresh(tmp_path / "fresh")

    assert back(site.make().file, onto=fresh, dry_run=True).rebuilt.records > 0
    assert [name for name in untouched(fresh.config.at.root) if "lock" not in name] == []


@pytest.mark.parametrize("dry_run", [True, False])
def test_keys_that_a_restore_laid_down_and_took_away_again_are_overwritten(
    site: BackedUp,
    back: Callable[..., Restored],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    dry_run: bool,
) -> None:
    made, fresh, overwritten = site.make(), site.fresh(tmp_path / "fresh"), []
    real = doomed.overwrite

    def noted(file: Path) -> None:
        overwritten.append(file)
        real(file)

    monkeypatch.setattr(doomed, "overwrite", noted)
    # As where /etc and /var are on disks of their own: what is moved is copied.
    monkeypatch.setattr(
        restoring, "_disk_of", lambda path: int("etc" in path.relative_to(fresh.config.at.root).parts[0])
    )
    stage = fresh.config.at.state / aside.STAGE

    back(made.file, onto=fresh, dry_run=dry_run)

    assert not stage.exists()
    assert stage / "etc/sealift/keys/identity-hmac.v1" in overwritten
    assert (fresh.config.at.key_files / "identity-hmac.v1").exists() is not dry_run


def test_keys_that_go_aside_onto_another_disk_are_overwritten_where_they_were(
    site: BackedUp, back: Callable[..., Restored], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, overwritten = site.make(), []
    material = (site.config.at.key_files / "session.v1").read_bytes()
    real = doomed.overwrite

    def noted(file: Path) -> None:
        overwritten.append(file)
        real(file)

    monkeypatch.setattr(doomed, "overwrite", noted)
    monkeypatch.setattr(restoring, "_disk_of", lambda path: int(path.is_relative_to(site.config.at.etc)))

    done = back(made.file, onto=site, replace=True)

    assert (site.config.at.state / done.aside / "keys/session.v1").read_bytes() == material
    assert site.config.at.key_files / "session.v1" in overwritten
    [found] = aside.asides(site.config.at)
    assert (found.root.name, found.at is not None) == (done.aside, True)
    assert [path.name for path in found.keys("session")] == ["session.v1"]
    assert (site.config.at.key_files / "session.v1").read_bytes() != material


def test_a_restore_that_was_cut_between_its_moves_is_finished_by_the_same_command(
    site: BackedUp, back: Callable[..., Restored], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = site.make()
    fresh = site.fresh(tmp_path / "fresh")
    real, moves = restoring._swap, []

    def cut(*paths: Path) -> None:
        moves.append(paths)
        if len(moves) == 3:
            raise KeyboardInterrupt
        real(*paths)

    with monkeypatch.context() as power:
        power.setattr(restoring, "_swap", cut)
        with pytest.raises(KeyboardInterrupt):
            back(made.file, onto=fresh)

    back(made.file, onto=fresh)
    ledger = OfflineLedger(fresh.config.at, clock=SystemClock())
    assert verify(ledger, pinned=pin.read_pin(fresh.config.at)).findings == ()


ON_A_SERVER = pytest.mark.parametrize("site", ["postgresql"], indirect=True)


@pytest.mark.interop
@ON_A_SERVER
def test_a_ledger_on_a_server_comes_back_as_a_file_and_goes_into_another_database(
    site: BackedUp, back: Callable[..., Restored], new_database: Callable[[], DatabaseSection], tmp_path: Path
) -> None:
    made = site.make()
    with site.box.running():
        drilled = drill.drill(site.config, clock=SystemClock(), by=(), home=None)
    assert drilled.facts["level"] == "stream"
    before = OfflineLedger(site.config.at, clock=SystemClock()).head()
    onto = site.fresh(tmp_path / "new")
    files = onto.config.model_copy(update={"database": DatabaseSection()})

    back(made.file, onto=replace(onto, config=files))
    server = files.model_copy(update={"database": new_database()})
    copied = copying.copy(server, "postgresql", clock=SystemClock())

    again = OfflineLedger(server.at, clock=SystemClock())
    assert (again.head().size, again.head().root) == (copied.size, copied.root)
    assert verify(again, pinned=pin.read_pin(server.at)).ok
    assert again.find(kind=epochs.RESTORED, limit=1)
    # Neither the drill nor the restore touched the lost box's database.
    assert OfflineLedger(site.config.at, clock=SystemClock()).head() == before


@pytest.mark.parametrize("by", [(), ("Ann", "Bo")])
def test_a_drill_measures_records_and_leaves_nothing(site: BackedUp, offline: Recipient, by: tuple[str, ...]) -> None:
    with site.box.running() as log:
        making.make(site.config, clock=SystemClock())
        done = drill.drill(site.config, clock=SystemClock(), by=by, home=offline.home if by else None)
        recorded = log.find(kind=drill.DRILLED)

    assert [leaf.body for leaf in recorded] == [done.facts]
    assert done.facts["level"] == ("full" if by else "stream")
    assert 0 <= done.facts["rpo_seconds"] < 60
    report = json.loads(done.report.read_bytes())
    assert report["ledger"]["checkpoint"]


@pytest.mark.parametrize("by", [(), ("Ann", "Bo")])
def test_a_drill_says_how_old_the_backup_is_and_how_long_it_takes_to_come_back(
    site: BackedUp, offline: Recipient, monkeypatch: pytest.MonkeyPatch, by: tuple[str, ...]
) -> None:
    clock, real = FixedClock(SystemClock().now().replace(microsecond=0)), rebuilt.rebuild

    def slow(*given: Any, **named: Any) -> Rebuilt:
        clock.advance(90.25)
        return real(*given, **named)

    with site.box.running():
        making.make(site.config, clock=clock)
        clock.advance(7 * 3600)
        monkeypatch.setattr(rebuilt, "rebuild", slow)
        done = drill.drill(site.config, clock=clock, by=by, home=offline.home if by else None)

    assert done.facts["rpo_seconds"] == 7 * 3600
    assert done.facts["rto_milliseconds"] == 90_250


def test_a_time_that_only_the_file_beside_a_backup_says_is_no_drill_s(site: BackedUp) -> None:
    with site.box.running() as log:
        made = making.make(site.config, clock=SystemClock())
        beside = made.file.with_name(f"{made.file.name}.json")
        beside.write_bytes(canonical.dumps({**json.loads(beside.read_bytes()), "made_at": "2020-01-01T00:00:00Z"}))

        with pytest.raises(BackupDamagedError) as told:
            drill.drill(site.config, clock=SystemClock())
        assert "at another time than the record" in told.value.why
        assert log.find(kind=drill.DRILLED) == []


def test_a_drill_with_a_key_and_one_person_is_refused_and_not_made_without_the_key(
    site: BackedUp, offline: Recipient
) -> None:
    with site.box.running() as log:
        making.make(site.config, clock=SystemClock())
        for by in ((), ("Ann",), ("Ann", " ann ")):
            with pytest.raises(ApprovalRefusedError):
                drill.drill(site.config, clock=SystemClock(), by=by, home=offline.home)

        assert log.find(kind=drill.DRILLED) == []


def test_a_drill_notices_a_backup_that_is_not_the_recorded_one(site: BackedUp) -> None:
    with site.box.running():
        made = making.make(site.config, clock=SystemClock())
        content = bytearray(made.file.read_bytes())
        content[-1] ^= 1
        made.file.write_bytes(bytes(content))

        with pytest.raises(BackupDamagedError):
            drill.drill(site.config, clock=SystemClock())
    assert shelf.kept(site.disk, "demo")
    shutil.rmtree(site.disk)


def test_a_drill_that_fails_is_recorded_with_evidence_beside_the_backups(site: BackedUp) -> None:
    with site.box.running() as log:
        made = making.make(site.config, clock=SystemClock())
        made.file.write_bytes(bytes(made.kept.length))
        with pytest.raises(BackupDamagedError):
            drill.drill(site.config, clock=SystemClock())
        [leaf] = log.find(kind=drill.FAILED)
        assert log.find(kind=drill.DRILLED) == []

    assert drill.is_due(site.config, OfflineLedger(site.config.at, clock=SystemClock()), clock=SystemClock())
    assert (leaf.body["level"], leaf.body["backup"]["sha256"]) == (drill.STREAM, made.kept.sha256)
    assert leaf.body["failed"]["code"] == BackupDamagedError.code
    assert "not the one that was recorded" in leaf.body["failed"]["why"]
    [report] = site.disk.glob("drill-*.json")
    told = json.loads(report.read_bytes())
    assert (told["format"], told["drill"]) == (1, leaf.body)
    assert told["ledger"]["checkpoint"]


@pytest.mark.parametrize(
    "failure",
    [
        KeyMissingError(what="the passphrase was not typed"),
        UnitError(what="gpg cannot be run"),
        LedgerFullError(what="no room for its records"),
        NoSpaceError(what="no room"),
        OSError(errno.ENOSPC, "no room"),
        FileNotFoundError(errno.ENOENT, "no usable temporary directory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_drill_that_lacks_something_else_says_nothing_of_the_backup(
    site: BackedUp, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def opened(*_: object) -> Any:
        raise failure

    monkeypatch.setattr(restoring, "opened", opened)
    with site.box.running() as log:
        making.make(site.config, clock=SystemClock())
        with pytest.raises(type(failure)):
            drill.drill(site.config, clock=SystemClock(), by=("Ann", "Bo"))
        assert log.find(kind=drill.FAILED) == []


def test_records_of_further_lines_come_back_in_their_line(
    site: BackedUp, back: Callable[..., Restored], tmp_path: Path
) -> None:
    decided = open_site(tmp_path / "decided")
    for name in ("A", "B"):
        decided.promote(digest(name))
    waits = decided.request(digest("C"))
    mistake = decided.request(digest("C"), meaning="a mistake").statement.sha256
    decided.client.withdraw(mistake, person=signatories()[0].id, reason="a mistake")
    number = lines.open_line(decided, digest("D"))
    lines.start_canary(decided, digest("E"), number)
    lines.cut_over(decided, number)
    other = lines.open_line(decided, digest("F"))
    lines.stop_line(decided, other)
    voided = lines.statement_of(decided, digest("G"), replaces=digest("D"))
    asked = [voided, lines.statement_of(decided, digest("H")), lines.statement_of(decided, digest("I"))]
    for one in asked:
        body = {"statement": one.to_bytes().decode(), "statement_sha256": one.sha256}
        decided.ledger.append("promotion.requested", body)
    opened = lines.signed(decided, asked[1])
    third = lines.record(decided, Kind.MADE, {**opened, "line": decided.folder.production().number + 1}).number
    lines.bring(decided, digest("J"), number)
    with site.box.running():
        for leaf in decided.ledger.leaves(0, 500):
            if leaf.kind.partition(".")[0] in {"person", "promotion"} or leaf.kind == WITHDRAWN:
                site.record(leaf.kind, dict(leaf.body), PROMOTER)
    fresh = site.fresh(tmp_path / "fresh")

    done = back(site.make().file, onto=fresh).rebuilt

    wanted = decided.folder.production()
    found = PromoterFolder(fresh.config.at.promoter).production()
    assert (found.loadable, found.number) == (wanted.loadable, wanted.number)
    assert {line.number: line.versions for line in found.lines.values()} == {
        line.number: line.versions for line in wanted.lines.values()
    }
    assert (done.production, done.further) == (digest("B"), {str(number): digest("J"), str(third): digest("H")})
    assert done.to_json()["further"] == done.further
    assert {waits.statement.sha256, asked[2].sha256} <= set(done.voided)
    assert not {mistake, *(one.sha256 for one in asked[:2])} & set(done.voided)
