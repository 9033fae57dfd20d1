"""all-MiniLM-L6-v2 as GGUF, made of its publisher's safetensors: `python -m tests.engines.minilm FOLDER FILE`.

Standard library alone: all its numbers are 32-bit floats and are copied as they are. Names are those that llama.cpp has
for BERT; words of the vocabulary begin with the mark that llama.cpp's WordPiece looks for, parts of words do not. For
this one model, as `tests.engines.smollm2` is for its own.
"""

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

_ALIGNMENT: Final = 32
_TEXT, _ARRAY, _BOOL, _FLOAT, _UINT, _INT = 8, 9, 7, 6, 4, 5
_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3
_WORD: Final = "▁"
_MEAN: Final = 1
_WHOLE: Final = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm.weight": "token_embd_norm.weight",
    "embeddings.LayerNorm.bias": "token_embd_norm.bias",
}
_LAYER: Final = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def convert(folder: Path, out: Path) -> None:
    """Write the model of a publisher's folder as one GGUF file; the same folder gives the same bytes."""
    config = json.loads((folder / "config.json").read_bytes())
    words = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")[: config["vocab_size"]]
    with (folder / "model.safetensors").open("rb") as file, out.open("xb") as made:
        tensors = list(_tensors(file))
        fields = dict(_fields(config, words))
        head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(fields))
        head += b"".join(_text(key) + value for key, value in fields.items())
        offset = 0
        for name, shape, _, size in tensors:
            head += _text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
            head += struct.pack("<IQ", 0, offset)
            offset += size + -size % _ALIGNMENT
        made.write(head + bytes(-len(head) % _ALIGNMENT))
        for _, _, start, size in tensors:
            file.seek(start)
            made.write(file.read(size) + bytes(-size % _ALIGNMENT))


def _tensors(file: BinaryIO) -> Iterator[tuple[str, tuple[int, ...], int, int]]:
    """Yield name, shape, place and length of every tensor that llama.cpp uses."""
    (length,) = struct.unpack("<Q", file.read(8))
    header: dict[str, Any] = json.loads(file.read(length))
    for theirs, about in sorted(header.items()):
        ours = _name(theirs)
        if ours is not None:
            if about["dtype"] != "F32":
                message = f"{theirs} is {about['dtype']}"
                raise ValueError(message)
            start, end = about["data_offsets"]
            yield ours, tuple(about["shape"]), 8 + length + start, end - start


def _name(theirs: str) -> str | None:
    if theirs in _WHOLE:
        return _WHOLE[theirs]
    if not theirs.startswith("encoder.layer."):
        return None
    number, _, rest = theirs.removeprefix("encoder.layer.").partition(".")
    part, _, kind = rest.rpartition(".")
    return f"blk.{number}.{_LAYER[part]}.{kind}"


def _fields(config: dict[str, Any], words: list[str]) -> Iterator[tuple[str, bytes]]:
    place = {word: at for at, word in enumerate(words)}
    yield "general.architecture", _of(_TEXT, "bert")
    yield "general.name", _of(_TEXT, "all-MiniLM-L6-v2")
    for key, value in {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "pooling_type": _MEAN,
    }.items():
        yield f"bert.{key}", _of(_UINT, value)
    yield "bert.attention.layer_norm_epsilon", _of(_FLOAT, config["layer_norm_eps"])
    yield "bert.attention.causal", _of(_BOOL, value=False)
    yield "tokenizer.ggml.model", _of(_TEXT, "bert")
    yield "tokenizer.ggml.token_type_count", _of(_UINT, config["type_vocab_size"])
    yield "tokenizer.ggml.tokens", _list(_TEXT, [_marked(word) for word in words])
    yield "tokenizer.ggml.token_type", _list(_INT, [_kind(word) for word in words])
    for name, word in {
        "bos": "[CLS]",
        "eos": "[SEP]",
        "unknown": "[UNK]",
        "seperator": "[SEP]",  # as llama.cpp spells it
        "padding": "[PAD]",
        "cls": "[CLS]",
        "mask": "[MASK]",
    }.items():
        yield f"tokenizer.ggml.{name}_token_id", _of(_UINT, place[word])


def _marked(word: str) -> str:
    if _kind(word) != _NORMAL:
        return word
    return word.removeprefix("##") if word.startswith("##") else _WORD + word


def _kind(word: str) -> int:
    if word == "[UNK]":
        return _UNKNOWN
    return _CONTROL if word in {"[CLS]", "[SEP]", "[PAD]", "[MASK]"} else _NORMAL


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(kind: int, value: Any) -> bytes:
    if kind == _TEXT:
        return _text(value)
    return struct.pack({_BOOL: "<?", _FLOAT: "<f", _UINT: "<I", _INT: "<i"}[kind], value)


def _of(kind: int, value: Any) -> bytes:
    return struct.pack("<I", kind) + _value(kind, value)


def _list(kind: int, values: list[Any]) -> bytes:
    return struct.pack("<IIQ", _ARRAY, kind, len(values)) + b"".join(_value(kind, one) for one in values)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
