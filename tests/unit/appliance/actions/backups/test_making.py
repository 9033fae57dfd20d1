"""Making a backup: what is in it, what never is, and what happens when it cannot be made."""

import errno
import json
import os
import shlex
import shutil
import subprocess
import tarfile
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest

from appliance.actions.backups import archive, choosing, contents, drill, erasures, making, recipient, shelf, standing
from appliance.actions.backups.laying import Bytes, Laying
from appliance.audit import epochs
from appliance.audit.client import OfflineLedger
from appliance.audit.memory import MemoryLedger
from appliance.config import Config, DatabaseSection
from appliance.errors import (
    ApprovalRefusedError,
    BackupDamagedError,
    ConflictError,
    LedgerUnavailableError,
    NoSpaceError,
    PreflightError,
    StoreWriteError,
)
from appliance.promote.passwords import PASSWORDS
from appliance.timekeeping import record
from media.clock import FixedClock, SystemClock, to_text
from tests.support.backups import Recipient
from tests.support.clocks import EPOCH, jumped_from
from tests.support.gpg import gnupg_home
from tests.support.promotion import site_config
from tests.unit.appliance.actions.backups.conftest import BackedUp

pytestmark = pytest.mark.slow

NOW = datetime(2027, 3, 4, 8, 0, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[5]
LARGE = 2**21
AHEAD = NOW + timedelta(days=50 * 365)


def plaintext(file: Path, offline: Recipient) -> dict[str, bytes]:
    """Open a backup with nothing but gpg and tar."""
    stream = offline.gpg.run("--decrypt", str(file))
    with tarfile.open(fileobj=BytesIO(stream)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_stock_tools_open_a_backup_and_find_records_and_secrets_but_not_what_must_not_survive(
    site: BackedUp, offline: Recipient
) -> None:
    made = site.make()

    found = plaintext(made.file, offline)

    manifest = json.loads(found["manifest.json"])
    assert (manifest["format"], manifest["type"], manifest["site"]) == (1, "sealift/backup", "demo")
    lines = found["ledger/leaves-000000000.jsonl"].splitlines()
    assert len(lines) == manifest["ledger"]["size"] == made.kept.size
    assert json.loads(lines[-1])["kind"] == archive.BEGUN
    kept = {name for name in found if name.startswith(("keys/", "promoter/"))}
    assert kept == {
        "keys/api-key-pepper.v1",
        "keys/content-hmac.v1",
        "keys/identity-hmac.v1",
        "promoter/passwords.json",
    }
    signing = (site.config.at.key_files / "ledger-checkpoint.v1").read_bytes()
    assert not any(signing in content for content in found.values())


def test_a_backup_is_recorded_with_its_digest_and_stands_as_the_newest(site: BackedUp) -> None:
    made = site.make()
    ledger = OfflineLedger(site.config.at, clock=SystemClock())
    recorded = ledger.find(kind=making.MADE)
    now = standing.standing(site.config, ledger, clock=SystemClock())

    assert [leaf.body["sha256"] for leaf in recorded] == [made.kept.sha256]
    assert [each.name for each in shelf.kept(site.disk, "demo")] == [made.file.name]
    assert now.made_at is not None
    assert now.faults == ("no drill in the last 35 days",)


def test_the_oldest_go_beyond_the_number_kept(site: BackedUp) -> None:
    few = site.config.model_copy(update={"backup": site.config.backup.model_copy(update={"keep": 2})})
    with site.box.running():
        names = [making.make(few, clock=SystemClock()).file.name for _ in range(3)]

    assert [each.name for each in shelf.kept(site.disk, "demo")] == names[-2:]
    assert len(list(site.disk.glob("*.json"))) == 2


def test_what_is_surplus_goes_before_a_backup_that_needs_its_room(
    site: BackedUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site.box.running():
        names = [making.make(site.config, clock=SystemClock()).file.name for _ in range(3)]
    few = site.config.model_copy(update={"backup": site.config.backup.model_copy(update={"keep": 2})})
    real = recipient.encrypting
    monkeypatch.setattr(recipient, "encrypting", lambda whose, _: real(whose, os.open("/dev/full", os.O_WRONLY)))
    with site.box.running(), pytest.raises(StoreWriteError):
        making.make(few, clock=SystemClock())

    assert [each.name for each in shelf.kept(site.disk, "demo")] == names[-2:]


def test_a_wrong_clock_makes_no_backup_the_oldest_and_none_the_newest_for_years(site: BackedUp) -> None:
    few = site.config.model_copy(update={"backup": site.config.backup.model_copy(update={"keep": 2})})
    places, real = few.at, SystemClock()
    places.clock_now.mkdir(parents=True, exist_ok=True)
    right, ticks = real.now().replace(microsecond=0), int(real.monotonic())
    record.publish(places, jumped_from(right, shown=EPOCH, ticks=ticks))
    with site.box.running():
        making.make(few, clock=real)
        # Later than the first, however long that took.
        names = [making.make(few, clock=FixedClock(at=shown, ticks=ticks + 3600)).file.name for shown in (EPOCH, AHEAD)]
    with site.box.running():
        (places.clock_now / record.FILE).unlink()
        names.append(making.make(few, clock=FixedClock(at=right + timedelta(hours=2))).file.name)

    assert [each.name for each in shelf.kept(site.disk, "demo")] == names[-2:]


@pytest.mark.parametrize("kept", [EPOCH, AHEAD])
def test_a_backup_s_age_is_what_is_believed_and_a_drill_from_the_future_is_none(tmp_path: Path, kept: datetime) -> None:
    config, clock = site_config(tmp_path), FixedClock(at=kept)
    ledger = MemoryLedger(clock)
    ledger.append(making.MADE, {"made_at": to_text(NOW)})
    ledger.append(drill.DRILLED, {"level": drill.STREAM})

    found = standing.standing(config, ledger, clock=FixedClock(at=NOW + timedelta(hours=1)))

    assert (found.made_at, found.age_seconds) == (to_text(NOW), 3600)
    assert "no drill in the last 35 days" in found.faults
    assert (found.drilled_seconds or 0) > 35 * 86400


def test_a_drill_that_failed_is_not_forgotten_when_a_later_one_holds(tmp_path: Path) -> None:
    config, clock = site_config(tmp_path), FixedClock(at=NOW)
    ledger = MemoryLedger(clock)
    ledger.append(making.MADE, {"made_at": to_text(NOW), "sha256": "a" * 64})
    found = []

    def now() -> standing.Standing:
        return standing.standing(config, ledger, clock=clock)

    for level in (drill.STREAM, drill.FULL):
        ledger.append(drill.FAILED, {"level": level, "failed": {"what": "the backup does not hold", "why": level}})
    for level in (drill.STREAM, drill.FULL):
        found.append(now())
        ledger.append(drill.DRILLED, {"level": level, "backup": {"sha256": "a" * 64}})
    found.append(now())

    failed = [[fault.partition(" failed")[0] for fault in one.faults if " failed at " in fault] for one in found]
    assert failed == [["the last drill (full)", "the last drill (stream)"], ["the last drill (full)"], []]
    assert f"failed at {to_text(NOW)}" in found[1].faults[-1]
    assert found[1].faults[-1].endswith("the backup does not hold, full")
    assert [one.is_failing for one in found] == [True, True, False]
    assert [one.is_opened for one in found] == [False, False, True]
    assert found[-1].past.startswith("drills that failed in a year: 2, the last 2027-03-04")
    clock.advance(367 * 86400)
    assert (now().failures, now().past) == (0, "")


@pytest.mark.parametrize(("drilled", "is_due"), [("2027-02-28", True), ("2027-03-01", False), ("2028-03-01", True)])
def test_a_drill_is_due_until_one_was_made_in_the_month(tmp_path: Path, drilled: str, *, is_due: bool) -> None:
    ledger = MemoryLedger(FixedClock(at=datetime.fromisoformat(f"{drilled}T12:00:00+00:00")))
    config, clock = site_config(tmp_path), FixedClock(at=NOW)

    assert drill.is_due(config, ledger, clock=clock)
    ledger.append(drill.DRILLED, {"level": drill.STREAM})
    assert drill.is_due(config, ledger, clock=clock) is is_due


def of_node(config: Config, node: str) -> Config:
    section = DatabaseSection(kind="postgresql", socket="/run/postgresql", node=node)
    return config.model_copy(update={"database": section})


def test_of_several_nodes_each_drills_with_its_own_disk(tmp_path: Path) -> None:
    clock = FixedClock(at=NOW)
    ledger, config = MemoryLedger(clock), site_config(tmp_path)
    one, two = (of_node(config, node) for node in ("one", "two"))
    full = {"level": drill.FULL, "backup": {"sha256": "a" * 64}}
    ledger.append(making.MADE, {"made_at": to_text(NOW), "sha256": "a" * 64})
    found = []
    for node, kind in (("one", drill.FAILED), ("two", drill.DRILLED), ("one", drill.DRILLED)):
        ledger.log.node = node
        ledger.append(kind, full)
        now = [standing.standing(each, ledger, clock=clock) for each in (one, two)]
        due = [drill.is_due(each, ledger, clock=clock) for each in (one, two)]
        found.append((due, [each.is_failing for each in now], [each.is_opened for each in now]))

    assert found == [
        ([True, True], [True, False], [False, False]),
        ([True, False], [True, False], [False, True]),
        ([False, False], [False, False], [True, True]),
    ]


def test_a_drill_of_the_lost_box_is_none_of_the_restored_one(tmp_path: Path) -> None:
    config, clock = site_config(tmp_path), FixedClock(at=NOW)
    ledger = MemoryLedger(clock)
    ledger.append(drill.DRILLED, {"level": drill.STREAM})
    ledger.append(drill.FAILED, {"level": drill.STREAM})
    assert not drill.is_due(config, ledger, clock=clock)
    assert standing.standing(config, ledger, clock=clock).is_failing

    ledger.append(epochs.RESTORED, {})

    assert drill.is_due(config, ledger, clock=clock)
    found = standing.standing(config, ledger, clock=clock)
    assert (found.is_failing, found.failures) == (False, 1)


def test_the_state_s_own_disk_is_refused_unless_the_site_says_otherwise(site: BackedUp) -> None:
    section = site.config.backup.model_copy(update={"on_system_disk": False})

    with pytest.raises(PreflightError, match="to replace"):
        shelf.require_folder(site.config.model_copy(update={"backup": section}))


@pytest.mark.parametrize("fault", ["no folder", "not mounted", "no recipient", "no key to encrypt to"])
def test_what_is_not_ready_is_said_before_anything_is_recorded(site: BackedUp, fault: str) -> None:
    config = site.config
    if fault == "no folder":
        config = config.model_copy(update={"backup": config.backup.model_copy(update={"folder": ""})})
    elif fault == "not mounted":
        site.disk.rmdir()
    elif fault == "no recipient":
        config.at.backup_recipient.unlink()
    else:
        with gnupg_home() as gpg:
            config.at.backup_recipient.write_bytes(gpg.certificate(gpg.key("Signs only")))
    with site.box.running() as log:
        before = log.head().size
        kind = StoreWriteError if fault == "no key to encrypt to" else PreflightError
        with pytest.raises(kind):
            making.make(config, clock=SystemClock())

        assert log.find(kind=making.MADE) == []
        assert log.head().size - before <= (1 if fault == "no key to encrypt to" else 0)
    assert not site.disk.exists() or list(site.disk.iterdir()) == []


def test_without_a_running_ledger_there_is_no_backup(site: BackedUp) -> None:
    with pytest.raises(LedgerUnavailableError):
        making.make(site.config, clock=SystemClock())

    assert list(site.disk.iterdir()) == []


def test_a_disk_that_fills_up_leaves_the_backup_before(site: BackedUp, monkeypatch: pytest.MonkeyPatch) -> None:
    first = site.make()
    _fill(monkeypatch)
    with pytest.raises(StoreWriteError):
        site.make()

    assert [each.name for each in shelf.kept(site.disk, "demo")] == [first.file.name]
    assert sorted(path.name for path in site.disk.iterdir()) == [first.file.name, f"{first.file.name}.json"]


def test_a_disk_that_fills_up_before_all_is_written_is_not_told_as_a_broken_pipe(
    site: BackedUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site.config.at.promoter / PASSWORDS).write_bytes(bytes(LARGE))  # more than waits in a pipe
    _fill(monkeypatch)

    with pytest.raises(StoreWriteError) as told:
        site.make()

    assert told.value.why == "No space left on device"
    assert list(site.disk.iterdir()) == []


def _fill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk take not a byte of what gpg gives out."""

    class Full(Laying):
        def _lay(self) -> None:
            with Path("/dev/full").open("wb", buffering=0) as self._out:
                super()._lay()

    monkeypatch.setattr(making, "Laying", Full)


@pytest.mark.parametrize("size", [1, LARGE])
def test_bytes_that_the_disk_changed_as_they_were_written_are_no_backup(
    site: BackedUp, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """They had been hashed as the disk gave them back, recorded as verified, and nobody could decrypt them."""
    (site.config.at.promoter / PASSWORDS).write_bytes(bytes(size))
    first = site.make()

    class Flipped(Laying):
        def result(self) -> Bytes:
            given = super().result()
            with next(site.disk.glob(".*.unfinished")).open("r+b") as file:
                file.seek(given.length // 2)
                changed = file.read(1)[0] ^ 1
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([changed]))
            return given

    monkeypatch.setattr(making, "Laying", Flipped)
    with pytest.raises(StoreWriteError, match="gives back other bytes"):
        site.make()

    assert [each.name for each in shelf.kept(site.disk, "demo")] == [first.file.name]
    assert sorted(path.name for path in site.disk.iterdir()) == [first.file.name, f"{first.file.name}.json"]
    with site.box.running() as ledger:
        assert len(ledger.find(kind=making.WRITTEN)) == len(ledger.find(kind=making.MADE)) == 1


def test_a_gpg_that_fails_keeps_nothing_and_ends(site: BackedUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipient, "_ENCRYPT", ("--encrypt", "--no-such-option"))

    with pytest.raises(StoreWriteError, match="could not be encrypted"):
        site.make()

    assert list(site.disk.iterdir()) == []


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space"), FileNotFoundError(errno.ENOENT, "No usable temporary directory")]
)
def test_no_room_for_temporary_files_is_not_told_as_a_full_backup_disk(
    site: BackedUp, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def nowhere(*_: object) -> object:
        raise error

    monkeypatch.setattr(recipient, "encrypting", nowhere)
    with pytest.raises(NoSpaceError, match="temporary files"):
        site.make()


def test_two_backups_do_not_run_at_once_and_what_a_kill_left_goes(site: BackedUp) -> None:
    left = site.disk / f".sealift-demo-x{shelf.SUFFIX}.unfinished"
    left.write_bytes(b"half")
    with shelf.alone(site.disk), pytest.raises(ConflictError), shelf.alone(site.disk):
        pass

    assert not left.exists()


@pytest.mark.parametrize("content", [b"x", bytes(LARGE)])
def test_records_that_do_not_prove_are_never_encrypted_as_a_backup(
    site: BackedUp, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    with monkeypatch.context() as fault:
        fault.setattr(contents, "gather", lambda *_, **__: {"site/../other": content})
        with pytest.raises(BackupDamagedError):
            site.make()

    assert list(site.disk.iterdir()) == []


def test_a_recipient_takes_two_people_and_a_key_to_encrypt_to(
    site: BackedUp, offline: Recipient, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.gpg", tmp_path / "bad.gpg"
    good.write_bytes(offline.certificate())
    with gnupg_home() as gpg:
        bad.write_bytes(gpg.certificate(gpg.key("Signs only")))
    with site.box.running() as log:
        with pytest.raises(ApprovalRefusedError) as alone:
            choosing.choose(site.config, good, ["Ann", " ann "], clock=SystemClock())
        assert alone.value.why == "different people named: 1"
        with pytest.raises(PreflightError):
            choosing.choose(site.config, bad, ["Ann", "Bo"], clock=SystemClock())

        done = choosing.choose(site.config, good, ["Ann", "Bo"], clock=SystemClock())

        assert [leaf.body["by"] for leaf in log.find(kind=choosing.CHOSEN)] == [["Ann", "Bo"]]
    assert done.fingerprint == offline.fingerprint


def test_the_key_that_page_and_refusal_say_to_make_can_be_encrypted_to(tmp_path: Path) -> None:
    page = (ROOT / "docs/operator/backup.md").read_text()
    certificate = tmp_path / "backup-key.gpg"

    typed = [line.strip() for line in page.splitlines() if line.startswith("    gpg --homedir key --quick-gen-key ")]
    printed = [line.replace("--homedir key ", "") for line in typed]

    assert printed
    for command in (*printed, recipient.MAKE_KEY):
        with gnupg_home() as gpg:
            made = gpg.run("--status-fd", "1", *shlex.split(command)[1:]).decode()
            certificate.write_bytes(gpg.certificate(made.split("KEY_CREATED ")[1].split()[1]))
        recipient.require_usable(certificate)


def test_the_list_of_erasures_only_grows(site: BackedUp) -> None:
    erasures_before = {"a" * 64}
    (site.disk / erasures.FILE_NAME).write_bytes(b'{"format":1,"keys":["' + b"a" * 64 + b'"]}')
    with site.box.running():
        site.record(erasures.DESTROYED, {"name": "identity-hmac", "digests": ["b" * 64]})
        making.make(site.config, clock=SystemClock())

    assert erasures.noted(site.disk) == erasures_before | {"b" * 64}


def test_gpg_leaves_no_agent_behind(site: BackedUp) -> None:
    site.make()

    running = subprocess.run(["pgrep", "-af", "sealift-gpg-"], capture_output=True, text=True, check=False).stdout
    assert running == ""
    assert shutil.which("gpg")


@pytest.mark.parametrize(("folder", "tells"), [("/media/sealift-backup", False), ("/media/second disk", True)])
def test_a_folder_that_cannot_be_written_names_the_one_that_units_may_write_to(
    site: BackedUp, monkeypatch: pytest.MonkeyPatch, folder: str, *, tells: bool
) -> None:
    section = site.config.backup.model_copy(update={"folder": folder})
    monkeypatch.setattr(os, "access", lambda *_: False)

    with pytest.raises(PreflightError) as refused:
        shelf.require_folder(site.config.model_copy(update={"backup": section}))

    assert ("drop-ins" in refused.value.fix) is tells


def test_the_folder_that_units_may_write_to_is_what_they_say() -> None:
    for unit in ("backup", "drill"):
        lines = (ROOT / f"systemd/sealift-{unit}.service").read_text().splitlines()
        assert f"ReadWritePaths=-{shelf.UNITS}" in lines


def test_a_clock_that_is_behind_the_recipients_key_keeps_no_backup_from_being_made(site: BackedUp) -> None:
    later, ended = "20400101T000000", "20200101T000000"
    with gnupg_home() as gpg:
        primary = gpg.key("Made later", at=later)
        gpg.run("--quick-add-key", primary, "cv25519", "encr", "0", at=later)
        site.config.at.backup_recipient.write_bytes(gpg.certificate(primary, at=later))

        recipient.require_usable(site.config.at.backup_recipient)
        made = site.make()

        opened = gpg.run("--decrypt", str(made.file), at=later)
        assert len(opened) > LARGE // 1024
        of_before = gpg.key("Ended", at=ended)
        gpg.run("--quick-add-key", of_before, "cv25519", "encr", "1y", at=ended)
        site.config.at.backup_recipient.write_bytes(gpg.certificate(of_before, at=ended))
        with pytest.raises(PreflightError, match="nothing can be encrypted"):
            recipient.require_usable(site.config.at.backup_recipient)


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN", b"\x99"])
def test_a_damaged_recipient_is_chosen_anew(site: BackedUp, offline: Recipient, tmp_path: Path, damage: bytes) -> None:
    chosen = tmp_path / "key.gpg"
    chosen.write_bytes(offline.certificate())
    site.config.at.backup_recipient.write_bytes(damage)
    with site.box.running():
        with pytest.raises(PreflightError) as refused:
            making.make(site.config, clock=SystemClock())

        done = choosing.choose(site.config, chosen, ["Ann", "Bo"], clock=SystemClock())

    assert "sealift backup recipient" in refused.value.fix
    assert (done.before, done.fingerprint) == ("", offline.fingerprint)
