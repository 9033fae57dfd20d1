"""GGUF weights of a llama with one block and zeros in it: small, and enough for llama.cpp to quantize."""

from tests.support.payload import gguf

_SHAPES = {
    "token_embd.weight": (256, 32),
    "output_norm.weight": (256,),
    "output.weight": (256, 32),
    "blk.0.attn_q.weight": (256, 256),
    "blk.0.attn_v.weight": (256, 256),
    "blk.0.ffn_down.weight": (256, 256),
}


def tiny_weights(*, file_type: int = 0) -> bytes:
    """Return F32 weights whose header says that they are of this file type of llama.cpp's."""
    sizes = {"block_count": 1, "embedding_length": 256, "feed_forward_length": 256, "attention.head_count": 4}
    return gguf(
        metadata={
            **{f"llama.{key}": value for key, value in sizes.items()},
            "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "general.file_type": file_type,
        },
        tensors=_SHAPES,
    )
