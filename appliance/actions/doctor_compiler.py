"""Whether vLLM would start on this machine's GPU: Triton builds a small C program for each kernel as it starts."""

from collections.abc import Iterator
from typing import Final

from appliance.actions.findings import Finding
from appliance.config import Config
from appliance.serve import compiler

_TRITON: Final = "lib/python3*/site-packages/triton-*.dist-info"
_CUDA: Final = "lib/python3*/site-packages/nvidia_cuda_runtime*.dist-info"


def look(config: Config) -> Iterator[Finding]:
    """Look at each installed engine environment whose kernels are built here; nothing is said where there is none."""
    for environment in sorted(config.at.current.glob("engine-*")):
        if any(environment.glob(_TRITON)) and any(environment.glob(_CUDA)):
            fault = compiler.fault()
            yield Finding(
                name="C compiler",
                is_good=not fault,
                text=fault or f"builds what Triton of {environment.name} needs",
                why="on a GPU Triton builds a program for each kernel as vLLM starts; without a compiler vLLM ends",
                fix=f"install {compiler.NEEDED}, best by a medium that brings them",
            )
