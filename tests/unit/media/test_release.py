"""The signed facts of a release."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from media import limits
from media.errors import (
    DigestMismatchError,
    LimitExceededError,
    MalformedError,
    UnsafePathError,
    UnsupportedFormatError,
)
from media.layout import BLOCK_BYTES
from media.release import Kind, LedgerPoint, ReleaseTerms, StaleAfter, TargetMachine, targets_from
from tests.support.terms import large_target, small_target, target_json, targets_signed

_TARGETS = (
    small_target("data/release.json", b"{}", "release"),
    small_target("data/empty", b""),
    large_target("data/models/m/w.gguf", 3 * BLOCK_BYTES + 5),
    small_target("attest/sbom.dsse.json", b"sbom", "attestation"),
)


def test_targets_are_read_with_their_blocks() -> None:
    read = targets_from(targets_signed(_TARGETS))

    assert set(read.values()) == set(_TARGETS)
    assert list(read) == sorted(read)
    weights = read["data/models/m/w.gguf"]
    assert [weights.block_length(number) for number in range(4)] == [BLOCK_BYTES] * 3 + [5]


def test_the_terms_of_a_release_are_read() -> None:
    signed = targets_signed(_TARGETS, serial=9, sites=["clinic-a", "lab"])
    signed["x-sealift-checkpoints"] = {"clinic-a/ledger": {"size": 12, "root": "ab" * 32}}

    terms = ReleaseTerms.from_targets(signed)

    assert terms.release == "2026.11"
    assert terms.serial == 9
    assert terms.created == datetime(2026, 11, 1, 8, tzinfo=UTC)
    assert terms.sites == ("clinic-a", "lab")
    assert terms.machines == (
        TargetMachine(
            profile="cpu-avx2", python="3.11", platform="linux_x86_64", glibc="2.36", cpu_flags=("avx2", "fma")
        ),
    )
    assert terms.payload_digest == signed["x-sealift"]["payload_digest"]
    assert terms.checkpoints == {"clinic-a/ledger": LedgerPoint(size=12, root="ab" * 32)}


def test_attestations_do_not_change_what_a_payload_is_called() -> None:
    with_one, with_none = targets_signed(_TARGETS), targets_signed(_TARGETS[:-1])

    assert ReleaseTerms.from_targets(with_one).payload_digest == ReleaseTerms.from_targets(with_none).payload_digest


def test_a_payload_digest_of_other_targets_is_refused() -> None:
    with pytest.raises(DigestMismatchError):
        ReleaseTerms.from_targets(targets_signed(_TARGETS, payload_digest="ab" * 32))


def test_a_later_format_is_named_and_not_guessed_at() -> None:
    with pytest.raises(UnsupportedFormatError):
        ReleaseTerms.from_targets(targets_signed(_TARGETS, format=2, something="new"))


@pytest.mark.parametrize(
    "facts",
    [
        {"serial": 0},
        {"serial": limits.SERIAL_MAX + 1},
        {"serial": "7"},
        {"format": 0},
        {"format": None},
        {"product": "other"},
        {"release": "2026/11"},
        {"release": 1},
        {"created": "yesterday"},
        {"sites": []},
        {"sites": "clinic-a"},
        {"sites": ["clinic-a", "clinic-a"]},
        {"sites": ["Clinic A"]},
        {"sites": [None]},
        {"targets": {}},
        {"targets": [{}]},
        {"targets": [1]},
        {"payload_digest": "AB" * 32},
        {"note": "hello"},
    ],
)
def test_a_wrong_fact_is_malformed(facts: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        ReleaseTerms.from_targets(targets_signed(_TARGETS, **facts))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cpu_flags", ["avx2; reboot"]),
        ("cpu_flags", "avx2"),
        ("cpu_flags", [""]),
        ("profile", ""),
        ("python", 3.11),
        ("gpu", None),
        ("vendor", "x"),
    ],
)
def test_a_wrong_machine_is_malformed(field: str, value: Any) -> None:
    signed = targets_signed(_TARGETS)
    signed["x-sealift"]["targets"] = [{**signed["x-sealift"]["targets"][0], field: value}]

    with pytest.raises(MalformedError):
        ReleaseTerms.from_targets(signed)


def test_a_machine_may_name_a_gpu_and_its_driver() -> None:
    signed = targets_signed(_TARGETS)
    signed["x-sealift"]["targets"] = [{**signed["x-sealift"]["targets"][0], "gpu": "h100", "driver": "550"}]

    assert ReleaseTerms.from_targets(signed).machines[0].gpu == "h100"


@pytest.mark.parametrize(
    "checkpoints",
    [
        None,
        [],
        {"": {"size": 1, "root": "ab" * 32}},
        {"x": {"size": -1, "root": "ab" * 32}},
        {"x": {"size": 1, "root": "ab"}},
        {"x": {"size": 1}},
        {"x": 1},
        {f"x{number}": {"size": 1, "root": "ab" * 32} for number in range(limits.CHECKPOINTS + 1)},
    ],
)
def test_wrong_checkpoints_are_malformed(checkpoints: Any) -> None:
    signed = targets_signed(_TARGETS)
    signed["x-sealift-checkpoints"] = checkpoints

    with pytest.raises(MalformedError):
        ReleaseTerms.from_targets(signed)


def test_as_many_checkpoints_as_the_limit_allows_are_read() -> None:
    signed = targets_signed(_TARGETS)
    signed["x-sealift-checkpoints"] = {
        f"x{number}": {"size": 1, "root": "ab" * 32} for number in range(limits.CHECKPOINTS)
    }

    assert len(ReleaseTerms.from_targets(signed).checkpoints) == limits.CHECKPOINTS


def test_metadata_of_another_kind_or_with_unknown_fields_is_malformed() -> None:
    changes: list[dict[str, Any]] = [{"_type": "snapshot"}, {"delegations": {}}, {"x-other": 1}]
    for change in changes:
        with pytest.raises(MalformedError):
            ReleaseTerms.from_targets({**targets_signed(_TARGETS), **change})
    for missing in ("x-sealift", "x-sealift-checkpoints", "version", "targets"):
        signed = targets_signed(_TARGETS)
        del signed[missing]
        with pytest.raises(MalformedError):
            ReleaseTerms.from_targets(signed)


def _with_target(path: str, value: Any) -> dict[str, Any]:
    signed = targets_signed(_TARGETS)
    signed["targets"][path] = value
    return signed


@pytest.mark.parametrize(
    "path", ["../x", "data/../x", "/data/x", "data/x y", "data/Release.json", "data/release.json/x", "data/empty/a"]
)
def test_a_target_s_name_is_judged_like_all_names(path: str) -> None:
    with pytest.raises(UnsafePathError):
        targets_from(_with_target(path, target_json(small_target("data/x", b"x"))))


@pytest.mark.parametrize("path", ["x", "data", "attest", "metadata/x", "check/x", "Data/x"])
def test_targets_lie_below_data_or_attest(path: str) -> None:
    with pytest.raises(MalformedError):
        targets_from(_with_target(path, target_json(small_target("data/x", b"x"))))


def _changed(**changes: Any) -> Any:
    value = target_json(large_target("data/x", BLOCK_BYTES + 1))
    for name, change in changes.items():
        if name in value["custom"]:
            value["custom"][name] = change
        else:
            value[name] = change
    return value


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        _changed(length=-1),
        _changed(length=BLOCK_BYTES),
        _changed(length=2 * BLOCK_BYTES + 1),
        _changed(length=True),
        _changed(length=limits.BLOCKS_PER_FILE * BLOCK_BYTES + 1),
        _changed(hashes={}),
        _changed(hashes={"sha256": "ab"}),
        _changed(hashes={"sha256": "ab" * 32, "md5": "ab" * 16}),
        _changed(hashes={"sha512": "ab" * 64}),
        _changed(custom=None),
        _changed(kind="virus"),
        _changed(kind=None),
        _changed(kind="attestation"),
        _changed(block_size=2**20),
        _changed(block_size="67108864"),
        _changed(blocks=[]),
        _changed(blocks=["ab" * 32]),
        _changed(blocks=["ab" * 32] * 3),
        _changed(blocks=["ab" * 32, "AB" * 32]),
        _changed(blocks={}),
        _changed(note=1),
    ],
)
def test_a_wrong_target_is_malformed(value: Any) -> None:
    assert targets_from(_with_target("data/x", _changed()))["data/x"].length == BLOCK_BYTES + 1
    with pytest.raises(MalformedError):
        targets_from(_with_target("data/x", value))


def test_the_only_block_of_a_file_is_the_file() -> None:
    value = target_json(small_target("data/x", b"x"))
    value["custom"]["blocks"] = ["ab" * 32]

    with pytest.raises(MalformedError, match="data/x"):
        targets_from(_with_target("data/x", value))


def test_a_payload_file_cannot_lie_among_the_attestations() -> None:
    with pytest.raises(MalformedError):
        targets_from(_with_target("attest/x", target_json(small_target("attest/x", b"x", str(Kind.WHEEL)))))


def test_the_number_of_files_is_capped() -> None:
    with pytest.raises(LimitExceededError):
        targets_from({"targets": {str(number): None for number in range(limits.FILES + 1)}})


def test_a_release_is_stale_after_its_date_and_not_on_it() -> None:
    stale = StaleAfter.from_timestamp(
        {"_type": "timestamp", "version": 7001, "x-sealift-stale-after": "2027-01-01T00:00:00Z"}
    )

    assert stale.version == 7001
    assert not stale.has_passed(stale.at)
    assert stale.has_passed(stale.at + timedelta(seconds=1))


@pytest.mark.parametrize(
    "change",
    [
        {"_type": "root"},
        {"version": 0},
        {"version": None},
        {"x-sealift-stale-after": None},
        {"x-sealift-stale-after": 1},
    ],
)
def test_a_wrong_timestamp_is_malformed(change: dict[str, Any]) -> None:
    signed = {"_type": "timestamp", "version": 1, "x-sealift-stale-after": "2027-01-01T00:00:00Z"}

    with pytest.raises(MalformedError):
        StaleAfter.from_timestamp({**signed, **change})
