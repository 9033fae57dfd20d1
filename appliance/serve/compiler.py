"""Whether a C compiler here builds what Triton builds on a GPU: a small program for each kernel, as vLLM starts.

It is tried, not looked up: a compiler without the C library's headers, or the interpreter's, builds nothing (ADR 66).
Run as ``python -I -m appliance.serve.compiler``, as the build of an image does, it ends with 1 and the reason.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

from media import enginepackages

NEEDED: Final = f"gcc and libpython{sysconfig.get_python_version()}-dev"
"""The Debian packages that bring it, for people."""
_SECONDS: Final = 60
# The order in which Triton looks for one.
_COMPILERS: Final = ("gcc", "clang")
_HEADERS: Final = ("stdio.h", "stdlib.h", "Python.h")
# As gcc says it, and as clang does.
_MISSING: Final = re.compile(r"\b(\w+\.h)(?:: No such file|' file not found)")
_PROGRAM: Final = "".join(f"#include <{name}>\n" for name in _HEADERS) + "int sealift_probe(void) { return 0; }\n"


def is_needed() -> bool:
    """Return whether the engine of this environment builds its kernels here."""
    return enginepackages.builds_kernels({one.name.lower().replace("_", "-") for one in distributions()})


def fault() -> str:
    """Return why nothing can be built here; nothing where it can."""
    program = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if program is None:
        return f"neither {' nor '.join(_COMPILERS)} is here"
    name, headers = Path(program).name, sysconfig.get_path("include", "posix_prefix")
    with tempfile.TemporaryDirectory(prefix="sealift-compiler-") as scratch:
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
            return f"{name} does not run: {type(error).__name__}"
    if done.returncode == 0:
        return ""
    missing = _MISSING.search(done.stderr.decode(errors="replace"))
    return f"{name} finds no {missing[1]}" if missing else f"{name} builds nothing"


def main() -> int:
    """Say what is missing, where something is that this environment needs; return the exit code."""
    found = fault() if is_needed() else ""
    if found:
        sys.stderr.write(f"{found}: vLLM's kernels are built here as it starts; it takes {NEEDED}\n")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
