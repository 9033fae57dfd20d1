"""How many GPUs hold a model between them by tensor parallelism (C22, C23, X4).

weights   GB of the model in 16 bits; a third and a little (0.35) at 4 bits, a half at 8
room      what an engine may take of each GPU (0.90 of it, X7)
GPUs      (weights + key and value cache) / room, rounded up, then up again to 1, 2, 4 or 8
"""

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

from media.errors import UsageError

Precision = Literal["fp16", "fp8", "awq", "gptq"]
ALLOWED: Final = (1, 2, 4, 8)
"""Sizes that divide the attention heads of the models people run."""
_KNOWN_GB: Final = {7: 14, 13: 26, 34: 68, 70: 140}
_PART: Final = {"fp16": 1.0, "fp8": 0.5, "awq": 0.35, "gptq": 0.35}
# Of the usual models of that size, in 16 bits: 2 x layers x key and value heads x their width x 2 bytes.
_CACHE_MIB_PER_TOKEN: Final = {7: 0.5, 13: 0.78, 34: 0.1875, 70: 0.3125}
_USABLE: Final = 0.90
_MIB_PER_GB: Final = 1e9 / 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How a model lies on GPUs; sizes in GB.

    Attributes:
        tensor_parallel_size: How many GPUs; 0 where eight of these do not hold it.
        vram_per_gpu: What each holds of it.
        total_vram_needed: Weights and cache together.
        cache_gb: Of that, keys and values of the tokens asked for.
        claimed: What the common calculator, which adds one and forgets the cache, says.
    """

    tensor_parallel_size: int
    vram_per_gpu: float
    total_vram_needed: float
    cache_gb: float
    claimed: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {name: getattr(self, name) for name in self.__slots__}


def split(
    billions: float,
    gpu_gb: float,
    precision: Precision = "fp16",
    *,
    tokens: int = 8192,
    cache_mib_per_token: float | None = None,
) -> Split:
    """Return how many GPUs of `gpu_gb` hold a model of so many billions of parameters and `tokens` in its cache.

    Args:
        billions: The model's parameters.
        gpu_gb: The memory of one GPU.
        precision: In which the weights lie there.
        tokens: Of all requests that are answered at once, together.
        cache_mib_per_token: Where the model is known better than by its size.

    Raises:
        UsageError: A number is out of range.
    """
    per_token = cache_mib_per_token
    if per_token is None:
        nearest = min(_CACHE_MIB_PER_TOKEN, key=lambda known: abs(known - billions))
        per_token = _CACHE_MIB_PER_TOKEN[nearest]
    is_model = 0 < billions <= 10_000 and 0 <= per_token <= 10_000
    if not (is_model and 0 < gpu_gb <= 10_000 and 0 <= tokens <= 10**9):
        raise UsageError(
            what="this is no model on a GPU",
            why=f"{billions:g} billion parameters, {gpu_gb:g} GB, {tokens} tokens of {per_token:g} MiB",
            fix="name the parameters in billions, the memory of one GPU in GB, and the tokens in use at once",
        )
    weights = _KNOWN_GB.get(int(billions), billions * 2) if billions == int(billions) else billions * 2
    weights = weights * _PART[precision]
    cache = tokens * per_token / _MIB_PER_GB
    least = math.ceil((weights + cache) / (gpu_gb * _USABLE))
    size = next((allowed for allowed in ALLOWED if allowed >= least), 0)
    return Split(
        tensor_parallel_size=size,
        vram_per_gpu=round((weights + cache) / (size or least), 1),
        total_vram_needed=round(weights + cache, 1),
        cache_gb=round(cache, 1),
        claimed=max(1, int(weights / gpu_gb) + 1),
    )
