"""What a GGUF file says of the tokens that begin and end a sequence."""

import struct
from pathlib import Path

import pytest

from media import gguf_vocabulary
from media.errors import MalformedError
from tests.support.payload import gguf_text
from tests.support.vocabulary import weights_with

WORDS = ("<unk>", "<s>", "</s>", "é")


@pytest.mark.parametrize(
    ("ends", "texts"),
    [
        ({"bos": 1, "eos": 2}, ("<s>", "</s>")),
        ({"eos": 3}, ("", "é")),
        ({"bos": 0}, ("<unk>", "")),
        ({"bos": 4, "eos": 2**32 - 1}, ("", "")),
        ({}, ("", "")),
    ],
)
def test_the_texts_of_what_begins_and_ends_a_sequence_are_read(
    tmp_path: Path, ends: dict[str, int], texts: tuple[str, str]
) -> None:
    file = tmp_path / "weights.gguf"
    file.write_bytes(weights_with(WORDS, control=(0, 1, 2), ends=ends))

    found = gguf_vocabulary.read(file)

    assert (found.start, found.end) == texts
    assert dict(found.control) == {0: "<unk>", 1: "<s>", 2: "</s>"}


@pytest.mark.parametrize("twice", ["tokenizer.ggml.tokens", "tokenizer.ggml.token_type"])
def test_a_key_that_is_there_twice_is_refused_and_not_read_as_both(tmp_path: Path, twice: str) -> None:
    file = tmp_path / "weights.gguf"
    whole = weights_with(WORDS, control=(0,), ends={})
    magic, version, tensors, keys = struct.unpack_from("<4sIQQ", whole)
    again = gguf_text(twice) + struct.pack("<IB", 0, 1)
    # Before what it is about, and behind it.
    for place in (24, whole.index(gguf_text("tokenizer.ggml.token_type"))):
        head = struct.pack("<4sIQQ", magic, version, tensors, keys + 1)
        file.write_bytes(head + whole[24:place] + again + whole[place:])

        with pytest.raises(MalformedError, match="GGUF"):
            gguf_vocabulary.read(file)
