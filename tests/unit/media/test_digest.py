"""Digests that the format derives, checked against values computed by hand."""

import hashlib
import io
from pathlib import Path

from media import digest


def test_a_file_and_a_stream_have_the_digest_of_their_bytes(tmp_path: Path) -> None:
    data = b"weights" * 100_000
    file = tmp_path / "w"
    file.write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()

    assert digest.sha256_hex(data) == expected
    assert digest.file_sha256(file) == expected
    assert digest.stream_sha256(io.BytesIO(data)) == expected


def test_a_payload_is_named_whatever_the_order_and_the_attestations() -> None:
    first, second = ("data/b", 1, "bb" * 32), ("data/a", 0, "aa" * 32)
    attested = ("attest/sbom.dsse.json", 5, "cc" * 32)

    expected = hashlib.sha256(f'[["data/a",0,"{"aa" * 32}"],["data/b",1,"{"bb" * 32}"]]'.encode()).hexdigest()
    assert digest.payload_digest([first, second]) == expected
    assert digest.payload_digest([attested, second, first]) == expected
    assert digest.payload_digest([first]) != expected


def test_volumes_of_one_payload_have_ids_of_their_own() -> None:
    payload = "ab" * 32

    assert digest.volume_id(payload, 1) == hashlib.sha256(f"{payload}:1".encode()).hexdigest()[:16]
    assert len({digest.volume_id(payload, number) for number in range(1, 100)}) == 99


def test_the_release_code_is_what_sha256sum_prints() -> None:
    assert digest.release_code(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_codes_are_compared_whole() -> None:
    assert digest.same("ab", "ab")
    assert not digest.same("ab", "aB")
    assert not digest.same("ab", "abc")
    assert not digest.same("ab", "ä")
