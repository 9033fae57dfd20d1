"""What is garbage: bytes of deleted versions and of nobody, never what a release or a receive needs."""

from pathlib import Path

import pytest

from appliance.actions.collect import COLLECTED, collect
from appliance.audit.memory import MemoryLedger
from appliance.config import Config
from appliance.errors import LedgerUnavailableError, StoreBusyError, StoreDamagedError
from appliance.registry.descriptor import ModelDescriptor
from appliance.store.content import ContentStore
from appliance.store.garbage import excused, garbage
from appliance.store.journal import Journal
from media.digest import sha256_hex
from tests.support.versions import store_version


@pytest.fixture
def store(config: Config) -> ContentStore:
    return ContentStore(config.at.store)


def deleted(ledger: MemoryLedger, version: ModelDescriptor) -> MemoryLedger:
    ledger.append("model.registered", {**_row(version), "descriptor": {}})
    ledger.append("model.deleted", {"model_digest": version.model_digest, "person": "ana", "reason": "x"})
    return ledger


def _row(version: ModelDescriptor) -> dict[str, object]:
    return {
        "model_digest": version.model_digest,
        "name": version.name,
        "version": version.version,
        "weights_digest": version.weights_digest,
        "serial": 1,
    }


def test_only_the_weights_of_a_deleted_version_go(config: Config, store: ContentStore) -> None:
    stored, version = store_version(config)
    before = {file.sha256 for file in stored.files.values()}

    facts = collect(config, deleted(MemoryLedger(), version))

    assert [one.sha256 for one in facts.found] == [version.weights_digest]
    left = {path.name for path in store.objects.rglob("*") if path.is_file()}
    assert left == before - {version.weights_digest}
    assert excused(store, {version.model_digest}) == {version.weights_digest}


def test_nothing_goes_while_no_version_is_deleted(config: Config, store: ContentStore) -> None:
    store_version(config)

    assert collect(config, MemoryLedger()).found == ()


def test_weights_that_another_version_needs_stay(config: Config, store: ContentStore) -> None:
    _, one = store_version(config, serial=1, name="one")
    _, two = store_version(config, serial=2, name="two")
    assert one.weights_digest == two.weights_digest

    assert garbage(store, {one.model_digest}) == ()
    assert [each.versions for each in garbage(store, {one.model_digest, two.model_digest})] == [
        tuple(sorted((one.model_digest, two.model_digest)))
    ]


def test_a_dry_run_names_the_bytes_and_removes_nothing(config: Config, store: ContentStore) -> None:
    _, version = store_version(config)
    ledger = deleted(MemoryLedger(), version)

    facts = collect(config, ledger, dry_run=True)

    assert [(one.bytes, one.path) for one in facts.found] == [
        (version.weights[0].length, "data/models/tiny/weights.gguf")
    ]
    assert (facts.bytes, facts.removed) == (version.weights[0].length, False)
    assert store.object_path(version.weights_digest).is_file()
    assert ledger.find(kind=COLLECTED) == []


def test_objects_of_a_receive_that_was_cut_off_stay(config: Config, store: ContentStore) -> None:
    orphan, coming = b"orphan", b"coming"
    for content in (orphan, coming):
        place = store.object_path(sha256_hex(content))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    folder = store.incoming / "abcdef123456"
    folder.mkdir(parents=True)
    journal = Journal.open(folder / "journal", payload_digest="0" * 64, full=False)
    journal.record_complete({sha256_hex(coming): len(coming)})
    journal.close()

    facts = collect(config, MemoryLedger())

    assert [one.sha256 for one in facts.found] == [sha256_hex(orphan)]
    assert store.object_path(sha256_hex(coming)).is_file()


def test_a_running_receive_is_not_disturbed(config: Config, store: ContentStore) -> None:
    _, version = store_version(config)
    ledger = deleted(MemoryLedger(), version)

    with store.locked(), pytest.raises(StoreBusyError):
        collect(config, ledger)
    assert store.object_path(version.weights_digest).is_file()


def test_nothing_goes_while_a_releases_record_does_not_read(config: Config, store: ContentStore) -> None:
    _, version = store_version(config)
    other, _ = store_version(config, serial=2, name="other", weights=b"other")
    (other.folder / "release.json").write_bytes(b"{")

    with pytest.raises(StoreDamagedError):
        collect(config, deleted(MemoryLedger(), version))
    assert store.object_path(version.weights_digest).is_file()


def test_what_cannot_be_recorded_is_not_removed(
    config: Config, store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, version = store_version(config)
    ledger = deleted(MemoryLedger(), version)

    def silent(*_: object) -> None:
        raise LedgerUnavailableError(what="no ledger", why="", fix="")

    monkeypatch.setattr(ledger, "append", silent)
    with pytest.raises(LedgerUnavailableError):
        collect(config, ledger)
    assert store.object_path(version.weights_digest).is_file()


def test_a_collection_that_was_cut_off_is_finished_by_the_next(
    config: Config, store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, one = store_version(config, serial=1, name="one", weights=b"first weights")
    _, two = store_version(config, serial=2, name="two", weights=b"other weights")
    ledger = deleted(deleted(MemoryLedger(), one), two)
    unlink, cuts = Path.unlink, iter((False, True))

    def cut(path: Path, *, missing_ok: bool = False) -> None:
        if next(cuts, False):
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", cut)
        with pytest.raises(KeyboardInterrupt):
            collect(config, ledger)

    assert len(collect(config, ledger).found) == 1
    assert collect(config, ledger).found == ()
    assert len(ledger.find(kind=COLLECTED)) == 2
