"""Attacks on media, one change each, and the refusal that answers it. Every medium is a copy of a genuine one."""

import base64
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.verify.freshness import CustodyAcceptance, Decisions, StaleAcceptance
from appliance.verify.trust import TrustRecord
from appliance.verify.verified import VerifiedRelease
from bundler.plan import REISSUES
from media import layout, limits
from tests.support.medium import SimulatedMedium, ceremony_with_two_keys_of, throwaway_ceremony, tiny_payload
from tests.support.receiving import Shelf, copy_here, rotated, terms_for

Spoil = Callable[[SimulatedMedium], object]

TAG_MANIFEST, SIGNATURE, CERTIFICATE = layout.TAG_MANIFEST, "signature of bob", "certificate of carol"
RELEASE_FILES = (
    *(TAG_MANIFEST, SIGNATURE, layout.MANIFEST, layout.BAGIT, layout.BAG_INFO),
    *("metadata/1.root.json", "metadata/timestamp.json", "metadata/1.snapshot.json", "metadata/1.targets.json"),
    *("metadata/volumes.json", "attest/provenance.dsse.json", "attest/sbom.dsse.json", "attest/scan.dsse.json"),
    *("attest/rehearsal.dsse.json", "attest/custody-sealed-1.dsse.json", "attest/custody-sealed-2.dsse.json"),
    *("check/VERIFY.txt", "check/verify.py", "check/bootstrap.py", CERTIFICATE),
    *("data/release.json", "data/models/tiny/tiny.gguf", "data/models/tiny/descriptor.json"),
    *("data/models/tiny/chat_template.jinja", "data/models/tiny/LICENSE", "data/models/tiny/provenance.json"),
    *("data/evals/tiny.jsonl", "data/wheels/tiny-1.0-py3-none-any.whl", "data/server/requirements-server.txt"),
    *("data/server/requirements-engine-llama-cpp.txt", "data/server/requirements-host.txt"),
    *("data/host/systemd/tiny.service", "data/host/ansible/site.yml"),
    *("data/debs/tiny_1.0_all.deb", "data/debs/Packages", "data/debs/Release"),
)
UNSIGNED = {TAG_MANIFEST: {20}, SIGNATURE: {10, 20}}


def named(medium: SimulatedMedium, name: str) -> str:
    """Return a file's name on this medium; keys differ from run to run."""
    if name == SIGNATURE:
        return layout.signature_name(medium.fingerprint("bob"))
    return layout.certificate_name(medium.fingerprint("carol")) if name == CERTIFICATE else name


def verify(medium: SimulatedMedium, **changes: Any) -> tuple[int, list[dict[str, Any]]]:
    return copy_here(medium, None, **changes)


def code_of(medium: SimulatedMedium, **changes: Any) -> int:
    return verify(medium, **changes)[0]


def accepted(medium: SimulatedMedium) -> TrustRecord:
    """Return the record of a site that has received this medium."""
    return TrustRecord(
        root_chain=tuple(raw.decode() for raw in medium.ceremony.chain),
        serial=medium.serial,
        timestamp_version=medium.serial * 1000,
        snapshot_version=medium.serial,
        targets_version=medium.serial,
        payload_digest=json.loads(medium.path(layout.VOLUMES).read_bytes())["payload_digest"],
    )


def test_a_genuine_medium_is_verified_to_the_last_byte(genuine: Shelf) -> None:
    medium = genuine()
    code, lines = verify(medium)

    facts = next(line["facts"] for line in lines if line["event"] == "verified")
    assert code == 0
    assert (facts["release"], facts["serial"], facts["code"]) == ("demo-1", 1, medium.code)
    assert [signer["person"] for signer in facts["signers"]] == ["alice", "bob"]
    assert facts["custody"]["complete"]
    assert lines[-1]["read_bytes"] == sum(map(len, medium.payload.values()))


def test_the_list_of_files_to_spoil_names_every_file_of_a_release(genuine: Shelf) -> None:
    medium = genuine()
    found = {
        path.relative_to(volume / layout.RELEASE).as_posix()
        for volume in medium.volumes
        for path in (volume / layout.RELEASE).rglob("*")
        if path.is_file()
    }
    others = {layout.signature_name(medium.fingerprint("alice"))}
    others |= {layout.certificate_name(medium.fingerprint(person)) for person in ("alice", "bob")}

    assert found == {named(medium, name) for name in RELEASE_FILES} | others


