"""New versions of the box's keys, and older ones destroyed: recorded, handed to the units, and never brought back."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import renewedelsewhere
from appliance.actions.backups import aside, erasures, shelf
from appliance.actions.boxkeys import DROP_IN, MADE, ROTATED, Keyring, complete, listed
from appliance.audit import nodekeys
from appliance.audit.facts import Appended
from appliance.audit.memory import MemoryLedger
from appliance.audit.postgres_sharing import Node
from appliance.audit.verify import verify
from appliance.config import Config, DatabaseSection, PlacesSection
from appliance.errors import ConflictError, KeyMissingError, LedgerUnavailableError, StoreWriteError, UnitError
from appliance.install.supervisor import UnitState
from appliance.keys import commitments
from appliance.keys.files import FileKeys, create_missing
from appliance.verify.freshness import BUILT
from media.clock import FixedClock, to_text
from media.errors import UsageError
from tests.support.ledger import LedgerSite, ledger_site
from tests.support.receiving import NOW
from tests.support.supervisor import FakeSupervisor

GATEWAY, ADMIN, LEDGER = "sealift-gateway.service", "sealift-admin.service", "sealift-ledger.service"
CHECKPOINTS = "ledger-checkpoint"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = Config(site="ward-7", environment="demo", places=PlacesSection(root=str(tmp_path)))
    create_missing(made.at.key_files)
    return made


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger(FixedClock(at=NOW))


@pytest.fixture
def supervisor() -> FakeSupervisor:
    made = FakeSupervisor()
    made.start(GATEWAY)
    return made


@pytest.fixture
def systemd(tmp_path: Path) -> Path:
    folder = tmp_path / "systemd"
    folder.mkdir()
    return folder


@pytest.fixture
def keyring(config: Config, ledger: MemoryLedger, supervisor: FakeSupervisor, systemd: Path) -> Keyring:
    return Keyring(config, ledger, supervisor, drop_ins=systemd)


def test_units_are_told_of_versions_that_came_and_of_the_first_alone_by_starting_again(
    config: Config, keyring: Keyring, systemd: Path
) -> None:
    assert keyring.tell("api-key-pepper") == (GATEWAY,)
    assert not list(systemd.rglob("*.conf"))  # their own files name it

    FileKeys(config.at.key_files).create("api-key-pepper")

    assert keyring.tell("api-key-pepper") == (GATEWAY,)
    assert list(systemd.rglob("*.conf"))


def test_a_new_version_makes_and_the_old_one_still_checks(
    config: Config, ledger: MemoryLedger, keyring: Keyring, supervisor: FakeSupervisor, systemd: Path
) -> None:
    before = FileKeys(config.at.key_files).hmac("api-key-pepper", b"key")

    done = keyring.rotate("api-key-pepper", reason="an operator left")

    keys = FileKeys(config.at.key_files)
    assert keys.hmac("api-key-pepper", b"key", version=1) == before
    assert keys.hmac("api-key-pepper", b"key") != before
    assert (done.versions, done.restarted) == ((1, 2), (GATEWAY,))
    assert supervisor.state(GATEWAY) is UnitState.ACTIVE
    [leaf] = ledger.find(kind=ROTATED)
    body = dict(leaf.body)
    assert body.pop("believed") >= to_text(BUILT)
    assert body == {"name": "api-key-pepper", "version": 2, "reason": "an operator left"}
    text = (systemd / f"{GATEWAY}.d" / DROP_IN).read_text()
    assert "LoadCredential=\nLoadCredential=api-key-pepper.v1:/etc/sealift/keys/api-key-pepper.v1\n" in text
    assert "LoadCredential=api-key-pepper.v2:/etc/sealift/keys/api-key-pepper.v2\n" in text
    assert "LoadCredential=phi-map.v1:" in text
    assert "passwords.json" in (systemd / "sealift-backup.service.d" / DROP_IN).read_text()
    assert not (systemd / f"{ADMIN}.d").exists()


def test_a_node_says_with_a_new_version_what_the_others_compare_with_theirs(
    config: Config, ledger: MemoryLedger, supervisor: FakeSupervisor, tmp_path: Path
) -> None:
    among = DatabaseSection(kind="postgresql", socket=str(tmp_path), node="a")
    Keyring(config.model_copy(update={"database": among}), ledger, supervisor).rotate("session", reason="renewal")

    [leaf] = ledger.find(kind=ROTATED)
    own = commitments.of(FileKeys(config.at.key_files))
    assert leaf.body["commitment"] == own["session.v2"]
    assert nodekeys.compare(ledger.log, ledger.log.origin, own).text == ""


def test_a_key_whose_newer_version_is_on_a_node_that_is_there_is_not_renewed_beside_it(
    config: Config, ledger: MemoryLedger, supervisor: FakeSupervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    among = DatabaseSection(kind="postgresql", socket=str(tmp_path), node="b")
    ring = Keyring(config.model_copy(update={"database": among}), ledger, supervisor)
    there = [Node("a", True)]
    monkeypatch.setattr(renewedelsewhere, "nodes_of", lambda _: there)
    ledger.log.node = "a"
    ledger.append(ROTATED, {"name": "session", "version": 2, "reason": "renewal"})
    ledger.log.node = "b"

    with pytest.raises(ConflictError, match="on node a") as refused:
        ring.rotate("session", reason="renewal")
    assert "box-keys complete" in refused.value.fix
    assert FileKeys(config.at.key_files).versions("session") == (1,)

    there.clear()  # gone for good, and its version with it
    ring.rotate("session", reason="renewal")
    there.append(Node("a", True))
    ring.rotate("session", reason="renewal")
    assert FileKeys(config.at.key_files).versions("session") == (1, 2, 3)


def test_versions_that_were_copied_from_another_node_are_named_to_the_units_of_this_one(
    config: Config, ledger: MemoryLedger, systemd: Path, tmp_path: Path
) -> None:
    FileKeys(config.at.key_files).create("session")
    among = DatabaseSection(kind="postgresql", socket=str(tmp_path), node="b")

    assert complete(config, lambda: ledger, drop_ins=systemd).told == ()
    done = complete(config.model_copy(update={"database": among}), lambda: ledger, drop_ins=systemd)

    assert done.told == (ADMIN,)
    assert "LoadCredential=session.v2:" in (systemd / f"{ADMIN}.d" / DROP_IN).read_text()


def test_a_version_that_was_made_and_not_handed_over_is_handed_over_by_the_next_run(
    config: Config, keyring: Keyring, ledger: MemoryLedger, supervisor: FakeSupervisor, systemd: Path
) -> None:
    (systemd / f"{GATEWAY}.d").write_text("in its place")  # as where the disk is full
    with pytest.raises(StoreWriteError):
        keyring.rotate("content-hmac", reason="retention: a year is over")
    (systemd / f"{GATEWAY}.d").unlink()

    assert keyring.mend("content-hmac") == (GATEWAY,)
    assert "content-hmac.v2" in (systemd / f"{GATEWAY}.d" / DROP_IN).read_text()
    assert keyring.mend("content-hmac") == ()
    FileKeys(config.at.key_files).create("content-hmac")  # cut off before it was recorded
    assert Keyring(config, ledger, supervisor, drop_ins=systemd).mend("content-hmac") == ()


def test_gateways_beside_the_first_get_the_new_version_too(
    keyring: Keyring, supervisor: FakeSupervisor, systemd: Path
) -> None:
    supervisor.start("sealift-gateway@2.service")

    done = keyring.rotate("content-hmac", reason="renewal")

    assert done.restarted == (GATEWAY, "sealift-gateway@2.service")
    assert "content-hmac.v2" in (systemd / "sealift-gateway@.service.d" / DROP_IN).read_text()


def test_copies_of_a_destroyed_version_in_what_a_restore_put_aside_go_too(
    config: Config, ledger: MemoryLedger, keyring: Keyring
) -> None:
    folder = config.at.key_files
    sealed = FileKeys(folder).wrap("phi-map", b"text", b"aad")
    before = config.at.state / "before-restore-20261101T080000Z/keys"
    shutil.copytree(folder, before)
    other = config.at.state / "before-restore-20261102T080000Z/keys"
    other.mkdir(parents=True)
    (other / "phi-map.v1").write_bytes(b"o" * 32)  # of another lineage, by the same name and version
    (other / "phi-map.v7").write_bytes((folder / "phi-map.v1").read_bytes())  # the same bytes by another name
    digests = {erasures.digest((folder / "phi-map.v1").read_bytes())}
    keyring.rotate("phi-map", reason="renewal")

    keyring.destroy("phi-map", reason="over")

    assert not (before / "phi-map.v1").exists()
    assert (before / "session.v1").exists()
    assert [file.name for file in other.iterdir()] == ["phi-map.v1"], "which may be in use, under another version"
    with pytest.raises(KeyMissingError):
        FileKeys(before).unwrap("phi-map", sealed, b"aad")
    [leaf] = ledger.find(kind=erasures.DESTROYED)
    assert leaf.body["files"] == [
        "phi-map.v1",
        "before-restore-20261101T080000Z/phi-map.v1",
        "before-restore-20261102T080000Z/phi-map.v7",
    ]
    assert set(leaf.body["digests"]) == digests


def test_a_unit_that_may_not_write_to_what_was_put_aside_records_and_destroys_nothing(
    config: Config, ledger: MemoryLedger, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = config.at.state / "before-restore-20261101T080000Z/keys"
    shutil.copytree(config.at.key_files, before)
    keyring.rotate("identity-hmac", reason="renewal")
    # As below ProtectSystem=strict, where root is refused too.
    monkeypatch.setattr(os, "access", lambda path, _: not Path(path).is_relative_to(before))

    with pytest.raises(KeyMissingError) as refused:
        keyring.destroy("identity-hmac", reason="over")

    assert "before-restore-20261101T080000Z cannot be destroyed from here" in refused.value.what
    assert "`sealift retention run`" in refused.value.fix
    assert ledger.find(kind=erasures.DESTROYED) == []
    assert FileKeys(config.at.key_files).versions("identity-hmac") == (1, 2)


def test_a_unit_that_does_not_start_again_keeps_no_key_that_is_recorded_as_destroyed(
    config: Config,
    ledger: MemoryLedger,
    keyring: Keyring,
    supervisor: FakeSupervisor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = config.at.key_files / "content-hmac.v1"
    keyring.rotate("content-hmac", reason="renewal")
    kept = old.read_bytes()

    def fails(unit: str) -> None:
        raise UnitError(what=f"{unit} did not start", why="", fix="")

    monkeypatch.setattr(supervisor, "start", fails)
    with pytest.raises(UnitError, match="did not start"):
        keyring.destroy("content-hmac", reason="the right to erasure")

    assert not old.exists()
    assert erasures.recorded(ledger) == {erasures.digest(kept)}
    old.write_bytes(kept)
    gone = erasures.recorded(ledger)
    [found] = aside.findings(config.at, clock=FixedClock(at=NOW), gone=gone)
    assert (found.name, found.is_good) == ("destroyed keys", False)
    assert found.text.startswith("content-hmac.v1: still there")
    old.unlink()
    assert list(aside.findings(config.at, clock=FixedClock(at=NOW), gone=gone)) == []


def test_older_versions_are_recorded_by_digest_and_then_gone(
    config: Config, ledger: MemoryLedger, keyring: Keyring, systemd: Path
) -> None:
    old = FileKeys(config.at.key_files).get("identity-hmac").bytes
    keyring.rotate("identity-hmac", reason="renewal")

    done = keyring.destroy("identity-hmac", reason="the right to erasure")

    assert (done.versions, done.gone) == ((2,), (1,))
    assert erasures.recorded(ledger) == {erasures.digest(old)}
    with pytest.raises(KeyMissingError):
        FileKeys(config.at.key_files).hmac("identity-hmac", b"", version=1)
    text = (systemd / f"{GATEWAY}.d" / DROP_IN).read_text()
    assert "identity-hmac.v1" not in text
    assert "identity-hmac.v2" in text


@pytest.mark.parametrize("is_plugged_in", [True, False])
def test_the_list_beside_the_backups_is_told_at_once_and_its_disk_holds_nothing_up(
    config: Config, ledger: MemoryLedger, supervisor: FakeSupervisor, tmp_path: Path, *, is_plugged_in: bool
) -> None:
    disk = tmp_path / "disk"
    if is_plugged_in:
        disk.mkdir()
    section = config.backup.model_copy(update={"folder": str(disk), "on_system_disk": True})
    keyring = Keyring(config.model_copy(update={"backup": section}), ledger, supervisor)
    old = FileKeys(config.at.key_files).get("session").bytes
    keyring.rotate("session", reason="renewal")

    done = keyring.destroy("session", reason="over")

    assert done.gone == (1,)
    assert FileKeys(config.at.key_files).versions("session") == (2,)
    if is_plugged_in:
        assert erasures.noted(disk) == {erasures.digest(old)}
        assert (disk / erasures.FILE_NAME).stat().st_mode & 0o777 == 0o644
        assert "unnoted" not in done.to_json()
    else:
        assert "gets it with the next backup" in done.to_json()["unnoted"]


def _backed_up(config: Config, disk: Path) -> Config:
    section = config.backup.model_copy(update={"folder": str(disk), "on_system_disk": True})
    return config.model_copy(update={"backup": section})


@pytest.mark.parametrize("what", ["pipe", "link", "folder", "text"])
def test_what_lies_in_the_place_of_the_list_holds_no_destruction_up_and_is_kept(
    config: Config, ledger: MemoryLedger, supervisor: FakeSupervisor, tmp_path: Path, what: str
) -> None:
    """Scenario: the disk is from outside, and its folder is the account's that makes backups."""
    (disk := tmp_path / "disk").mkdir()
    place, own = disk / erasures.FILE_NAME, tmp_path / "own"
    own.write_text('{"format":1,"keys":[]}')
    {"pipe": os.mkfifo, "link": lambda at: at.symlink_to(own), "folder": os.mkdir}.get(what, Path.touch)(place)
    keyring = Keyring(_backed_up(config, disk), ledger, supervisor)
    old = FileKeys(config.at.key_files).get("session").bytes
    keyring.rotate("session", reason="renewal")

    done = keyring.destroy("session", reason="over")

    assert erasures.noted(disk) == {erasures.digest(old)}
    assert own.read_text() == '{"format":1,"keys":[]}'
    assert f"{erasures.FILE_NAME}.unreadable-1" in {each.name for each in disk.iterdir()}
    assert (done.gone, done.unnoted) == ((1,), "")
    assert done.to_json()["record"] == ledger.find(kind=erasures.DESTROYED)[0].sequence


