"""What a GGUF file says of the tokens that begin and end a sequence."""

from pathlib import Path

import pytest

from media import gguf_vocabulary
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
