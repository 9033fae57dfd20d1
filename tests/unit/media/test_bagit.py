"""BagIt files: one form each, and the standard's own tools read it."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from media import bagit, limits
from media.digest import sha256_hex
from media.errors import LimitExceededError, MalformedError, UnsafePathError, UnsupportedFormatError

_INFO = bagit.BagInfo(
    release="2026.11",
    number=1,
    count=2,
    payload_bytes=1234,
    payload_files=5,
    serial=7,
    volume_id="0123456789abcdef",
)
_A, _B = "aa" * 32, "bb" * 32


def test_a_manifest_is_sorted_and_read_back() -> None:
    rendered = bagit.render_manifest({"data/b": _B, "data/a": _A})

    assert rendered == f"{_A}  data/a\n{_B}  data/b\n".encode()
    assert bagit.parse_manifest(rendered) == {"data/a": _A, "data/b": _B}


def test_an_empty_volume_has_an_empty_manifest() -> None:
    assert bagit.render_manifest({}) == b""
    assert bagit.parse_manifest(b"") == {}


def test_sha256sum_reads_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_bytes(b"x")
    (tmp_path / "manifest-sha256.txt").write_bytes(bagit.render_manifest({"data/x": sha256_hex(b"x")}))

    done = subprocess.run(
        ["sha256sum", "--strict", "-c", "manifest-sha256.txt"], cwd=tmp_path, capture_output=True, check=True
    )

    assert done.stdout == b"data/x: OK\n"


@pytest.mark.parametrize(
    "untrusted",
    [
        b"\n",
        f"{_A}  data/a".encode(),
        f"{_A}  data/a\r\n".encode(),
        f"{_A} data/a\n".encode(),
        f"{_A} *data/a\n".encode(),
        f"{_A}   data/a\n".encode(),
        f"{_A}\tdata/a\n".encode(),
        f"\\{_A}  data/a\n".encode(),
        f"{_A.upper()}  data/a\n".encode(),
        f"{_A[:-2]}  data/a\n".encode(),
        f"md5:{_A}  data/a\n".encode(),
        f"{_A}  data/a\n\n".encode(),
        f"{_A}  data/a\n{_B}  data/a\n".encode(),
        f"{_B}  data/b\n{_A}  data/a\n".encode(),
        f"{_A}  data/a b\n".encode(),
        f"{_A}  data/\xe4\n".encode(),
        b"\xff\n",
        f"{_A}  data/a\x0b\n".encode(),
        f"{_A}  data/a\x00\n".encode(),
    ],
)
def test_any_other_form_of_a_manifest_is_malformed(untrusted: bytes) -> None:
    with pytest.raises(MalformedError):
        bagit.parse_manifest(untrusted)


@pytest.mark.parametrize(
    "untrusted",
    [
        f"{_A}  ../etc/passwd\n",
        f"{_A}  /etc/passwd\n",
        f"{_A}  data/%0A\n",
        f"{_A}  data/.hidden\n",
        f"{_A}  data/A\n{_B}  data/a\n",
        f"{_A}  data/a\n{_B}  data/a/b\n",
    ],
)
def test_a_manifest_s_names_are_judged_like_all_names(untrusted: str) -> None:
    with pytest.raises(UnsafePathError):
        bagit.parse_manifest(untrusted.encode())


def test_what_would_be_refused_is_not_written() -> None:
    with pytest.raises(UnsafePathError):
        bagit.render_manifest({"../x": _A})
    with pytest.raises(UnsafePathError):
        bagit.render_manifest({"data/A": _A, "data/a": _B})
    with pytest.raises(MalformedError):
        bagit.render_manifest({"data/a": "AA" * 32})


def test_a_manifest_is_capped_before_it_is_read() -> None:
    for bomb in (b"x" * (limits.MANIFEST_BYTES + 1), b"\n" * (limits.FILES + 1)):
        with pytest.raises(LimitExceededError):
            bagit.parse_manifest(bomb)


def test_bag_info_is_read_back_and_reads_like_bagit() -> None:
    rendered = bagit.render_bag_info(_INFO)

    assert rendered.decode().splitlines() == [
        "Bag-Group-Identifier: 2026.11",
        "Bag-Count: 1 of 2",
        "Payload-Oxum: 1234.5",
        "Sealift-Format: 1",
        "Sealift-Serial: 7",
        "Sealift-Volume-Id: 0123456789abcdef",
    ]
    assert bagit.parse_bag_info(rendered) == _INFO


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"2026.11", b"2026/11"),
        (b"2026.11", b""),
        (b"1 of 2", b"3 of 2"),
        (b"1 of 2", b"0 of 2"),
        (b"1 of 2", b"1 of 100"),
        (b"1 of 2", b"1 of ?"),
        (b"1 of 2", b"01 of 2"),
        (b"1234.5", b"1234"),
        (b"1234.5", b"-1.5"),
        (b"Format: 1", b"Format: x"),
        (b"Format: 1", b"Format: 0"),
        (b"Serial: 7", b"Serial: +7"),
        (b"Serial: 7", b"Serial: 9007199254740992"),
        (b"0123456789abcdef", b"0123456789ABCDEF"),
        (b"0123456789abcdef", b"0123"),
        (b"Bag-Count", b"bag-count"),
        (b"Bag-Count: ", b"Bag-Count:  "),
        (b"Sealift-Serial: 7\n", b""),
        (b"Sealift-Serial: 7\n", b"Sealift-Serial: 7\nSealift-Serial: 8\n"),
        (b"Sealift-Serial: 7\n", b"Sealift-Serial: 7\nContact-Name: me\n"),
        (b"Sealift-Serial: 7\n", b"Sealift-Serial: 7\n  folded\n"),
        (b"cdef\n", b"cdef"),
        (b"cdef\n", b"cdef\r\n"),
        (b"2026.11", "2026.é".encode()),
    ],
)
def test_any_other_bag_info_is_malformed(old: bytes, new: bytes) -> None:
    rendered = bagit.render_bag_info(_INFO)
    assert old in rendered

    with pytest.raises(MalformedError):
        bagit.parse_bag_info(rendered.replace(old, new, 1))


def test_a_later_format_is_named_and_not_guessed_at() -> None:
    later = bagit.render_bag_info(_INFO).replace(b"Format: 1", b"Format: 2")

    with pytest.raises(UnsupportedFormatError) as caught:
        bagit.parse_bag_info(later + b"Something-New: yes\n")

    assert "version 2" in caught.value.what


def test_bag_info_is_capped_before_it_is_read() -> None:
    with pytest.raises(LimitExceededError):
        bagit.parse_bag_info(b"x" * (limits.BAG_INFO_BYTES + 1))
    with pytest.raises(MalformedError):
        bagit.parse_bag_info(b"")


def test_the_declaration_is_exactly_two_lines() -> None:
    bagit.require_bagit_txt(bagit.BAGIT_TXT)
    for other in (
        b"",
        bagit.BAGIT_TXT + b"\n",
        bagit.BAGIT_TXT.replace(b"1.0", b"0.97"),
        b"\xef\xbb\xbf" + bagit.BAGIT_TXT,
    ):
        with pytest.raises(MalformedError):
            bagit.require_bagit_txt(other)


def test_what_is_exactly_at_a_limit_is_read() -> None:
    lines = "".join(f"{_A}  data/{number:05d}\n" for number in range(limits.FILES)).encode()
    only, last = replace(_INFO, count=1), replace(_INFO, number=limits.VOLUMES, count=limits.VOLUMES)

    assert len(bagit.parse_manifest(lines)) == limits.FILES
    assert bagit.parse_bag_info(bagit.render_bag_info(only)) == only
    assert bagit.parse_bag_info(bagit.render_bag_info(last)) == last
    for padded, at_limit in (
        (bagit.parse_bag_info, bytes(limits.BAG_INFO_BYTES)),
        (bagit.parse_manifest, b"x" * limits.MANIFEST_BYTES),
    ):
        with pytest.raises(MalformedError):
            padded(at_limit)
