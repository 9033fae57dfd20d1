"""What a hostile GGUF file can claim, one test for each published fault's shape (S1 of the threats)."""

import os
import resource
import struct
import time
from pathlib import Path

import pytest

from media import gguf
from media.errors import MalformedError, UnreadableError
from tests.support.payload import gguf as made
from tests.support.payload import gguf_text
from tests.support.tinyweights import tiny_weights

U8, U32, I32, F32, STRING, ARRAY = 0, 4, 5, 6, 8, 9


def head(*, tensors: int = 0, keys: int = 0, rest: bytes = b"") -> bytes:
    return struct.pack("<4sIQQ", b"GGUF", 3, tensors, keys) + rest


def key(name: str, kind: int, value: bytes) -> bytes:
    return gguf_text(name) + struct.pack("<I", kind) + value


def array(kind: int, elements: list[bytes]) -> bytes:
    return struct.pack("<IQ", kind, len(elements)) + b"".join(elements)


def tensor(name: str = "t", shape: tuple[int, ...] = (32,), *, kind: int = 0, offset: int = 0) -> bytes:
    dimensions = struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
    return gguf_text(name) + dimensions + struct.pack("<IQ", kind, offset)


def why_not(data: bytes) -> str:
    with pytest.raises(MalformedError) as caught:
        gguf.parse(data, size=len(data))
    return caught.value.why


def vocabulary(*, tokens: int = 2, scores: int = 2, kind: int = F32) -> bytes:
    pieces = key("tokenizer.ggml.tokens", ARRAY, array(STRING, [gguf_text("a")] * tokens))
    values = key("tokenizer.ggml.scores", ARRAY, array(kind, [bytes(4)] * scores))
    return head(keys=2, rest=pieces + values)


def test_cve_2025_53630_a_tensor_size_that_wraps_in_64_bits_is_refused() -> None:
    assert "elements" in why_not(head(tensors=1, rest=tensor(shape=(2**32, 2**32))))
    assert "elements" in why_not(head(tensors=1, rest=tensor(shape=(2**62, 4, 2))))


def test_cve_2026_27940_a_sum_of_offset_and_size_that_wraps_is_refused() -> None:
    """The fix for the first fault checked each tensor; the sum over all of them wrapped again."""
    assert "after the end" in why_not(head(tensors=1, rest=tensor(shape=(2**46,), offset=2**64 - 2**20)))
    many = b"".join(tensor(f"t{number}", (2**46,), offset=number * 2**48) for number in range(4))
    assert "after the end" in why_not(head(tensors=4, rest=many))


def test_cve_2026_7482_dimensions_that_read_beyond_the_data_are_refused() -> None:
    assert "after the end" in why_not(head(tensors=1, rest=tensor(shape=(64, 64)) + bytes(64)))


def test_cve_2024_32878_counts_that_the_file_cannot_hold_are_refused() -> None:
    assert "the limits are" in why_not(head(tensors=2**63))
    assert "the limits are" in why_not(head(keys=2**63))
    assert "ends early" in why_not(head(keys=4096))


@pytest.mark.parametrize("dimensions", [0, 5, 2**31, 2**32 - 1])
def test_a_number_of_dimensions_beyond_the_loaders_four_is_refused(dimensions: int) -> None:
    data = head(tensors=1, rest=gguf_text("t") + struct.pack("<I", dimensions) + bytes(64))

    assert f"{dimensions} dimensions" in why_not(data)


@pytest.mark.parametrize("length", [257, 2**31, 2**63, 2**64 - 1])
def test_the_length_of_a_key_is_judged_before_it_is_read(length: int) -> None:
    assert "the limit is 256" in why_not(head(keys=1, rest=struct.pack("<Q", length)))


def test_cve_2025_49847_a_piece_of_the_vocabulary_longer_than_any_is_refused() -> None:
    huge = struct.pack("<IQQ", STRING, 1, 2**31 + 1)

    assert "in the array tokenizer.ggml.tokens" in why_not(
        head(keys=1, rest=key("tokenizer.ggml.tokens", ARRAY, huge + bytes(64)))
    )


@pytest.mark.parametrize("scores", [0, 1, 3])
def test_scores_that_are_not_one_for_each_token_are_refused(scores: int) -> None:
    """llama.cpp reads one for each token, by pointer."""
    assert f"{scores} elements for 2 tokens" in why_not(vocabulary(scores=scores))


def test_scores_of_another_type_than_the_loader_reads_are_refused() -> None:
    assert "elements of type 5" in why_not(vocabulary(kind=I32))


def test_a_vocabulary_that_agrees_with_itself_is_accepted() -> None:
    header = gguf.parse(vocabulary(), size=len(vocabulary()))

    assert header.arrays == {"tokenizer.ggml.tokens": 2, "tokenizer.ggml.scores": 2}


