from pathlib import Path

import pytest

from bundler import safetensors_header
from bundler.errors import ScanError
from tests.support.payload import safetensors


def test_a_file_has_so_many_tensors(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors({"a": ("F32", (2, 2), (0, 16)), "b": ("F4", (4,), (16, 18))}, data=18))

    assert safetensors_header.read(path) == 2


@pytest.mark.parametrize(
    ("tensors", "data", "why"),
    [
        ({"a": ("F32", (4,), (0, 16))}, 15, "end at byte 16"),
        ({"a": ("F32", (4,), (0, 16))}, 17, "end at byte 16"),
        ({"a": ("F32", (4,), (4, 20))}, 20, "hole or an overlap"),
        ({"a": ("F32", (4,), (0, 16)), "b": ("F32", (1,), (12, 16))}, 16, "hole or an overlap"),
        ({"a": ("F32", (4,), (0, 12))}, 12, "4 elements in 12 bytes"),
        ({"a": ("F32", (2**52, 2**52), (0, 16))}, 16, "elements in 16 bytes"),
        ({"a": ("PICKLE", (4,), (0, 16))}, 16, "unknown type"),
        ({"a": ("F32", (-4,), (0, 16))}, 16, "malformed shape"),
        ({"a": ("F32", (1,) * 9, (0, 4))}, 4, "malformed shape"),
    ],
)
def test_a_header_that_contradicts_the_file_is_refused(
    tensors: dict[str, tuple[str, tuple[int, ...], tuple[int, int]]], data: int, why: str
) -> None:
    untrusted = safetensors(tensors, data=data)

    with pytest.raises(ScanError) as caught:
        safetensors_header.parse(untrusted, size=len(untrusted))

    assert why in caught.value.why


@pytest.mark.parametrize(
    "untrusted", [b"", bytes(7), b"\xff" * 8, bytes(8), (2).to_bytes(8, "little") + b"[]", (9**9).to_bytes(8, "little")]
)
def test_what_has_no_header_is_refused(untrusted: bytes) -> None:
    with pytest.raises(ScanError):
        safetensors_header.parse(untrusted, size=len(untrusted))


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="cannot be read"):
        safetensors_header.read(tmp_path / "none.safetensors")
