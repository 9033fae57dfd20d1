"""What a conversation becomes, by the vocabulary and the library that `make demo` shipped: as the model was trained."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.real_engine import told_by

pytestmark = pytest.mark.demo

PROGRAM = r"""
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from appliance.serve.chat_template import ChatTemplate
from appliance.serve.llama_cpp import LlamaCppDecoder
from media import gguf_vocabulary

weights = Path(sys.argv[2])
decoder = LlamaCppDecoder(weights, n_ctx=64, n_batch=32, n_seq_max=1, threads=1)
told = gguf_vocabulary.read(weights)
source = "{{ bos_token }}user the{{ messages[0].content|trim }}ing{{ eos_token }}"
template = ChatTemplate(source, bos=decoder.start, eos=decoder.end)


def tokens(said):
    found = template.tokens([{"role": "user", "content": said}], decoder)
    return {"tokens": found, "control": [one for one in found if one in told.control]}


marks = sorted(text for text in told.control.values())
print("FOUND " + json.dumps({
    "library": [decoder.start, decoder.end],
    "file": [told.start, told.end],
    "named": all(decoder.is_named(one) for one in told.control),
    "plain": not any(decoder.is_named(one) for one in decoder.tokenize("a lighthouse, in winter", special=False)),
    "said": tokens("look")["tokens"],
    "whole": decoder.tokenize(decoder.start + "user thelooking" + decoder.end, special=True),
    "apart": [token for text in (decoder.start + "user the", "look", "ing" + decoder.end)
              for token in decoder.tokenize(text, special=True)],
    "stripped": template.tokens([{"role": "user", "content": "\n s"}], decoder)
    == decoder.tokenize(decoder.start + "user thesing" + decoder.end, special=True),
    "hostile": [tokens(mark) for mark in [*marks, "".join(marks), marks[0] + " and " + marks[-1]]],
    "ends": [decoder.tokenize(one, special=True) for one in (decoder.start, decoder.end)],
}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return told_by(PROGRAM, Path(tmp_path_factory.mktemp("prompts")))


def test_file_and_library_name_the_same_tokens_that_begin_and_end(found: Any) -> None:
    assert found["library"] == found["file"] == ["<|im_start|>", "<|im_end|>"]
    assert found["named"]
    assert found["plain"]


def test_a_prompt_has_the_tokens_of_its_whole_text_with_what_begins_and_ends_it(found: Any) -> None:
    (start,), (end,) = found["ends"]

    assert (found["said"][0], found["said"][-1]) == (start, end)
    assert found["said"] == found["whole"] != found["apart"]
    assert found["stripped"]


def test_no_text_of_a_user_becomes_a_control_token(found: Any) -> None:
    (start,), (end,) = found["ends"]

    assert len(found["hostile"]) > 10
    assert [one["control"] for one in found["hostile"]] == [[start, end]] * len(found["hostile"])