def test_volumes_may_be_given_in_any_order(genuine: Shelf) -> None:
    medium = genuine(volumes=3)

    assert code_of(replace(medium, volumes=medium.volumes[::-1])) == 0


@pytest.mark.parametrize("name", RELEASE_FILES)
def test_one_flipped_bit_anywhere_in_the_release_is_refused(genuine: Shelf, name: str) -> None:
    medium = genuine()
    size = medium.path(named(medium, name)).stat().st_size

    medium.flip_bit(named(medium, name), offset=sum(name.encode()) % size, bit=len(name) % 8)

    assert code_of(medium) in UNSIGNED.get(name, {15})


@pytest.mark.parametrize("name", RELEASE_FILES)
def test_a_file_that_is_gone_is_refused(genuine: Shelf, name: str) -> None:
    medium = genuine()

    medium.remove(named(medium, name))

    assert code_of(medium) == (21 if name == SIGNATURE else 11)


@pytest.mark.parametrize("name", ["data/release.json", "data/models/tiny/tiny.gguf", "metadata/timestamp.json"])
def test_a_file_that_is_cut_off_or_grew_is_refused(genuine: Shelf, name: str) -> None:
    shorter, longer = genuine(), genuine()

    shorter.truncate(name, shorter.path(name).stat().st_size - 1)
    longer.replace(name, longer.path(name).read_bytes() + b"\0")

    assert {code_of(shorter), code_of(longer)} == {15}


@pytest.mark.parametrize(
    "name",
    [
        "extra",
        "data/extra",
        "data/models/tiny/extra.gguf",
        "metadata/2.targets.json",
        "metadata/extra.json",
        "attest/extra.dsse.json",
        "check/extra.py",
        "check/signers/extra.gpg",
        "tagmanifest-sha256.txt.sig",
        "tagmanifest-sha256.txt.ABC.sig",
        "data/deep/er/extra",
    ],
)
def test_a_file_too_many_is_refused(genuine: Shelf, name: str) -> None:
    medium = genuine()

    medium.add(name, volume=1 + len(name) % 2)

    assert code_of(medium) == 12


def test_a_file_too_many_beside_the_release_is_refused_and_litter_is_not(genuine: Shelf) -> None:
    medium = genuine()
    medium.add_litter()
    assert code_of(medium) == 0

    (medium.volumes[1] / "holiday.jpg").write_bytes(b"")
    assert code_of(medium) == 12


def test_one_signature_less_than_the_threshold_is_refused(genuine: Shelf) -> None:
    medium = genuine()

    medium.drop_signature("bob")

    assert code_of(medium) == 21


def test_one_person_is_not_two_however_often_they_sign(genuine: Shelf) -> None:
    medium = genuine()

    medium.sign_twice_as("alice", instead_of="bob")

    assert code_of(medium) == 22


def test_a_third_signature_that_does_not_hold_is_refused(genuine: Shelf) -> None:
    medium = genuine()
    name = layout.signature_name(medium.fingerprint("carol"))
    for number in (1, 2):
        medium.add(name, medium.sign_as("carol", b"something else"), volume=number)

    assert code_of(medium) == 20


def test_a_third_signature_that_holds_is_welcome(genuine: Shelf) -> None:
    medium = genuine()
    name = layout.signature_name(medium.fingerprint("carol"))
    for number in (1, 2):
        manifest = medium.path(layout.TAG_MANIFEST, volume=number).read_bytes()
        medium.add(name, medium.sign_as("carol", manifest), volume=number)

    assert code_of(medium) == 0


def test_signature_files_under_each_others_names_are_refused(genuine: Shelf) -> None:
    medium = genuine()
    alice, bob = medium.signature("alice"), medium.signature("bob")
    first, second = alice.read_bytes(), bob.read_bytes()
    alice.write_bytes(second)
    bob.write_bytes(first)

    assert code_of(medium) == 20


def test_a_strangers_medium_is_refused(genuine: Shelf) -> None:
    stranger = genuine(keys=throwaway_ceremony("demo", "stranger"))

    assert code_of(stranger, trust=TrustRecord(root_chain=(genuine().root_json.decode(),))) == 20


