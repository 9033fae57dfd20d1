import hashlib
from dataclasses import replace

import pytest

from bundler.errors import SigningError
from bundler.measure import Measured
from bundler.metadata import ROLES, unsigned_roles
from bundler.plan import ReleasePlan
from media.canonical import loads
from media.errors import ExtraFileError, MissingFileError
from media.release import ReleaseTerms, StaleAfter, targets_from
from tests.support.medium import MACHINE


def measured(data: bytes) -> Measured:
    digest = hashlib.sha256(data).hexdigest()
    return Measured(length=len(data), sha256=digest, blocks=(digest,) if data else ())


PAYLOAD = {"data/release.json": measured(b"{}"), "data/models/tiny/tiny.gguf": measured(b"GGUF")}
EVIDENCE = {"attest/sbom.dsse.json": measured(b"sbom")}
PLAN = ReleasePlan(
    release="demo-7",
    serial=7,
    created="2026-11-20T07:00:00Z",
    stale_after="2027-11-20T08:00:00Z",
    sites=("demo-clinic", "other-clinic"),
    targets=(MACHINE,),
    kinds={"data/release.json": "release", "data/models/tiny/tiny.gguf": "weights"},
    checkpoints={"demo-clinic/ledger": {"size": 3, "root": "0" * 64}},
)


def test_the_receivers_own_parsers_read_what_is_built() -> None:
    roles = unsigned_roles(PLAN, payload=PAYLOAD, attestations=EVIDENCE)
    signed = loads(roles.signed_bytes()["targets"])

    terms, targets = ReleaseTerms.from_targets(signed), targets_from(signed)

    assert (terms.release, terms.serial, terms.sites) == ("demo-7", 7, ("demo-clinic", "other-clinic"))
    assert terms.payload_digest == roles.payload_digest
    assert terms.checkpoints["demo-clinic/ledger"].size == 3
    assert {path: target.kind for path, target in targets.items()} == {
        "attest/sbom.dsse.json": "attestation",
        "data/models/tiny/tiny.gguf": "weights",
        "data/release.json": "release",
    }
    assert StaleAfter.from_timestamp(loads(roles.signed_bytes()["timestamp"])).at.year == 2027


def test_equal_inputs_give_equal_bytes_whatever_their_order() -> None:
    one = unsigned_roles(PLAN, payload=PAYLOAD, attestations=EVIDENCE)
    other = unsigned_roles(
        ReleasePlan.from_bytes(PLAN.to_bytes()),
        payload=dict(reversed(PAYLOAD.items())),
        attestations=dict(EVIDENCE),
    )

    assert one.signed_bytes() == other.signed_bytes()
    assert one.files({}) == other.files({})


def test_the_files_have_the_names_of_a_consistent_snapshot() -> None:
    roles = unsigned_roles(PLAN, payload=PAYLOAD, attestations=EVIDENCE)

    assert set(roles.files({})) == {"timestamp.json", "7.snapshot.json", "7.targets.json"}


def test_snapshot_and_timestamp_name_versions_only() -> None:
    signed = unsigned_roles(PLAN, payload=PAYLOAD, attestations=EVIDENCE).signed_bytes()

    assert loads(signed["snapshot"])["meta"] == {"targets.json": {"version": 7}}
    assert loads(signed["timestamp"])["meta"] == {"snapshot.json": {"version": 7}}


def test_no_role_ever_expires_by_the_clock() -> None:
    signed = unsigned_roles(PLAN, payload=PAYLOAD, attestations=EVIDENCE).signed_bytes()

    assert {loads(signed[role])["expires"] for role in ROLES} == {"9999-12-31T23:59:59Z"}


def test_the_timestamp_rises_with_each_issue_and_more_with_the_serial() -> None:
    def version(plan: ReleasePlan) -> int:
        return unsigned_roles(plan, payload=PAYLOAD, attestations=EVIDENCE).timestamp.version

    versions = [version(PLAN), version(replace(PLAN, issue=1)), version(replace(PLAN, serial=8))]

    assert versions == sorted(set(versions))


def test_evidence_does_not_change_the_payload_digest() -> None:
    one = unsigned_roles(PLAN, payload=PAYLOAD, attestations=EVIDENCE)
    other = unsigned_roles(PLAN, payload=PAYLOAD, attestations={})

    assert one.payload_digest == other.payload_digest
    assert one.signed_bytes()["targets"] != other.signed_bytes()["targets"]


def test_a_file_that_nobody_planned_is_refused() -> None:
    with pytest.raises(ExtraFileError, match="data/extra"):
        unsigned_roles(PLAN, payload={**PAYLOAD, "data/extra": measured(b"x")}, attestations={})


def test_a_planned_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(MissingFileError, match=r"data/release\.json"):
        unsigned_roles(
            PLAN, payload={"data/models/tiny/tiny.gguf": PAYLOAD["data/models/tiny/tiny.gguf"]}, attestations={}
        )


def test_a_candidate_that_changed_since_the_build_is_refused() -> None:
    with pytest.raises(SigningError, match="has changed since it was built"):
        unsigned_roles(replace(PLAN, payload_digest="0" * 64), payload=PAYLOAD, attestations={})
