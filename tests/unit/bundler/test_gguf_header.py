import struct
from pathlib import Path

import pytest

from bundler import gguf_header
from bundler.errors import ScanError
from tests.support.payload import gguf, gguf_text


def parsed(data: bytes) -> gguf_header.GgufHeader:
    return gguf_header.parse(data, size=len(data))


def head(*, version: int = 3, tensors: int = 0, keys: int = 0, rest: bytes = b"") -> bytes:
    return struct.pack("<4sIQQ", b"GGUF", version, tensors, keys) + rest


def key(name: str, kind: int, value: bytes) -> bytes:
    return gguf_text(name) + struct.pack("<I", kind) + value


def tensor(name: str = "t", shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    return (
        gguf_text(name)
        + struct.pack("<I", len(shape))
        + struct.pack(f"<{len(shape)}Q", *shape)
        + struct.pack("<IQ", kind, offset)
    )


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(template="{{ x }}", tensors={"a": (8, 4), "b": (16,)}))

    header = gguf_header.read(path)

    assert (header.architecture, header.context_length, header.chat_template) == ("llama", 512, "{{ x }}")
    assert header.parameters == 48
    assert [tensor.offset for tensor in header.tensors] == [0, 128]


def test_arrays_are_counted_and_skipped() -> None:
    pieces = struct.pack("<IQ", 8, 2) + gguf_text(b"\xff") + gguf_text("b")
    numbers = struct.pack("<IQ", 5, 3) + bytes(12)
    data = head(keys=2, rest=key("tokens", 9, pieces) + key("types", 9, numbers))

    assert parsed(data).arrays == {"tokens": 2, "types": 3}


def test_a_file_without_the_usual_keys_has_empty_answers() -> None:
    header = parsed(head())

    assert (header.architecture, header.context_length, header.chat_template, header.parameters) == ("", 0, "", 0)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "ends early"),
        (b"PK\x03\x04" + bytes(20), "does not start with GGUF"),
        (head(version=1), "version 1"),
        (head(version=0x03000000), "version 50331648"),
        (head(tensors=2**40), "tensors"),
        (head(keys=2**63), "keys"),
        (head(keys=1, rest=struct.pack("<Q", 2**64 - 1)), "the limit is 256"),
        (head(keys=1, rest=gguf_text("")), "empty or not printable"),
        (head(keys=1, rest=gguf_text("a\n")), "empty or not printable"),
        (head(keys=1, rest=gguf_text(b"\xff")), "not UTF-8"),
        (head(keys=2, rest=key("a", 4, bytes(4)) * 2), "there twice"),
        (head(keys=2, rest=key("a", 9, struct.pack("<IQ", 4, 0)) + key("a", 4, bytes(4))), "there twice"),
        (head(keys=1, rest=key("a", 13, bytes(4))), "unknown type 13"),
        (head(keys=1, rest=key("a", 7, b"\2")), "neither true nor false"),
        (head(keys=1, rest=key("a", 9, struct.pack("<IQ", 9, 1))), "unknown type 9"),
        (head(keys=1, rest=key("a", 9, struct.pack("<IQ", 4, 2**62))), "the limit is"),
        (head(keys=1, rest=key("a", 9, struct.pack("<IQ", 10, 2**20))), "ends early"),
        (head(keys=1, rest=key("a", 9, struct.pack("<IQ", 8, 1) + struct.pack("<Q", 2**40))), "in the array a"),
        (head(keys=1, rest=key("a", 8, struct.pack("<Q", 2**32))), "the limit is"),
        (head(keys=1, rest=key("general.alignment", 4, struct.pack("<I", 0))), "not a power of two"),
        (head(keys=1, rest=key("general.alignment", 4, struct.pack("<I", 48))), "not a power of two"),
        (head(keys=1, rest=key("general.alignment", 7, b"\1")), "not a power of two"),
        (head(tensors=1, rest=tensor(shape=())), "0 dimensions"),
        (head(tensors=1, rest=tensor(shape=(1,) * 5)), "5 dimensions"),
        (head(tensors=1, rest=tensor(shape=(0,))), "0 elements"),
        # CVE-2025-53630 and CVE-2026-27940: products that wrap round in 64 bits.
        (head(tensors=1, rest=tensor(shape=(2**32, 2**32))), "elements"),
        (head(tensors=1, rest=tensor(shape=(2**63, 2))), "elements"),
        (head(tensors=1, rest=tensor(kind=4)), "unknown type 4"),
        (head(tensors=1, rest=tensor(shape=(33,), kind=2)), "needs multiples of 32"),
        (head(tensors=1, rest=tensor(offset=1)), "does not divide"),
        (head(tensors=1, rest=tensor(offset=2**63)), "after the end of the file"),
        (head(tensors=1, rest=tensor()), "after the end of the file"),
        (head(tensors=2, rest=tensor("a") + tensor("b", offset=32) + bytes(999)), "overlaps another"),
        (head(tensors=2, rest=tensor("a") * 2 + bytes(999)), "there twice"),
    ],
)
def test_a_header_that_could_hurt_a_loader_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ScanError) as caught:
        parsed(data)

    assert why in caught.value.why


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf()[:-1])

    with pytest.raises(ScanError):
        gguf_header.read(path)


def test_an_empty_or_absent_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()

    for name in ("m.gguf", "none.gguf"):
        with pytest.raises(ScanError):
            gguf_header.read(tmp_path / name)
