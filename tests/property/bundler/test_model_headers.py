import contextlib
import struct

from hypothesis import given
from hypothesis import strategies as st

from bundler import gguf_header, safetensors_header
from bundler.errors import ScanError
from media import gguf as reader
from media.errors import MalformedError
from tests.support.payload import gguf, gguf_text, safetensors
from tests.support.tinyweights import tiny_weights

GGUF = gguf(metadata={"general.name": "x", "general.alignment": 32}, tensors={"a": (8, 4), "b": (2, 2, 2)})
TINY = tiny_weights()
SAFETENSORS = safetensors({"a": ("F32", (4,), (0, 16)), "b": ("BF16", (2, 2), (16, 24))}, data=24)
PLACES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4)
NUMBERS = st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**48, 2**63 - 1, 2**63, 2**64 - 1])


def damaged(data: bytes, places: list[tuple[int, int]], cut: int) -> bytes:
    changed = bytearray(data)
    for at, value in places:
        changed[at % len(changed)] = value
    return bytes(changed[: len(changed) - cut])


def require_promises(untrusted: bytes) -> None:
    """Pass when the header is refused with our error, or keeps every promise of the reader."""
    try:
        header = reader.parse(untrusted, size=len(untrusted))
    except MalformedError:
        return
    end = 0
    for tensor in header.tensors:
        assert tensor.offset == end
        assert tensor.offset % header.alignment == 0
        assert 1 <= len(tensor.shape) <= 4
        assert header.data_offset + tensor.offset + tensor.length <= len(untrusted)
        end = -(-(tensor.offset + tensor.length) // header.alignment) * header.alignment
    assert len(untrusted) <= max(header.data_offset + end, header.data_offset)
    assert header.parameters >= 0
    assert isinstance(header.architecture + header.chat_template, str)
    assert isinstance(header.context_length, int)


@given(st.binary(max_size=300))
def test_any_bytes_as_a_gguf_header_are_accepted_or_refused_with_our_error(data: bytes) -> None:
    for untrusted in (data, b"GGUF\3\0\0\0" + data):
        with contextlib.suppress(ScanError):
            gguf_header.parse(untrusted, size=len(untrusted))


@given(PLACES, st.integers(0, 64))
def test_a_damaged_gguf_header_is_refused_or_keeps_its_promises(places: list[tuple[int, int]], cut: int) -> None:
    require_promises(damaged(GGUF, places, cut))


@given(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_weights_of_a_real_shape_are_refused_or_keep_the_promises(places: list[tuple[int, int]]) -> None:
    require_promises(damaged(TINY, places, 0))


@given(st.integers(0, 90), NUMBERS)
def test_a_number_of_the_header_that_is_replaced_by_an_extreme_one_is_refused_or_keeps_the_promises(
    word: int, number: int
) -> None:
    changed = bytearray(TINY)
    struct.pack_into("<Q", changed, 8 + word * 8, number)

    require_promises(bytes(changed))


@given(
    kind=st.integers(0, 13),
    inner=st.integers(0, 13),
    count=NUMBERS,
    key=st.sampled_from(["a", "general.alignment", "tokenizer.ggml.tokens", "tokenizer.ggml.scores"]),
    tail=st.binary(max_size=64),
)
def test_a_key_of_any_type_is_refused_or_keeps_the_promises(
    kind: int, inner: int, count: int, key: str, tail: bytes
) -> None:
    value = struct.pack("<IQ", inner, count) + tail if kind == 9 else tail
    require_promises(struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + gguf_text(key) + struct.pack("<I", kind) + value)


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
    header = struct.pack("<Q", len(data)) + data
    for untrusted in (data, header, header + bytes(8)):
        with contextlib.suppress(ScanError):
            safetensors_header.parse(untrusted, size=len(untrusted))


@given(st.binary(max_size=120), st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3))
def test_any_bytes_as_an_index_are_accepted_or_refused_with_our_error(data: bytes, places: dict[str, str]) -> None:
    shards: dict[str, safetensors_header.Tensors] = {"1": {"a": ("U8", (4,))}}
    for untrusted in (data, b'{"weight_map":' + data + b"}", repr(places).replace("'", '"').encode()):
        with contextlib.suppress(ScanError):
            safetensors_header.require_index(untrusted, shards)
