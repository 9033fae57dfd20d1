"""Versions enter from a stored release only, and are found by what people type."""

from typing import Any

import pytest
from sqlalchemy import Engine

from appliance.audit.memory import MemoryLedger
from appliance.config import Config
from appliance.errors import LedgerUnavailableError, ProofError, StoreDamagedError, UnknownVersionError
from appliance.registry import carriers, catalog, damaged, deletion, evidence
from appliance.store.content import ContentStore
from media import canonical
from media.errors import MalformedError, SealiftError
from tests.support.installable import store_release
from tests.support.promotion import digest
from tests.support.versions import store_version, version_files


def test_a_stored_releases_version_is_registered_through_the_ledger(config: Config, state: Engine) -> None:
    ledger = MemoryLedger()
    stored, descriptor = store_version(config)

    assert catalog.register(ledger, state, stored) == (descriptor.model_digest,)

    (leaf,) = ledger.find(kind=catalog.REGISTERED)
    with state.connect() as session:
        (found,) = catalog.versions(session)
    assert (found.model_digest, found.weights_digest) == (descriptor.model_digest, descriptor.weights_digest)
    assert (found.sequence, found.serial, found.to_json()["quantization"]) == (leaf.sequence, 1, "Q4_1")


def test_the_same_version_carried_again_is_the_same_version(config: Config, state: Engine) -> None:
    ledger = MemoryLedger()
    for serial in (1, 2):
        stored, _ = store_version(config, serial=serial)
        catalog.register(ledger, state, stored)

    assert len(ledger.find(kind=catalog.REGISTERED)) == 1


def test_a_deleted_version_comes_back_however_often_its_release_was_refused_after(
    config: Config, state: Engine
) -> None:
    ledger = MemoryLedger()
    stored, descriptor = store_version(config)
    catalog.register(ledger, state, stored)
    ledger.append(deletion.DELETED, {"model_digest": descriptor.model_digest, "person": "anna", "reason": "old"})
    ledger.append("release.reverified", {"serial": stored.serial})
    for _ in range(25):
        ledger.append("release.refused", {"serial": stored.serial})

    catalog.register(ledger, state, stored)

    assert deletion.deletion_of(ledger, descriptor.model_digest) is None


def test_a_descriptor_whose_files_are_not_the_releases_is_refused(config: Config, state: Engine) -> None:
    files = version_files()
    files["data/models/tiny/weights.gguf"] = b"other weights"
    stored = store_release(config.at, files)
    ledger = MemoryLedger()

    with pytest.raises(StoreDamagedError):
        catalog.register(ledger, state, stored)
    assert ledger.find(kind=catalog.REGISTERED) == []


def test_without_the_ledger_nothing_is_registered(config: Config, state: Engine) -> None:
    ledger = MemoryLedger()
    ledger.available = False
    stored, _ = store_version(config)

    with pytest.raises(LedgerUnavailableError):
        catalog.register(ledger, state, stored)
    with state.connect() as session:
        assert catalog.versions(session) == ()


def test_a_version_is_found_by_digest_beginning_name_and_version(config: Config, state: Engine) -> None:
    ledger = MemoryLedger()
    stored, descriptor = store_version(config)
    catalog.register(ledger, state, stored)

    with state.connect() as session:
        for name in (descriptor.model_digest, descriptor.model_digest[:8], "tiny", "tiny:1"):
            assert catalog.version(session, name).model_digest == descriptor.model_digest
        for name in ("", "other", "tiny:2", descriptor.model_digest[:4], "0" * 12, "../tiny"):
            with pytest.raises(UnknownVersionError):
                catalog.version(session, name)


def test_a_name_means_its_newest_version(config: Config, state: Engine) -> None:
    ledger = MemoryLedger()
    digests = []
    for serial, weights in enumerate((b"first", b"second"), start=1):
        stored, descriptor = store_version(config, serial=serial, weights=weights)
        catalog.register(ledger, state, stored)
        digests.append(descriptor.model_digest)

    with state.connect() as session:
        assert catalog.version(session, "tiny").model_digest == digests[1]


def test_the_newest_release_that_carries_a_version_is_found(config: Config) -> None:
    _, descriptor = store_version(config, serial=1)
    store_version(config, serial=2)

    stored, found, tasks = carriers.carrier(ContentStore(config.at.store), descriptor.model_digest)

    assert (stored.serial, found.model_digest, tasks) == (2, descriptor.model_digest, ("data/evals/facts.jsonl",))
    with pytest.raises(UnknownVersionError):
        carriers.carrier(ContentStore(config.at.store), digest("nothing"))


@pytest.mark.parametrize("fault", ["evals", "judges", "weights", "template", "release.json"])
def test_a_newer_release_that_brings_a_version_wrongly_hides_no_other(config: Config, fault: str) -> None:
    """Whoever signed it must not keep the version in production from starting again."""
    _, descriptor = store_version(config, serial=1)
    files = version_files()
    if fault in {"evals", "judges"}:
        facts = canonical.loads(files["data/release.json"])
        facts["models"][0][fault] = 5
        files["data/release.json"] = canonical.dumps(facts)
    else:
        gone = {"weights": "weights.gguf", "template": "chat_template.jinja"}.get(fault, fault)
        files = {path: data for path, data in files.items() if not path.endswith(gone)}
    store_release(config.at, files, serial=2)
    store = ContentStore(config.at.store)

    stored, found, _ = carriers.carrier(store, descriptor.model_digest)

    assert (stored.serial, found.model_digest) == (1, descriptor.model_digest)
    assert damaged.is_sound(reversed(store.releases()), descriptor.model_digest)
    assert carriers.similarity_judge(store, but="") is None
    with pytest.raises(SealiftError):
        carriers.carrier(store, descriptor.model_digest, serial=2)


def test_only_the_newest_result_of_a_gate_counts(config: Config, state: Engine) -> None:
    ledger = MemoryLedger()
    stored, descriptor = store_version(config)
    catalog.register(ledger, state, stored)
    for passed in (False, True):
        body: dict[str, Any] = {"gate": "smoke", "passed": passed, "evidence_digest": digest("e"), "figures": {}}
        ledger.append("gate.result", {"model_digest": descriptor.model_digest, **body})
    catalog.register(ledger, state, stored)

    with state.connect() as session:
        (only,) = catalog.judgements(session, descriptor.model_digest)
    assert only.passed


def test_evidence_comes_back_under_its_digest(config: Config) -> None:
    name = evidence.store(config.at, {"site": "demo", "gates": []})

    assert evidence.read(config.at, name) == {"format": 1, "type": "sealift/evidence", "site": "demo", "gates": []}


def test_evidence_that_was_changed_or_is_gone_is_refused(config: Config) -> None:
    name = evidence.store(config.at, {"site": "demo"})
    path = evidence.folder(config.at) / f"{name}.json"
    path.write_bytes(canonical.dumps({"site": "other"}))

    for wrong in (name, digest("never")):
        with pytest.raises(ProofError):
            evidence.read(config.at, wrong)
    with pytest.raises(MalformedError):
        evidence.read(config.at, "../people")
