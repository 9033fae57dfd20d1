"""Tokens that the launcher counts itself: whose names of control tokens are read, and which files are refused."""

import sys
from typing import Any

import pytest

from appliance.errors import EngineLoadError
from appliance.serve.asking import RefusedError
from appliance.serve.attached_tokens import LocalTokens, ends_of
from tests.support import tiny_tokenizer
from tests.support.tiny_tokenizer import CONTROL, MARK, tokenizer


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", tiny_tokenizer.library())


def tokens(**changes: Any) -> LocalTokens:
    return LocalTokens(tokenizer(**changes).decode())


def test_names_of_added_tokens_are_read_in_our_text_and_never_in_a_users() -> None:
    text = "é<end>x<tool>"

    assert tokens().tokenize(text, special=True) == [*"é".encode(), CONTROL, *b"x", MARK]
    assert tokens().tokenize(text, special=False) == list(text.encode())
    assert tokens().vocabulary_tokens == MARK + 1


def template(*before: str) -> dict[str, Any]:
    pieces = [{"SpecialToken": {"id": name, "type_id": 0}} for name in (*before, "<end>")]
    pieces.insert(len(before), {"Sequence": {"id": "A", "type_id": 0}})
    known = {
        "<start>": {"id": "<start>", "ids": [7], "tokens": ["<start>"]},
        "<end>": {"id": "<end>", "ids": [CONTROL]},
    }
    return {"type": "TemplateProcessing", "single": pieces, "pair": [], "special_tokens": known}


@pytest.mark.parametrize(
    ("processor", "opening"),
    [
        (None, ()),
        ({"type": "ByteLevel"}, ()),
        (template(), ()),
        (template("<start>"), (7,)),
        ({"type": "Sequence", "processors": [{"type": "ByteLevel"}, template("<start>")]}, (7,)),
    ],
)
def test_what_a_file_puts_before_a_text_is_read(processor: dict[str, Any] | None, opening: tuple[int, ...]) -> None:
    assert tokens(post_processor=processor).opening == opening


def test_a_file_that_puts_what_it_does_not_name_before_a_text_is_refused() -> None:
    with pytest.raises(EngineLoadError, match="tokens cannot be counted"):
        tokens(post_processor={**template("<start>"), "special_tokens": {}})


@pytest.mark.parametrize(
    ("source", "ends"),
    [
        ("{}", ("", "")),
        ('{"bos_token": null, "eos_token": "</s>"}', ("", "</s>")),
        ('{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>"}', ("<s>", "</s>")),
    ],
)
def test_the_settings_name_what_begins_and_ends_a_sequence(source: str, ends: tuple[str, str]) -> None:
    assert ends_of(source) == ends


@pytest.mark.parametrize("source", ["", "[]", "[" * 5000, '{"bos_token": 5}', '{"eos_token": {"id": 5}}'])
def test_settings_that_are_none_are_refused(source: str) -> None:
    with pytest.raises(EngineLoadError, match="tokens cannot be counted"):
        ends_of(source)


def test_a_file_that_cuts_prompts_cuts_none_here() -> None:
    assert len(tokens().tokenize("longer than four tokens", special=True)) == 23


def test_half_a_surrogate_pair_is_counted_as_some_letter() -> None:
    assert tokens().tokenize("a\ud800", special=False) == list(b"a?")


def test_a_users_text_that_becomes_a_control_token_nonetheless_is_refused() -> None:
    named = {"content": "<a>", "special": True}
    made = tokens(added_tokens=[{**named, "id": 256}])
    made._controls = frozenset({ord("a")})  # as a vocabulary would have it in which a letter is one

    assert made.tokenize("b", special=False) == [ord("b")]
    with pytest.raises(RefusedError, match="invalid_value"):
        made.tokenize("bab", special=False)


def test_what_the_library_cannot_take_apart_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tokens()

    def fail(*_: Any, **__: Any) -> None:
        raise Exception("it quotes a prompt")  # noqa: TRY002 - as the library does

    monkeypatch.setattr(made._plain, "encode", fail)
    with pytest.raises(RefusedError) as caught:
        made.tokenize("a", special=False)
    assert "quotes" not in caught.value.message


@pytest.mark.parametrize(
    "source",
    [
        "",
        "[]",
        "[" * 5000,
        "{}",
        '{"model": 5}',
        tokenizer(model_type="Unigram").decode(),
        tokenizer(added_tokens=None).decode(),
        tokenizer(added_tokens=[{"content": "x"}]).decode(),
        tokenizer(added_tokens=[{"id": 300, "content": "<end>", "special": True}]).decode(),
    ],
    ids=["nothing", "a list", "depth", "no model", "no table", "unigram", "no added", "no number", "other numbers"],
)
def test_a_file_that_its_engine_might_read_otherwise_is_refused(source: str) -> None:
    with pytest.raises(EngineLoadError, match="tokens cannot be counted"):
        LocalTokens(source)


def test_an_environment_without_the_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    with pytest.raises(EngineLoadError, match="no tokenizers") as caught:
        tokens()
    assert "locks.engine-attached" in caught.value.fix
