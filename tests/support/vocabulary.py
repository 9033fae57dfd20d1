"""Small GGUF files with a vocabulary, for gates that read one."""

import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tests.support.payload import gguf, gguf_text

_KEYS_AT = struct.calcsize("<4sIQ")
_CONTROL, _NORMAL = 3, 1


def weights_with(
    words: Sequence[str], *, control: Sequence[int], ends: Mapping[str, int] = MappingProxyType({})
) -> bytes:
    """Return a file whose header makes sense and whose vocabulary are these words; `ends` are of bos and eos."""
    sizes = {"block_count": 2, "embedding_length": 64, "feed_forward_length": 128, "attention.head_count": 4}
    # The last value is a text, so that what follows it are the zeros of the alignment.
    named = {f"tokenizer.ggml.{key}_token_id": number for key, number in ends.items()}
    sized = {f"llama.{key}": size for key, size in sizes.items()}
    plain = gguf(metadata={**sized, **named, "general.name": "x"}, tensors={})
    keys = int.from_bytes(plain[_KEYS_AT : _KEYS_AT + 8], "little")
    types = [_CONTROL if number in control else _NORMAL for number in range(len(words))]
    arrays = (
        gguf_text("tokenizer.ggml.tokens")
        + struct.pack("<IIQ", 9, 8, len(words))
        + b"".join(gguf_text(word) for word in words)
        + gguf_text("tokenizer.ggml.token_type")
        + struct.pack(f"<IIQ{len(words)}i", 9, 5, len(words), *types)
    )
    head = plain[:_KEYS_AT] + struct.pack("<Q", keys + 2) + plain[_KEYS_AT + 8 :].rstrip(b"\0") + arrays
    return head + bytes(-len(head) % 32)
