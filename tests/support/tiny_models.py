"""Models of a few layers and random weights: Mamba's and LFM2's, whose memory is a state, Gemma 2's, half of whose
layers look back through a window, and one of a long context.

No such model is small enough to travel with tests, and what they are for is how an engine handles their memory, which
is llama.cpp's own for the architecture, whatever the weights. Tokenizer and template are those of another GGUF file.
The same seed gives the same bytes. Runs where NumPy is.

Sources: the GGUF specification (version 3); llama.cpp's list of tensors for `mamba`, `lfm2` and `gemma2`.
"""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

_ALIGNMENT: Final = 32
_BYTES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_UINT32, _FLOAT, _STRING, _ARRAY = 4, 6, 8, 9
_WIDTH: Final = 64
_INNER: Final = 2 * _WIDTH
_STATE: Final = 16
_RANK: Final = 4
_TAPS: Final = 4
_LAYERS: Final = 4
_HEADS: Final = 4

Tensors = dict[str, Any]


def recurrent(source: Path) -> bytes:
    """Return a Mamba model with the vocabulary of a GGUF file."""
    fields: dict[str, int | float | Sequence[int]] = {
        "context_length": 4096,
        "embedding_length": _WIDTH,
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "block_count": _LAYERS,
        "ssm.conv_kernel": _TAPS,
        "ssm.inner_size": _INNER,
        "ssm.state_size": _STATE,
        "ssm.time_step_rank": _RANK,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    draw = np.random.default_rng(1)
    made = _outer(draw, source)
    for layer in range(_LAYERS):
        at = f"blk.{layer}."
        made |= {
            f"{at}attn_norm.weight": np.ones(_WIDTH),
            f"{at}ssm_in.weight": _random(draw, 2 * _INNER, _WIDTH),
            f"{at}ssm_conv1d.weight": _random(draw, _INNER, _TAPS),
            f"{at}ssm_conv1d.bias": np.zeros(_INNER),
            f"{at}ssm_x.weight": _random(draw, _RANK + 2 * _STATE, _INNER),
            f"{at}ssm_dt.weight": _random(draw, _INNER, _RANK),
            f"{at}ssm_dt.bias": np.zeros(_INNER),
            f"{at}ssm_a": -np.tile(np.arange(1, _STATE + 1), (_INNER, 1)),
            f"{at}ssm_d": np.ones(_INNER),
            f"{at}ssm_out.weight": _random(draw, _WIDTH, _INNER),
        }
    return _gguf("mamba", fields, source, made | {"output_norm.weight": np.ones(_WIDTH)})


def hybrid(source: Path) -> bytes:
    """Return an LFM2 model, of short convolutions and attention by turns, with the vocabulary of a GGUF file."""
    attends = [layer % 2 == 1 for layer in range(_LAYERS)]
    fields: dict[str, int | float | Sequence[int]] = {
        "context_length": 4096,
        "embedding_length": _WIDTH,
        "feed_forward_length": _INNER,
        "attention.head_count": _HEADS,
        "attention.head_count_kv": [_HEADS if attend else 0 for attend in attends],
        "block_count": _LAYERS,
        "shortconv.l_cache": _TAPS - 1,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 10000.0,
    }
    # Of its answers in tests/functional/test_real_states.py no two likeliest tokens are close: a step of another width
    # rounds otherwise, and would decide between them.
    draw = np.random.default_rng(13)
    made = _outer(draw, source)
    for layer, attend in enumerate(attends):
        at = f"blk.{layer}."
        made |= {
            f"{at}attn_norm.weight": np.ones(_WIDTH),
            f"{at}ffn_norm.weight": np.ones(_WIDTH),
            f"{at}ffn_gate.weight": _random(draw, _INNER, _WIDTH),
            f"{at}ffn_up.weight": _random(draw, _INNER, _WIDTH),
            f"{at}ffn_down.weight": _random(draw, _WIDTH, _INNER),
        }
        if attend:
            made |= {f"{at}attn_{part}.weight": _random(draw, _WIDTH, _WIDTH) for part in ("q", "k", "v", "output")}
            made |= {f"{at}attn_{part}_norm.weight": np.ones(_WIDTH // _HEADS) for part in ("q", "k")}
        else:
            made |= {
                f"{at}shortconv.conv.weight": _random(draw, _WIDTH, _TAPS - 1),
                f"{at}shortconv.in_proj.weight": _random(draw, 3 * _WIDTH, _WIDTH),
                f"{at}shortconv.out_proj.weight": _random(draw, _WIDTH, _WIDTH),
            }
    return _gguf("lfm2", fields, source, made | {"token_embd_norm.weight": np.ones(_WIDTH)})


def windowed(source: Path, *, window: int) -> bytes:
    """Return a Gemma 2 whose every second layer looks back at so many tokens, with the vocabulary of a GGUF file."""
    fields: dict[str, int | float | Sequence[int]] = {
        "context_length": 4096,
        "embedding_length": _WIDTH,
        "feed_forward_length": _INNER,
        "attention.head_count": _HEADS,
        "attention.head_count_kv": _HEADS,
        "attention.sliding_window": window,
        "block_count": _LAYERS,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 10000.0,
    }
    draw = np.random.default_rng(13)
    made = _outer(draw, source)
    for layer in range(_LAYERS):
        at = f"blk.{layer}."
        norms = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        made |= {f"{at}{norm}.weight": np.ones(_WIDTH) for norm in norms}
        made |= {f"{at}attn_{part}.weight": _random(draw, _WIDTH, _WIDTH) for part in ("q", "k", "v", "output")}
        made |= {
            f"{at}ffn_gate.weight": _random(draw, _INNER, _WIDTH),
            f"{at}ffn_up.weight": _random(draw, _INNER, _WIDTH),
            f"{at}ffn_down.weight": _random(draw, _WIDTH, _INNER),
        }
    return _gguf("gemma2", fields, source, made | {"output_norm.weight": np.ones(_WIDTH)})


def attentive(source: Path, *, context: int) -> bytes:
    """Return a Llama of one layer and one head, of so many tokens of context, with the vocabulary of a GGUF file."""
    fields: dict[str, int | float | Sequence[int]] = {
        "context_length": context,
        "embedding_length": _WIDTH,
        "feed_forward_length": _INNER,
        "attention.head_count": 1,
        "attention.head_count_kv": 1,
        "block_count": 1,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 1e6,
        "rope.dimension_count": _WIDTH,
    }
    draw = np.random.default_rng(3)
    made = _outer(draw, source) | {
        "blk.0.attn_norm.weight": np.ones(_WIDTH),
        "blk.0.ffn_norm.weight": np.ones(_WIDTH),
        "blk.0.ffn_gate.weight": _random(draw, _INNER, _WIDTH),
        "blk.0.ffn_up.weight": _random(draw, _INNER, _WIDTH),
        "blk.0.ffn_down.weight": _random(draw, _WIDTH, _INNER),
    }
    made |= {f"blk.0.attn_{part}.weight": _random(draw, _WIDTH, _WIDTH) for part in ("q", "k", "v", "output")}
    return _gguf("llama", fields, source, made | {"output_norm.weight": np.ones(_WIDTH)})


def _outer(draw: Any, source: Path) -> Tensors:
    vocabulary = next(count for key, count, _ in _tokenizer(source) if key == "tokenizer.ggml.tokens")
    return {"token_embd.weight": _random(draw, vocabulary, _WIDTH)}


def _random(draw: Any, rows: int, columns: int) -> Any:
    return draw.standard_normal((rows, columns)) / np.sqrt(columns)


def _tokenizer(source: Path) -> list[tuple[str, int, bytes]]:
    """Return the fields about the tokenizer: name, how many values, and the bytes of type and value."""
    data = source.read_bytes()[: 64 * 2**20]
    _, _, _, count = struct.unpack_from("<4sIQQ", data)
    at, found = 24, []
    for _ in range(count):
        length = struct.unpack_from("<Q", data, at)[0]
        key = data[at + 8 : at + 8 + length].decode()
        start = at + 8 + length
        values, at = _after(data, start + 4, struct.unpack_from("<I", data, start)[0])
        if key.startswith("tokenizer."):
            found.append((key, values, data[start:at]))
    return found


def _after(data: bytes, at: int, kind: int) -> tuple[int, int]:
    """Return how many values lie here, and where they end."""
    if kind == _STRING:
        return 1, at + 8 + int(struct.unpack_from("<Q", data, at)[0])
    if kind != _ARRAY:
        return 1, at + _BYTES[kind]
    inner, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if inner != _STRING:
        return count, at + count * _BYTES[inner]
    for _ in range(count):
        _, at = _after(data, at, _STRING)
    return count, at


def _gguf(
    architecture: str, fields: Mapping[str, int | float | Sequence[int]], source: Path, tensors: Mapping[str, Any]
) -> bytes:
    own = {f"{architecture}.{name}": _value(value) for name, value in fields.items()}
    listed = {
        "general.architecture": struct.pack("<I", _STRING) + _text(architecture),
        "general.name": struct.pack("<I", _STRING) + _text(f"tiny-{architecture}"),
        **own,
        **{key: raw for key, _, raw in _tokenizer(source)},
    }
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(listed))
    head += b"".join(_text(key) + raw for key, raw in listed.items())
    offset, data = 0, b""
    for name, values in tensors.items():
        raw = np.ascontiguousarray(values, dtype="<f4").tobytes()
        raw += bytes(-len(raw) % _ALIGNMENT)
        shape = tuple(reversed(values.shape))
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)
        data += raw
        offset += len(raw)
    return head + bytes(-len(head) % _ALIGNMENT) + data


def _value(value: float | Sequence[int]) -> bytes:
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT, value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    return struct.pack(f"<IIQ{len(value)}I", _ARRAY, _UINT32, len(value), *value)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()
