"""SmolLM2 as a folder of safetensors, made of the demo's GGUF file: `python -m tests.engines.smollm2 GGUF FOLDER`.

Runs where NumPy is, without torch and transformers. Weights become BF16, names and the order of attention heads those
of `LlamaForCausalLM`. The same file gives the same bytes. For this one model: docs/adr/0027 says why there is no
converter.
"""

import json
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from tests.engines.gguf import Found, read, tokenizer

_BLOCK: Final = 32
_LAYER: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# The model's own template tells of no functions; this goes before it, in the words of the Hermes models.
_TOLD_OF_TOOLS: Final = """{% if tools is defined and tools %}{{ '<|im_start|>system
You can call these functions:
<tools>
' }}{% for tool in tools %}{{ tool | tojson }}{{ '
' }}{% endfor %}{{ '</tools>
Call one by {"name": NAME, "arguments": ARGUMENTS} between <tool_call> and </tool_call>.<|im_end|>
' }}{% endif %}"""
_WHOLE: Final = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


def _f32(raw: bytes) -> Any:
    return np.frombuffer(raw, dtype="<f4")


def _q4_1(raw: bytes) -> Any:
    blocks = np.frombuffer(raw, dtype=np.dtype([("d", "<f2"), ("m", "<f2"), ("q", "u1", (_BLOCK // 2,))]))
    levels = np.concatenate([blocks["q"] & 15, blocks["q"] >> 4], axis=1).astype("<f4")
    return blocks["d"].astype("<f4")[:, None] * levels + blocks["m"].astype("<f4")[:, None]


def _q8_0(raw: bytes) -> Any:
    blocks = np.frombuffer(raw, dtype=np.dtype([("d", "<f2"), ("q", "i1", (_BLOCK,))]))
    return blocks["d"].astype("<f4")[:, None] * blocks["q"].astype("<f4")


# By the number of GGML's type: how many bytes of a row of weights hold one block of 32, and what reads them.
_READERS: Final[dict[int, tuple[int, Callable[[bytes], Any]]]] = {0: (128, _f32), 3: (20, _q4_1), 8: (34, _q8_0)}


def _bf16(values: Any) -> bytes:
    """Round to the nearest, ties to even, as PyTorch does."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    return bytes(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes())


def _in_order(values: Any, heads: int) -> Any:
    """Undo the order that llama.cpp's rotation wants of the rows of a query or key matrix."""
    rows, columns = values.shape
    return values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def tensors(
    file: BinaryIO, metadata: dict[str, Any], listed: list[Found]
) -> Iterator[tuple[str, tuple[int, ...], bytes]]:
    """Yield name, shape and BF16 bytes of each tensor."""
    heads = {"attn_q": metadata["llama.attention.head_count"], "attn_k": metadata["llama.attention.head_count_kv"]}
    for one in listed:
        per_block, reader = _READERS[one.kind]
        file.seek(one.offset)
        values = reader(file.read(int(np.prod(one.shape)) // _BLOCK * per_block)).reshape(one.shape)
        if one.name in _WHOLE:
            yield _WHOLE[one.name], one.shape, _bf16(values)
            continue
        _, number, part, _ = one.name.split(".")
        if part in heads:
            values = _in_order(values, heads[part])
        yield f"model.layers.{number}.{_LAYER[part]}.weight", one.shape, _bf16(values)


def write_safetensors(place: Path, made: list[tuple[str, tuple[int, ...], bytes]]) -> None:
    """Write tensors in the order of their names."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape, data in sorted(made):
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + len(data)]}
        end += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with place.open("xb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in sorted(made):
            out.write(data)


def config(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return what `config.json` says."""
    ends = int(metadata["tokenizer.ggml.eos_token_id"])
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "torch_dtype": "bfloat16",
        "hidden_act": "silu",
        "hidden_size": metadata["llama.embedding_length"],
        "intermediate_size": metadata["llama.feed_forward_length"],
        "num_hidden_layers": metadata["llama.block_count"],
        "num_attention_heads": metadata["llama.attention.head_count"],
        "num_key_value_heads": metadata["llama.attention.head_count_kv"],
        "head_dim": metadata["llama.rope.dimension_count"],
        "max_position_embeddings": metadata["llama.context_length"],
        "rms_norm_eps": 1e-05,
        "rope_theta": float(metadata["llama.rope.freq_base"]),
        "tie_word_embeddings": True,
        "vocab_size": metadata["llama.vocab_size"],
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": ends,
        "pad_token_id": ends,
    }


def convert(weights: Path, folder: Path) -> None:
    """Write the folder."""
    folder.mkdir(parents=True)
    with weights.open("rb") as file:
        metadata, listed = read(file)
        write_safetensors(folder / "model.safetensors", list(tensors(file, metadata, listed)))
    ends = metadata["tokenizer.ggml.tokens"][metadata["tokenizer.ggml.eos_token_id"]]
    documents = {
        "config.json": config(metadata),
        "tokenizer.json": tokenizer(metadata),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": metadata["llama.context_length"],
            "eos_token": ends,
            "pad_token": ends,
        },
    }
    for name, content in documents.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    (folder / "chat_template.jinja").write_text(_TOLD_OF_TOOLS + metadata["tokenizer.chat_template"])


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
