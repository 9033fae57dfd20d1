"""In which precision vLLM computes on a processor: in that of the weights, or in single precision.

Weights lie in 16 bits. A processor without AVX-512 multiplies such numbers one by one, so that it reads a question five
times as slowly as in single precision (ADR 87), which takes twice the memory.
"""

from pathlib import Path
from typing import Final

from appliance.serve.machinemark import processor
from media.vllmprofile import VllmSettings

_X86: Final = "cpu:type:x86,"
_AVX512: Final = f"{9 * 32 + 16:04X}"
"""Its number among the features of x86, as the kernel counts them (arch/x86/include/asm/cpufeatures.h)."""


def is_single(settings: VllmSettings, *, weights_bytes: int, free_bytes: int, root: Path = Path("/")) -> bool:
    """Return whether to compute in single precision on this processor.

    Args:
        settings: A quantization has kernels of its own, and is left as it is.
        weights_bytes: Of the files of weights, in 16 bits. In 32 they may fill a quarter of what is free at most: half
            is for what tokens leave behind, so that as many have room as in 16 bits.
        free_bytes: Memory that is free now.
        root: Of the file system in which the kernel describes the processor.
    """
    if settings.quantization or 8 * weights_bytes > free_bytes:
        return False
    features = _features(processor(root))
    return features is not None and _AVX512 not in features


def _features(told: str) -> frozenset[str] | None:
    """Return the numbers of an x86 processor's features; None where it is another one, or not known."""
    _, found, features = told.partition(":feature:")
    return frozenset(features.upper().split(",")) if found and told.startswith(_X86) else None