def test_arrays_inside_arrays_are_refused() -> None:
    nested = struct.pack("<IQ", ARRAY, 1) + array(U8, [b"\0"])

    assert "unknown type 9" in why_not(head(keys=1, rest=key("a", ARRAY, nested)))


def test_an_array_whose_size_in_bytes_wraps_is_refused() -> None:
    assert "the limit is" in why_not(head(keys=1, rest=key("a", ARRAY, struct.pack("<IQ", 10, 2**61))))


def test_an_array_of_more_texts_than_bytes_is_refused_before_the_first_is_read() -> None:
    claim = key("a", ARRAY, struct.pack("<IQ", STRING, 2**24))

    assert "ends early" in why_not(head(keys=1, rest=claim + bytes(2**16)))


@pytest.mark.parametrize("alignment", [0, 1, 2, 3, 24, 48, 2**17, 2**31])
def test_only_powers_of_two_are_alignments(alignment: int) -> None:
    data = head(keys=1, rest=key("general.alignment", U32, struct.pack("<I", alignment)))

    if alignment in {1, 2}:
        assert gguf.parse(data, size=len(data)).alignment == alignment
    else:
        assert "not a power of two" in why_not(data)


def test_an_alignment_of_another_type_than_the_loaders_is_refused() -> None:
    """llama.cpp reads it as an unsigned number of 32 bits, whatever the file says it is."""
    assert "of type 5" in why_not(head(keys=1, rest=key("general.alignment", I32, struct.pack("<i", 32))))
    assert "of type 9" in why_not(head(keys=1, rest=key("general.alignment", ARRAY, array(U32, [bytes(4)]))))


def test_tensors_that_overlap_or_leave_a_hole_or_swap_places_are_refused() -> None:
    room = bytes(1024)
    overlap = tensor("a", (32,)) + tensor("b", (32,), offset=64)
    hole = tensor("a", (32,)) + tensor("b", (32,), offset=256)
    swapped = tensor("a", (32,), offset=128) + tensor("b", (32,), offset=0)

    assert "overlaps another" in why_not(head(tensors=2, rest=overlap + room))
    assert "a hole of 128 bytes before the tensor b" in why_not(head(tensors=2, rest=hole + room))
    assert "a hole of 128 bytes before the tensor a" in why_not(head(tensors=2, rest=swapped + room))


def test_bytes_behind_the_last_tensor_are_refused() -> None:
    """A second file could hide there: an archive is read from its end."""
    data = made() + b"PK\x05\x06" + bytes(18)

    assert "22 bytes follow the last tensor" in why_not(data)


def test_the_last_tensor_needs_no_padding() -> None:
    data = made(tensors={"a": (3,)})

    assert gguf.parse(data[:-20], size=len(data) - 20).tensors[0].length == 12


def test_duplicate_keys_and_tensors_are_refused() -> None:
    twice = key("a", U32, bytes(4)) + key("a", ARRAY, array(U32, []))

    assert "the key a is there twice" in why_not(head(keys=2, rest=twice))
    assert "the tensor t is there twice" in why_not(head(tensors=2, rest=tensor() + tensor(offset=128) + bytes(999)))


def test_a_tensor_name_longer_than_the_loaders_buffer_is_refused() -> None:
    assert "the limit is 63" in why_not(head(tensors=1, rest=tensor("t" * 64) + bytes(512)))


@pytest.mark.parametrize("number", [4, 5, 31, 32, 33, 36, 40, 2**31, 2**32 - 1])
def test_types_that_the_loader_removed_or_never_had_are_refused(number: int) -> None:
    assert f"unknown type {number}" in why_not(head(tensors=1, rest=tensor(kind=number) + bytes(999)))


def test_a_header_longer_than_its_cap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "_MAX_HEADER", 40)

    assert "ends early" in why_not(made())


def test_a_petabyte_is_judged_from_its_header_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    claim = head(tensors=1, rest=tensor(shape=(2**48,), kind=27))
    with path.open("wb") as file:
        file.write(claim)
        os.truncate(file.fileno(), 2**43)  # ext4 holds no more in one file; the claim is 2 PiB
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()

    with pytest.raises(MalformedError, match="malformed GGUF"):
        gguf.read(path)

    assert time.process_time() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


def test_a_byte_range_names_its_tensors() -> None:
    data = made(tensors={"a": (32,), "b": (32,), "c": (8,)})
    header = gguf.parse(data, size=len(data))
    start = header.data_offset

    def named(first: int, end: int) -> list[str]:
        return [tensor.name for tensor in header.tensors_in(first, end)]

    assert named(0, start) == []
    assert named(start, start + 1) == ["a"]
    assert named(start + 127, start + 129) == ["a", "b"]
    assert named(0, len(data)) == ["a", "b", "c"]


def test_tiny_weights_are_valid_and_an_absent_file_is_unreadable(tmp_path: Path) -> None:
    assert gguf.parse(tiny_weights(), size=len(tiny_weights())).parameters > 0

    with pytest.raises(UnreadableError):
        gguf.read(tmp_path / "none.gguf")