@pytest.mark.parametrize("name", ["metadata/volumes.json", "metadata/1.targets.json", "data/release.json"])
def test_what_was_changed_and_sealed_again_without_tuf_is_refused(genuine: Shelf, name: str) -> None:
    # Two release people (or who stole their OpenPGP keys) seal other bytes than the ones TUF metadata was signed for.
    medium = genuine()
    data = bytearray(medium.path(name).read_bytes())
    at = data.index(b'"release"') if b'"release"' in data else len(data) // 2
    data[at + 2] ^= 1
    for number in (1, 2):
        if (medium.volumes[number - 1] / layout.RELEASE / name).exists():
            medium.replace(name, bytes(data), volume=number)
    medium.reseal("alice", "bob")

    assert code_of(medium) in {10, 14, 15, 20}


@pytest.mark.parametrize(
    ("said", "changed"),
    [(b"Sealift-Serial: 1\n", b"Sealift-Serial: 77\n"), (b"Identifier: demo-1", b"Identifier: other-9")],
)
def test_a_bag_that_says_another_release_than_its_index_is_refused(genuine: Shelf, said: bytes, changed: bytes) -> None:
    medium = genuine()
    for number in (1, 2):
        raw = medium.path(layout.BAG_INFO, volume=number).read_bytes()
        assert said in raw
        medium.replace(layout.BAG_INFO, raw.replace(said, changed), volume=number)
    medium.reseal("alice", "bob")

    assert code_of(medium) == 14


def _as_list(signed: dict[str, Any]) -> None:
    signed["targets"] = [1]


def _negative(signed: dict[str, Any]) -> None:
    next(iter(signed["targets"].values()))["length"] = -1


@pytest.mark.parametrize("spoil", [_as_list, _negative])
def test_targets_that_the_library_cannot_read_are_malformed(
    genuine: Shelf, spoil: Callable[[dict[str, Any]], None]
) -> None:
    medium = genuine()
    value = json.loads(medium.path("metadata/1.targets.json").read_bytes())
    spoil(value["signed"])
    for number in (1, 2):
        medium.replace("metadata/1.targets.json", json.dumps(value).encode(), volume=number)
    medium.reseal("alice", "bob")

    assert code_of(medium) == 10


def test_metadata_of_two_releases_cannot_be_mixed(genuine: Shelf) -> None:
    older, newer = genuine(), genuine(serial=2)
    for number in (1, 2):
        older.replace("metadata/timestamp.json", newer.path("metadata/timestamp.json").read_bytes(), volume=number)
    older.reseal("alice", "bob")

    assert code_of(older) == 11  # the newer timestamp names a snapshot that is not there


def test_a_newer_timestamp_over_older_targets_is_refused(genuine: Shelf) -> None:
    older, newer = genuine(), genuine(serial=2)
    for number in (1, 2):
        for name in ("metadata/timestamp.json", "metadata/2.snapshot.json"):
            older.add(name, newer.path(name).read_bytes(), volume=number)
        old = older.path("metadata/1.targets.json", volume=number).read_bytes()
        older.add("metadata/2.targets.json", old, volume=number)
    older.reseal("alice", "bob")

    assert code_of(older) == 14


def test_a_volume_of_another_release_does_not_belong(genuine: Shelf) -> None:
    medium = genuine()
    other = genuine(serial=2)

    assert code_of(replace(medium, volumes=[medium.volumes[0], other.volumes[1]])) == 14
    assert code_of(replace(medium, volumes=[other.volumes[0], medium.volumes[1]])) == 14


def test_a_volume_given_twice_does_not_count_as_two(genuine: Shelf) -> None:
    medium = genuine()

    assert code_of(replace(medium, volumes=[medium.volumes[0], medium.volumes[0]])) == 14


@pytest.mark.parametrize("kept", [0, 1])
def test_a_volume_that_is_not_there_is_named(genuine: Shelf, kept: int) -> None:
    medium = genuine()
    code, lines = verify(replace(medium, volumes=[medium.volumes[kept]]))

    assert code == 17
    assert f"volume {2 - kept} of 2" in lines[-1]["error"]["what"]


def test_no_volume_at_all_is_a_missing_volume(genuine: Shelf) -> None:
    assert code_of(replace(genuine(), volumes=[])) == 17