def test_the_list_is_told_after_the_keys_are_gone_and_not_beside_a_backup_that_is_being_made(
    config: Config,
    ledger: MemoryLedger,
    supervisor: FakeSupervisor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (disk := tmp_path / "disk").mkdir()
    keyring = Keyring(_backed_up(config, disk), ledger, supervisor)
    keyring.rotate("session", reason="renewal")
    there: list[tuple[int, ...]] = []
    real = erasures.note_now

    def noted_now(*given: Any) -> str:
        there.append(FileKeys(config.at.key_files).versions("session"))
        return real(*given)

    monkeypatch.setattr(erasures, "note_now", noted_now)
    with shelf.alone(disk):
        done = keyring.destroy("session", reason="over")

    assert there == [(2,)]
    assert "another backup is being made" in done.unnoted
    assert not (disk / erasures.FILE_NAME).exists()


def test_the_only_version_is_not_destroyed(keyring: Keyring, ledger: MemoryLedger) -> None:
    with pytest.raises(UsageError, match="one version"):
        keyring.destroy("session", reason="because")
    assert not ledger.find(kind=erasures.DESTROYED)


@pytest.mark.parametrize("name", ["nonsense", "../../etc/shadow"])
def test_unknown_names_are_refused(keyring: Keyring, ledger: MemoryLedger, name: str) -> None:
    with pytest.raises(UsageError, match="not renewed here"):
        keyring.rotate(name, reason="because")
    assert not ledger.find(kind=ROTATED)


class _Down(MemoryLedger):
    def append(self, kind: str, body: Mapping[str, Any], *, key: str | None = None) -> Appended:
        raise LedgerUnavailableError(what="down", why="", fix="")


def test_what_cannot_be_recorded_did_not_happen(config: Config, supervisor: FakeSupervisor) -> None:
    keyring = Keyring(config, _Down(FixedClock(at=NOW)), supervisor)
    (config.at.key_files / "session.v2").write_bytes(bytes(32))
    (config.at.key_files / "session.v2").chmod(0o400)

    with pytest.raises(LedgerUnavailableError):
        keyring.rotate("content-hmac", reason="renewal")
    with pytest.raises(LedgerUnavailableError):
        keyring.destroy("session", reason="renewal")

    found = {one.name: one.versions for one in listed(config)}
    assert (found["content-hmac"], found["session"]) == ((1,), (1, 2))


def test_an_interrupted_destruction_goes_on(config: Config, keyring: Keyring) -> None:
    keyring.rotate("content-hmac", reason="renewal")
    keyring.rotate("content-hmac", reason="renewal")
    place = config.at.key_files / "content-hmac.v1"
    place.unlink()
    place.mkdir()

    with pytest.raises(KeyMissingError):
        keyring.destroy("content-hmac", reason="renewal")
    place.rmdir()

    assert keyring.destroy("content-hmac", reason="renewal").versions == (3,)


def test_nothing_lists_material(config: Config) -> None:
    material = {path.read_bytes().hex() for path in config.at.key_files.iterdir()}

    assert not any(secret in str(one.to_json()) for one in listed(config) for secret in material)


def test_a_release_with_a_new_name_of_a_key_gets_it_and_tells_the_units_whose_keys_were_renewed(
    config: Config, keyring: Keyring, systemd: Path
) -> None:
    """As in an upgrade that the release before carries out: it knew neither the key nor that a unit loads it."""
    keyring.rotate("content-hmac", reason="renewal")
    drop_in = systemd / f"{GATEWAY}.d" / DROP_IN
    before = drop_in.read_text()
    (config.at.key_files / "phi-map.v1").unlink()
    drop_in.write_text("\n".join(line for line in before.splitlines() if "phi-map" not in line) + "\n")
    ledger = MemoryLedger()

    done = complete(config, lambda: ledger, drop_ins=systemd)

    assert (done.made, done.told) == (("phi-map",), (GATEWAY,))
    assert (config.at.key_files / "phi-map.v1").stat().st_mode & 0o777 == 0o400
    assert drop_in.read_text() == before
    assert not (systemd / f"{ADMIN}.d").exists()  # a unit whose keys were never renewed has its own file's line
    assert [leaf.body for leaf in ledger.find(kind=MADE)] == [{"names": ["phi-map"]}]
    assert complete(config, lambda: ledger, drop_ins=systemd).to_json() == {"made": [], "told": [], "changed": False}
    assert len(ledger.find(kind=MADE)) == 1


class RunningLedger(FakeSupervisor):
    """Restarts the ledger of a site as a supervisor does."""

    def __init__(self, site: LedgerSite) -> None:
        super().__init__()
        self._site = site
        self._running = ExitStack()
        self.log = self._running.enter_context(site.running())
        super().start(LEDGER)

    def start(self, unit: str) -> None:
        super().start(unit)
        if unit == LEDGER:
            self.log = self._running.enter_context(self._site.running())

    def stop(self, unit: str) -> None:
        super().stop(unit)
        if unit == LEDGER:
            self._running.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[LedgerSite, RunningLedger, Keyring]]:
    with ledger_site(tmp_path / "site") as site:
        supervisor = RunningLedger(site)
        with closing(site.door("ledger-actions")) as ledger:
            yield site, supervisor, Keyring(site.config, ledger, supervisor)
        supervisor.stop(LEDGER)


