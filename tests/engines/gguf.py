"""Reads a GGUF file's metadata and tensors, and makes a `tokenizer.json` of them; for the demo's model (ADR 27)."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

_ALIGNMENT: Final = 32
_CONTROL: Final = 3
_NUMBERS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One tensor of the GGUF file: its shape as PyTorch has it, its type, and where its bytes begin."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


def read(file: BinaryIO) -> tuple[dict[str, Any], list[Found]]:
    """Return metadata and tensors of a GGUF file, version 3."""
    _, _, tensors, fields = struct.unpack("<4sIQQ", file.read(24))
    metadata = {_text(file): _value(file, _number(file, 4)) for _ in range(fields)}
    listed = []
    for _ in range(tensors):
        name, dimensions = _text(file), _number(file, 4)
        shape = tuple(reversed([_number(file, 10) for _ in range(dimensions)]))
        listed.append(Found(name=name, shape=shape, kind=_number(file, 4), offset=_number(file, 10)))
    start = -(-file.tell() // _ALIGNMENT) * _ALIGNMENT
    return metadata, [Found(name=t.name, shape=t.shape, kind=t.kind, offset=start + t.offset) for t in listed]


def _number(file: BinaryIO, kind: int) -> Any:
    form = _NUMBERS[kind]
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def _text(file: BinaryIO) -> str:
    return str(file.read(_number(file, 10)).decode())


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _text(file)
    if kind == _ARRAY:
        inner, count = _number(file, 4), _number(file, 10)
        return [_value(file, inner) for _ in range(count)]
    return _number(file, kind)


def tokenizer(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return what `tokenizer.json` says: byte-level BPE, each digit by itself."""
    texts, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": text, **plain}
            for number, (text, kind) in enumerate(zip(texts, kinds, strict=True))
            if kind == _CONTROL
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, level]},
        "post_processor": None,
        "decoder": level,
        "model": bpe({text: number for number, text in enumerate(texts)}, metadata["tokenizer.ggml.merges"]),
    }


def bpe(vocabulary: Mapping[str, int], merges: list[str]) -> dict[str, Any]:
    """Return what a `tokenizer.json` says of a model of bytes that are merged, and of nothing else."""
    return {
        "type": "BPE",
        **dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")),
        **dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), False),
        "vocab": dict(vocabulary),
        "merges": merges,
    }