@pytest.mark.parametrize("name", ["001-abcdefabcdef.dsse.json"])
def test_one_flipped_bit_in_custody_stops_for_a_person(genuine: Shelf, name: str) -> None:
    medium = genuine()
    entry = next((medium.volumes[0] / layout.CUSTODY).iterdir())
    data = bytearray(entry.read_bytes())
    data[len(data) // 2] ^= 1
    entry.write_bytes(data)

    assert code_of(medium) == 26
    assert code_of(medium, decisions=Decisions(custody=CustodyAcceptance(name="Dana", reason="seals intact"))) == 0


def _no_folder(custody: Path) -> None:
    for entry in custody.iterdir():
        entry.unlink()
    custody.rmdir()


def _empty(custody: Path) -> None:
    for entry in custody.iterdir():
        entry.unlink()


def _junk(custody: Path) -> None:
    (custody / "002-000000000000.dsse.json").write_bytes(b"{}")


def _note(custody: Path) -> None:
    (custody / "note.txt").write_bytes(b"hello")


def _link(custody: Path) -> None:
    (custody / "002-000000000000.dsse.json").symlink_to("/etc/passwd")


def _renamed(custody: Path) -> None:
    entry = next(custody.iterdir())
    entry.rename(custody / "009-aaaaaaaaaaaa.dsse.json")


def _huge(custody: Path) -> None:
    (custody / "002-000000000000.dsse.json").write_bytes(b" " * 65_537)


def _file(custody: Path) -> None:
    _no_folder(custody)
    custody.write_bytes(b"")


def _pipe(custody: Path) -> None:
    _no_folder(custody)
    os.mkfifo(custody)


def _linked(custody: Path) -> None:
    _no_folder(custody)
    custody.symlink_to("/etc")


@pytest.mark.parametrize("spoil", [_no_folder, _empty, _junk, _note, _link, _renamed, _huge, _file, _pipe, _linked])
def test_whatever_is_wrong_with_custody_is_for_a_person_and_nothing_else(
    genuine: Shelf, spoil: Callable[[Path], None]
) -> None:
    medium = genuine()

    spoil(medium.volumes[1] / layout.CUSTODY)

    assert code_of(medium) == 26
    assert code_of(medium, decisions=Decisions(custody=CustodyAcceptance(name="Dana", reason=" "))) == 26
    assert code_of(medium, decisions=Decisions(custody=CustodyAcceptance(name="Dana", reason="called"))) == 0


def test_custody_of_one_volume_does_not_serve_for_another(genuine: Shelf) -> None:
    medium = genuine()
    first, second = (next((volume / layout.CUSTODY).iterdir()) for volume in medium.volumes)
    second.unlink()
    (second.parent / first.name).write_bytes(first.read_bytes())

    code, lines = verify(medium)

    assert code == 26
    assert "volume 2" in lines[-1]["error"]["what"] + lines[-1]["error"]["why"]


def test_another_sites_medium_is_refused_with_both_names(genuine: Shelf) -> None:
    code, lines = verify(genuine(), site="other-clinic")

    assert code == 24
    assert "demo-clinic" in lines[-1]["error"]["what"]
    assert "other-clinic" in lines[-1]["error"]["what"]


def test_another_kind_of_machine_is_refused(genuine: Shelf) -> None:
    medium = genuine()
    machine = terms_for(medium).machine

    assert code_of(medium, machine=replace(machine, profile="gpu-80gb")) == 27
    assert code_of(medium, machine=replace(machine, glibc="2.31")) == 27
    assert code_of(medium, machine=replace(machine, python="3.9")) == 27


def test_a_release_rehearsed_less_than_the_site_demands_is_refused(genuine: Shelf) -> None:
    assert code_of(genuine(), level="answered-on-target") == 27
    assert code_of(genuine(), level=None) == 0


def test_an_older_release_is_superseded_and_nobody_can_override_that(genuine: Shelf) -> None:
    older, newer = genuine(), genuine(serial=2)
    decisions = Decisions(stale=StaleAcceptance(code=older.code, reason="x", names=("A", "B")))

    assert code_of(older, trust=accepted(newer), decisions=decisions) == 23


def test_the_same_serial_with_another_payload_is_superseded(genuine: Shelf) -> None:
    other = genuine(files={**tiny_payload(), "data/evals/extra.jsonl": b"{}\n"})

    assert code_of(other, trust=accepted(genuine())) == 23


def test_older_signatures_of_the_same_serial_are_superseded(genuine: Shelf) -> None:
    first, again = genuine(), genuine(issue=1)
    record = replace(accepted(first), timestamp_version=1001)

    assert code_of(first, trust=record) == 23
    assert code_of(again, trust=record) == 0


def test_the_same_release_again_is_verified_whatever_its_date_and_custody(genuine: Shelf) -> None:
    medium = genuine()
    _empty(medium.volumes[0] / layout.CUSTODY)
    late = datetime(2031, 1, 1, tzinfo=UTC)

    code, lines = verify(medium, trust=accepted(medium), now=late)

    assert code == 0
    assert next(line for line in lines if line["event"] == "verified")["held"]


def test_the_same_release_signed_anew_needs_its_custody(genuine: Shelf) -> None:
    first, again = genuine(), genuine(issue=1)
    _empty(again.volumes[0] / layout.CUSTODY)
    decisions = Decisions(custody=CustodyAcceptance(name="Dana", reason="called"))

    assert code_of(again, trust=accepted(first)) == 26
    assert code_of(again, trust=accepted(first), decisions=decisions) == 0


@pytest.mark.parametrize("version", [1, 999, 2000, 2**53 - 1])
@pytest.mark.parametrize("received", [False, True])
def test_a_timestamp_cannot_burn_the_versions_of_later_serials(
    genuine: Shelf, monkeypatch: pytest.MonkeyPatch, *, version: int, received: bool
) -> None:
    record = accepted(genuine()) if received else TrustRecord(root_chain=accepted(genuine()).root_chain)
    with monkeypatch.context() as sender:
        sender.setattr("bundler.metadata.REISSUES", version)
        medium = genuine(stale_after=f"2026-12-30T00:00:{version % 60:02d}Z")

    assert code_of(medium, trust=record) == 10


def test_both_sides_give_a_serial_as_many_signings() -> None:
    assert REISSUES == limits.SIGNINGS


def test_a_serial_may_not_jump_past_the_cap(genuine: Shelf) -> None:
    first, far = genuine(), genuine(serial=1002)

    assert code_of(far, trust=accepted(first)) == 100
    assert code_of(genuine(serial=1001), trust=accepted(first)) == 0


def test_a_stale_release_needs_two_people_its_code_and_a_reason(genuine: Shelf) -> None:
    medium = genuine()
    late = {"now": datetime(2027, 11, 21, tzinfo=UTC)}

    def with_stale(**facts: Any) -> int:
        stale = {"code": medium.code, "reason": "no other way", "names": ("Ann", "Bo"), **facts}
        return code_of(medium, **late, decisions=Decisions(stale=StaleAcceptance(**stale)))

    assert code_of(medium, **late) == 25
    assert with_stale() == 0
    assert with_stale(names=("Ann",)) == 25
    assert with_stale(names=("Ann", " ann ")) == 25
    assert with_stale(names=("Ann", "An\u200bn")) == 25
    assert with_stale(names=("Ann", "\uff21nn")) == 25
    assert with_stale(reason=" ") == 25
    assert with_stale(code="0" * 64) == 25


def test_a_clock_that_was_turned_back_does_not_make_a_stale_release_fresh(genuine: Shelf) -> None:
    medium = genuine()
    past = datetime(1970, 1, 2, tzinfo=UTC)

    assert code_of(medium, now=past) == 0
    assert code_of(medium, now=past, floor=datetime(2028, 1, 1, tzinfo=UTC)) == 25
    record = TrustRecord(root_chain=(medium.root_json.decode(),), floor=datetime(2028, 1, 1, tzinfo=UTC))
    assert code_of(medium, now=past, trust=record) == 25


def test_a_rotation_signed_by_both_peoples_is_believed_and_told_at_once(genuine: Shelf) -> None:
    medium = genuine(keys=rotated(throwaway_ceremony("demo"), without="carol"))
    code, lines = verify(medium, trust=TrustRecord(root_chain=(medium.root_json.decode(),)))

    assert code == 0
    lines = [line for line in lines if line["event"] != "step"]
    assert lines[0]["event"] == "root"
    assert [json.loads(text)["signed"]["version"] for text in lines[0]["chain"]] == [1, 2]


def test_a_person_whom_a_later_root_left_out_no_longer_counts(genuine: Shelf) -> None:
    medium = genuine()
    medium.reseal("alice", "carol")
    later = rotated(medium.ceremony, without="carol")

    assert code_of(medium) == 0
    assert code_of(medium, trust=TrustRecord(root_chain=tuple(raw.decode() for raw in later.chain))) == 20


def test_one_person_with_two_keys_is_one_person_to_tuf_too(genuine: Shelf) -> None:
    # python-tuf counts key ids and is satisfied; the bag is sealed by two people.
    medium = genuine(keys=ceremony_with_two_keys_of("alice"))
    assert code_of(medium) == 0

    medium.sign_roles_as("alice")

    assert code_of(medium) == 22


@pytest.mark.parametrize("signed_by", ["alice", "bob"])
def test_a_rotation_that_too_few_signed_is_refused_before_anything_else(genuine: Shelf, signed_by: str) -> None:
    medium = genuine()
    medium.add("metadata/2.root.json", rotated(medium.ceremony, signed_by=(signed_by,)).chain[-1])
    medium.remove("bagit.txt")

    assert code_of(medium) == 21


def test_a_rotation_by_strangers_is_refused(genuine: Shelf) -> None:
    medium = genuine()
    stranger = rotated(throwaway_ceremony("demo", "stranger"))
    medium.add("metadata/2.root.json", stranger.chain[-1])

    assert code_of(medium) == 21


def test_a_rotation_to_another_environment_is_refused(genuine: Shelf) -> None:
    medium = genuine()
    medium.add("metadata/2.root.json", rotated(medium.ceremony, environment="production").chain[-1])

    assert code_of(medium) == 29


def test_a_root_that_skips_a_version_is_refused(genuine: Shelf) -> None:
    medium = genuine()
    skipping = rotated(medium.ceremony, version=3).chain[-1]
    medium.add("metadata/3.root.json", skipping)
    assert code_of(medium) == 11

    medium.add("metadata/2.root.json", skipping)
    assert code_of(medium) == 10


@pytest.mark.parametrize("environment", ["production", "rehearsal"])
def test_a_demo_root_is_refused_elsewhere(genuine: Shelf, environment: str) -> None:
    assert code_of(genuine(), environment=environment) == 29


@pytest.mark.parametrize("junk", [b"", b"[]", b"{", b'{"signed":{},"signatures":[]}', b"\xff" * 10, b"[" * 100_000])
@pytest.mark.parametrize("name", ["metadata/2.root.json", "metadata/timestamp.json"])
def test_junk_in_the_place_of_metadata_is_malformed_and_nothing_worse(genuine: Shelf, junk: bytes, name: str) -> None:
    medium = genuine()
    for number in (1, 2):
        medium.add(name, junk, volume=number)
    if name != "metadata/2.root.json":
        medium.reseal("alice", "bob")

    assert code_of(medium) == 10


def test_an_expiry_that_a_clock_could_reach_is_malformed(genuine: Shelf) -> None:
    medium = genuine()
    for number in (1, 2):
        value = json.loads(medium.path("metadata/timestamp.json").read_bytes())
        value["signed"]["expires"] = "2030-01-01T00:00:00Z"
        medium.replace("metadata/timestamp.json", json.dumps(value).encode(), volume=number)
    medium.reseal("alice", "bob")

    assert code_of(medium) == 10


def test_a_rehearsal_of_another_payload_is_refused(genuine: Shelf) -> None:
    from appliance.verify.evidence import rehearsal_level
    from media.errors import MalformedError

    medium = genuine()
    envelope = medium.path(layout.attestation_name("rehearsal")).read_bytes()
    people = medium.ceremony.people

    assert rehearsal_level(None, people, "0" * 64) is None
    with pytest.raises(MalformedError, match="another payload"):
        rehearsal_level(envelope, people, "0" * 64)
    assert base64.b64decode(json.loads(envelope)["payload"])


def test_only_the_verifier_makes_a_verified_release() -> None:
    fields = dict.fromkeys(VerifiedRelease.__dataclass_fields__)

    with pytest.raises(TypeError, match="only the verifier"):
        VerifiedRelease(**fields)  # type: ignore[arg-type]
