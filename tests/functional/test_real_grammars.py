"""What grammars of schemas let in, letter by letter, in the engine that `make demo` shipped."""

from typing import Any, Final

import pytest

from tests.support.real_engine import told_by

pytestmark = pytest.mark.demo

PROGRAM: Final = """
import ctypes, json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import llama_cpp
import numpy as np
from appliance.serve import schema
from appliance.serve.engine import Constraint
from appliance.serve.llama_cpp import LlamaCppDecoder

decoder = LlamaCppDecoder(Path(sys.argv[2]), n_ctx=256, n_batch=64, n_seq_max=1, threads=1)
letters = {decoder.bytes_of(token): token for token in range(decoder.vocabulary_tokens)}
end = next(token for token in range(decoder.vocabulary_tokens) if decoder.is_end(token))


def is_let_in(grammar, token):
    one = np.zeros(1, dtype=[("id", "i4"), ("logit", "f4"), ("p", "f4")])
    one["id"] = token
    pointer = ctypes.cast(one.ctypes.data, llama_cpp.llama_token_data_p)
    held = llama_cpp.llama_token_data_array(data=pointer, size=1, selected=-1, sorted=False)
    llama_cpp.llama_sampler_apply(grammar, ctypes.byref(held))
    return bool(one["logit"][0] == 0)


def takes(text, answer):
    grammar = llama_cpp.llama_sampler_init_grammar(decoder._vocab, text.encode(), b"root")
    for letter in answer.encode():
        token = letters[bytes([letter])]
        if not is_let_in(grammar, token):
            return False
        llama_cpp.llama_sampler_accept(grammar, token)
    return is_let_in(grammar, end)


beside = {"type": "object", "additionalProperties": {"type": "string"}}
listed = {"a": {"type": "integer"}, "b": {"type": "null"}}
asked = {
    "optional": {**beside, "properties": listed},
    "required": {**beside, "properties": listed, "required": ["b"]},
    "closed": {"type": "object", "properties": listed, "additionalProperties": False},
    "any": beside,
    "longest": {**beside, "properties": {"n" * 4096: {"type": "integer"}}},
}
answers = [
    '{}', '{"a":1}', '{"a":1,"x":"y"}', '{"a":1"x":"y"}', '{"x":"y","z":""}', '{"a":1,"b":null,"ab":""}',
    '{"b":null}', '{"b":null,"a":1,"x":"y"}', '{"b":null,"a":1"x":"y"}', '{"a":"1"}', '{"b":null,"b":"x"}',
    '{"b":null,"\\\\u0062":"x"}', '{"x":"y","a":1}', '{"b":null,"":"", "\\\\"":"c"}', '{"x":1}',
]
found = {}
for name, one in asked.items():
    text = decoder.grammar_of(Constraint(schema=schema.read(one)))
    found[name] = [answer for answer in answers if takes(text, answer)]
print("FOUND " + json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return told_by(PROGRAM, tmp_path_factory.mktemp("grammars"))


def test_others_come_behind_what_is_listed_with_a_comma_or_not_at_all(found: Any) -> None:
    listed = ["{}", '{"a":1}', '{"a":1,"x":"y"}', '{"x":"y","z":""}', '{"a":1,"b":null,"ab":""}', '{"b":null}']

    assert found["optional"] == [*listed, '{"b":null,"":"", "\\"":"c"}']
    assert found["required"] == ['{"b":null}', '{"b":null,"a":1,"x":"y"}', '{"b":null,"":"", "\\"":"c"}']
    assert found["closed"] == ["{}", '{"a":1}', '{"b":null}']


def test_any_name_is_taken_where_none_is_listed(found: Any) -> None:
    assert {'{"a":"1"}', '{"x":"y","z":""}', "{}"} <= set(found["any"])
    assert '{"x":1}' not in found["any"]


def test_long_names_are_kept_apart_too(found: Any) -> None:
    assert {'{"a":"1"}', "{}"} <= set(found["longest"])
