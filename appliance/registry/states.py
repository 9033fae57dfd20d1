"""What recurrent and hybrid models keep of a text: a state of fixed size for each answer, in place of rows of tokens.

llama.cpp keeps it as F32 for each of its sequences, for each layer that has one; which layers do is not in the header,
so all count. Sources: llama.cpp's `n_embd_r` and `n_embd_s`; Mamba (Gu and Dao 2023), RWKV (Peng et al. 2023), LFM2.
"""

from dataclasses import dataclass
from typing import Final

from media.gguf import GgufHeader

STATE_BYTES: Final = 4  # F32
_SHIFTS: Final = 2  # tokens that RWKV looks back at, one before attention and one before the feed-forward step


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Of one layer and one answer.

    Attributes:
        values: How many numbers; 0 for a model whose memory is rows of tokens alone.
        inner: How wide a layer's own step is; 0 where it is as wide as the model.
    """

    values: int
    inner: int


def state_of(header: GgufHeader) -> State:
    """Return the state of the model that a header describes."""
    width, inner = _count(header, "embedding_length"), _count(header, "ssm.inner_size")
    state, kernel = _count(header, "ssm.state_size"), _count(header, "ssm.conv_kernel")
    groups = _count(header, "ssm.group_count")
    taps, head = _count(header, "shortconv.l_cache"), _count(header, "wkv.head_size")
    values = inner * state + max(0, kernel - 1) * (inner + 2 * groups * state)
    values += max(0, taps - 1) * width
    values += (_SHIFTS + head) * width if head else 0
    return State(values=values, inner=inner)


def _count(header: GgufHeader, name: str) -> int:
    found = header.metadata.get(f"{header.architecture}.{name}", 0)
    return found if type(found) is int and found > 0 else 0