Running = tuple[LedgerSite, RunningLedger, Keyring]


def test_the_ledgers_key_takes_over_signed_by_the_one_before(running: Running) -> None:
    site, supervisor, keyring = running
    first, before = supervisor.log.vkey, supervisor.log.checkpoint()

    done = keyring.rotate(CHECKPOINTS, reason="yearly")
    again = keyring.rotate(CHECKPOINTS, reason="yearly")

    assert (done.versions, again.versions, done.restarted) == ((1, 2), (1, 2, 3), (LEDGER,))
    assert supervisor.log.key.public == FileKeys(site.places.key_files).public(CHECKPOINTS)
    with closing(site.door("ledger-operator")) as door:
        assert verify(door, pinned=first, notes=[before, door.checkpoint()]).findings == ()
    gone = keyring.destroy(CHECKPOINTS, reason="over")
    assert gone.gone == (1, 2)
    assert len(supervisor.log.keys.of(supervisor.log.origin)) == 3
    with closing(site.door("ledger-operator")) as door:
        assert verify(door, pinned=first, notes=[before, door.checkpoint()]).findings == ()


def test_a_renewal_that_was_cut_is_ended_by_the_next(running: Running) -> None:
    site, supervisor, keyring = running
    first = supervisor.log.vkey
    FileKeys(site.places.key_files).create(CHECKPOINTS)  # cut after the key was made

    with pytest.raises(UsageError, match="does not sign yet"):
        keyring.destroy(CHECKPOINTS, reason="because")
    supervisor.stop(LEDGER)
    supervisor.start(LEDGER)
    assert supervisor.log.key == first  # nothing asked for it
    supervisor.log.checkpoint()

    supervisor.stop(LEDGER)  # and now after it was recorded: the ledger was not started again
    supervisor.start(LEDGER)
    with closing(site.door("ledger-actions")) as ledger:
        ledger.append(ROTATED, {"name": CHECKPOINTS, "version": 2, "reason": "yearly"})
    done = keyring.rotate(CHECKPOINTS, reason="yearly")

    assert done.versions == (1, 2)
    assert supervisor.log.key.public == FileKeys(site.places.key_files).public(CHECKPOINTS, version=2)
    with closing(site.door("ledger-operator")) as door:
        assert len(door.find(ROTATED, limit=9)) == 1


def test_without_the_key_that_signs_no_other_follows(running: Running) -> None:
    site, _, keyring = running
    keys = FileKeys(site.places.key_files)
    keys.create(CHECKPOINTS)
    keys.remove(CHECKPOINTS, 1)

    with pytest.raises(KeyMissingError, match="not here"):
        keyring.rotate(CHECKPOINTS, reason="because")
