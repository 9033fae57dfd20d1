"""Files that format version 1 wrote are read for ever, to the same facts."""

import json
from pathlib import Path
from typing import Any

import pytest

from media import bagit, canonical, custody, dsse, layout, openpgp
from media.custody import HandOver
from media.digest import sha256_hex
from media.people import People
from media.release import ReleaseTerms, targets_from
from media.volume import VolumeIndex
from tests.corpus import judging
from tests.support.readers import CORPUS, READERS

_V1 = Path(__file__).resolve().parents[2] / "corpus" / "v1" / "valid" / "release-files"


@pytest.fixture(scope="module")
def people() -> People:
    return People.from_root(canonical.loads((_V1 / "root.json").read_bytes()))


def test_the_tag_manifest_of_version_1_covers_every_other_file() -> None:
    listed = bagit.parse_manifest((_V1 / layout.TAG_MANIFEST).read_bytes())
    found = {path.name for path in _V1.iterdir() if not path.name.startswith(layout.TAG_MANIFEST)}

    assert listed.keys() == found
    assert {name: sha256_hex((_V1 / name).read_bytes()) for name in found} == listed


def test_the_people_of_version_1_sealed_it(people: People) -> None:
    data = (_V1 / layout.TAG_MANIFEST).read_bytes()
    signatures = {path: layout.signer_of(path.name) for path in _V1.glob("*.sig")}

    found = [openpgp.verify_detached(path.read_bytes(), data, people.certificates()) for path in signatures]

    assert [good.fingerprint for good in found] == list(signatures.values())
    signers = people.require_signers([good.fingerprint for good in found], "release", 2)
    assert [person.id for person in signers] == ["alice", "bob"]


def test_the_facts_of_version_1_are_still_the_same() -> None:
    signed = canonical.loads((_V1 / "targets.json").read_bytes())
    index = VolumeIndex.from_bytes((_V1 / "volumes.json").read_bytes())
    info = bagit.parse_bag_info((_V1 / layout.BAG_INFO).read_bytes())

    terms = ReleaseTerms.from_targets(signed)
    index.require_covers(targets_from(signed))

    assert (terms.release, terms.serial, terms.sites) == ("2026.11", 7, ("clinic-a",))
    assert terms.payload_digest == index.payload_digest
    assert [[part.path for part in each.parts] for each in index.volumes] == [
        ["data/empty", "data/models/m/w.gguf.000000-000000", "data/release.json"],
        ["data/models/m/w.gguf.000001-000003"],
    ]
    assert (info.volume_id, info.payload_files) == (index.volumes[0].id, 3)
    manifest = bagit.parse_manifest((_V1 / layout.MANIFEST).read_bytes())
    assert manifest == {part.path: part.sha256 for part in index.volumes[0].parts}


def test_the_delta_set_of_version_1_is_still_the_same() -> None:
    untrusted = (_V1.with_name("delta-files") / "volumes.json").read_bytes()
    index = VolumeIndex.from_bytes(untrusted)
    targets = targets_from(canonical.loads((_V1 / "targets.json").read_bytes()))

    index.require_covers(targets)

    assert untrusted == index.to_bytes()
    assert index.base is not None
    assert (index.base.site, index.base.serials, index.base.runs[0].block) == ("clinic-a", (5,), 4)
    assert [part.path for part in index.volumes[0].parts] == ["data/models/m/w.gguf.000002-000003", "data/release.json"]
    assert [target.path for target in index.held_whole(targets)] == ["data/empty"]
    assert index.volumes[0].id == "d742b0fd37e64625"


def test_the_custody_of_version_1_is_still_whole(people: People) -> None:
    sealed = (_V1 / "custody-sealed-1.dsse.json").read_bytes()
    entries = [path.read_bytes() for path in _V1.iterdir() if layout.custody_number(path.name)]
    said = dsse.verify(sealed, people, "custody", payload_type=dsse.CUSTODY)
    volume_id = bagit.parse_bag_info((_V1 / layout.BAG_INFO).read_bytes()).volume_id

    facts = custody.read_chain(
        entries, people, sha256_hex(sealed), volume_id, sealed=HandOver.from_payload(said.payload)
    )

    assert facts.findings == ()
    assert [entry.hand_over.to for entry in facts.entries] == ["Courier Kim", "Dora Example"]
    assert {entry.file_name for entry in facts.entries} <= {path.name for path in _V1.iterdir()}


def test_the_statement_of_version_1_has_two_signers(people: People) -> None:
    statement = dsse.verify((_V1 / "rehearsal.dsse.json").read_bytes(), people, "release", 2)

    assert [person.id for person in statement.signers] == ["alice", "bob"]


def test_nobody_changed_the_corpus() -> None:
    assert (CORPUS / judging.DIGESTS).read_text("utf-8") == judging.digests(CORPUS)


def test_the_corpus_has_a_case_of_every_reader_and_kind() -> None:
    found = {(name.partition("/")[0], Path(name).name.partition("--")[0]) for name in judging.cases(CORPUS)}

    assert {reader for kind, reader in found if kind == "valid"} == set(READERS)
    assert {reader for kind, reader in found if kind == "malformed"} == set(READERS)
    assert len({reader for kind, reader in found if kind == "tampered"}) > 10


def test_every_case_of_version_1_ends_as_it_did_when_it_was_frozen() -> None:
    expected = {name: code for name, code in _expected().items() if isinstance(code, str)}

    assert {name: judging.judge(CORPUS, name) for name in judging.cases(CORPUS)} == expected
    assert {code for name, code in expected.items() if name.startswith("valid/")} == {"done"}
    assert "done" not in {code for name, code in expected.items() if not name.startswith("valid/")}


@pytest.mark.interop
@pytest.mark.parametrize("name", list(judging.media(CORPUS)))
def test_a_medium_of_version_1_ends_as_it_did_also_for_the_verifier_that_lies_on_it(tmp_path: Path, name: str) -> None:
    found = judging.judge_medium(CORPUS, name, tmp_path / "m")

    assert found == _expected()[name]
    # The second opinion does not judge custody; in all else it finds bad what the appliance finds bad.
    assert (found["exit_code"] in {0, 26}) == (found["second_opinion"] == 0)


def _expected() -> dict[str, Any]:
    return dict(json.loads((CORPUS / judging.EXPECTED).read_bytes()))
