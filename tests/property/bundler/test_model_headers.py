import contextlib

from hypothesis import given
from hypothesis import strategies as st

from bundler import gguf_header, safetensors_header
from bundler.errors import ScanError
from tests.support.payload import gguf, safetensors

GGUF = gguf(metadata={"general.name": "x", "general.alignment": 32}, tensors={"a": (8, 4), "b": (2, 2, 2)})
SAFETENSORS = safetensors({"a": ("F32", (4,), (0, 16)), "b": ("BF16", (2, 2), (16, 24))}, data=24)
PLACES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4)


def damaged(data: bytes, places: list[tuple[int, int]], cut: int) -> bytes:
    changed = bytearray(data)
    for at, value in places:
        changed[at % len(changed)] = value
    return bytes(changed[: len(changed) - cut])


@given(st.binary(max_size=300))
def test_any_bytes_as_a_gguf_header_are_accepted_or_refused_with_our_error(data: bytes) -> None:
    for untrusted in (data, b"GGUF\3\0\0\0" + data):
        with contextlib.suppress(ScanError):
            gguf_header.parse(untrusted, size=len(untrusted))


@given(PLACES, st.integers(0, 64))
def test_a_damaged_gguf_header_is_refused_or_keeps_its_promises(places: list[tuple[int, int]], cut: int) -> None:
    untrusted = damaged(GGUF, places, cut)

    try:
        header = gguf_header.parse(untrusted, size=len(untrusted))
    except ScanError:
        return

    for tensor in header.tensors:
        assert tensor.offset % header.alignment == 0
        assert header.data_offset + tensor.offset + tensor.length <= len(untrusted)


@given(PLACES, st.integers(0, 30))
def test_a_damaged_safetensors_header_is_refused_or_keeps_its_promises(places: list[tuple[int, int]], cut: int) -> None:
    untrusted = damaged(SAFETENSORS, places, cut)

    try:
        tensors = safetensors_header.parse(untrusted, size=len(untrusted))
    except ScanError:
        return

    assert tensors <= 2


@given(st.binary(max_size=200))
def test_any_bytes_as_a_safetensors_header_are_accepted_or_refused_with_our_error(data: bytes) -> None:
    with contextlib.suppress(ScanError):
        safetensors_header.parse(data, size=len(data))
