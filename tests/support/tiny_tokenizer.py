"""A vocabulary of bytes as a `tokenizer.json`, and a stand-in for the library `tokenizers` that reads such files alone.

A token is a byte; behind those come the added tokens. The library itself reads these files too, and makes the same of
them: tests/interop says so.
"""

import json
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from tests.engines.gguf import bpe

CONTROL = 256
"""The one control token, which is spelled ``<end>``."""
MARK = 257
"""An added token that is no control token: ``<tool>``."""
_ADDED = ((CONTROL, "<end>", True), (MARK, "<tool>", False))


def tokenizer(**changes: Any) -> bytes:
    """Return the file; `changes` are of its fields, or with ``model_`` before them of its model's."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    whole: dict[str, Any] = {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": [
            {
                **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
                "id": number,
                "content": content,
                "special": is_special,
            }
            for number, content, is_special in _ADDED
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": bpe({letter: byte for byte, letter in enumerate(_letters())}, []),
    }
    model = {name.removeprefix("model_"): value for name, value in changes.items() if name.startswith("model_")}
    own = {name: value for name, value in changes.items() if not name.startswith("model_")}
    return json.dumps({**whole, **own, "model": {**whole["model"], **model}}).encode()


def _letters() -> Iterator[str]:
    """Yield the letter that stands for each byte in such vocabularies: itself where it can be printed."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = 0
    for byte in range(256):
        if byte in printable:
            yield chr(byte)
        else:
            yield chr(256 + others)
            others += 1


class _Encoding:
    def __init__(self, ids: list[int]) -> None:
        self.ids = ids


class _Tokenizer:
    """What of the library's class is used here."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._size = len(fields["model"]["vocab"])
        assert fields["truncation"] is fields["padding"] is fields["post_processor"] is None
        # Numbers go on behind the vocabulary, whatever the file says.
        self._added = {one["content"]: self._size + at for at, one in enumerate(fields["added_tokens"])}

    @classmethod
    def from_str(cls, source: str) -> "_Tokenizer":
        return cls(json.loads(source))

    def token_to_id(self, content: str) -> int | None:
        return self._added.get(content)

    def get_vocab_size(self) -> int:
        return self._size + len(self._added)

    def encode(self, text: str, *, add_special_tokens: bool) -> _Encoding:
        assert not add_special_tokens
        found: list[int] = []
        while text:
            name = next((name for name in self._added if text.startswith(name)), "")
            found += [self._added[name]] if name else text[0].encode()
            text = text[len(name) or 1 :]
        return _Encoding(found)

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        assert not skip_special_tokens
        names = {number: content for content, number in self._added.items()}
        return b"".join(names[one].encode() if one in names else bytes([one]) for one in ids).decode(errors="replace")


def library() -> ModuleType:
    """Return the stand-in, to be laid into `sys.modules`."""
    made = ModuleType("tokenizers")
    made.Tokenizer = _Tokenizer  # type: ignore[attr-defined]
    return made
