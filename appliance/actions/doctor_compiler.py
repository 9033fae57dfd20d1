"""Whether vLLM would start on this machine's GPU: Triton builds a small C program for each kernel as it starts.

It is tried, not looked up: a compiler without the C library's headers, or the interpreter's, builds nothing.
"""

import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from appliance.actions.findings import Finding
from appliance.config import Config

_SECONDS: Final = 60
_TRITON: Final = "lib/python3*/site-packages/triton-*.dist-info"
_CUDA: Final = "lib/python3*/site-packages/nvidia_cuda_runtime*.dist-info"
# The order in which Triton looks for one.
_COMPILERS: Final = ("gcc", "clang")
_PROGRAM: Final = (
    "#include <stdio.h>\n#include <stdlib.h>\n#include <Python.h>\nint sealift_probe(void) { return 0; }\n"
)


def compiler(config: Config) -> Iterator[Finding]:
    """Look at each installed engine environment whose kernels are built here; nothing is said where there is none."""
    for environment in sorted(config.at.current.glob("engine-*")):
        if any(environment.glob(_TRITON)) and any(environment.glob(_CUDA)):
            fault = _fault()
            yield Finding(
                name="C compiler",
                is_good=not fault,
                text=fault or f"builds what Triton of {environment.name} needs",
                why="on a GPU Triton builds a program for each kernel as vLLM starts; without a compiler vLLM ends",
                fix=f"install gcc and libpython{sysconfig.get_python_version()}-dev, best by a medium that brings them",
            )


def _fault() -> str:
    """Return why nothing can be built here; nothing where it can."""
    program = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if program is None:
        return f"neither {' nor '.join(_COMPILERS)} is here"
    headers = sysconfig.get_path("include", "posix_prefix")
    with tempfile.TemporaryDirectory(prefix="sealift-doctor-") as scratch:
        source = Path(scratch) / "probe.c"
        source.write_text(_PROGRAM)
        command = [
            program,
            str(source),
            "-O3",
            "-shared",
            "-fPIC",
            f"-I{headers}",
            "-o",
            str(source.with_suffix(".so")),
        ]
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            return f"{Path(program).name} does not run: {type(error).__name__}"
    said = done.stderr.decode(errors="replace")
    if done.returncode == 0:
        return ""
    missing = [name for name in ("Python.h", "stdio.h", "stdlib.h") if f"{name}: No such file" in said]
    return f"{Path(program).name} finds no {missing[0]}" if missing else f"{Path(program).name} builds nothing"
