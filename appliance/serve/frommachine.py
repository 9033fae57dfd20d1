"""Whether an engine finds what it takes from its machine (ADR 66): a library, or the compiler that its kernels need.

It is tried, not looked up: a compiler without the C library's headers, or the interpreter's, builds nothing. Run as
``python -I -m appliance.serve.frommachine``, as the build of an image does, it ends with 1 and the reason.
"""

import ctypes
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Final

from media import enginepackages, wheelnames

_SECONDS: Final = 60
# The order in which Triton looks for one.
_COMPILERS: Final = ("gcc", "clang")
_HEADERS: Final = ("stdio.h", "stdlib.h", "Python.h")
# As gcc says it, and as clang does.
_MISSING: Final = re.compile(r"\b(\w+\.h)(?:: No such file|' file not found)")
_PROGRAM: Final = "".join(f"#include <{name}>\n" for name in _HEADERS) + "int sealift_probe(void) { return 0; }\n"


def own_wheels() -> frozenset[str]:
    """Return the canonical names of what is installed in this interpreter's environment."""
    return wheelnames.installed(map(Path, sys.path))


def packages(wheels: Collection[str]) -> str:
    """Return the Debian packages that an environment needs, for people."""
    return " and ".join(enginepackages.needed(wheels, python=sysconfig.get_python_version()))


def fault(wheels: Collection[str], *, only_lasting: bool = False) -> str:
    """Return what an environment's engine takes from this machine and does not find; nothing where it finds all.

    Args:
        wheels: Canonical names of what is installed in it.
        only_lasting: Leave out what may pass by itself, such as a trial that took too long.
    """
    for library in enginepackages.libraries(wheels):
        try:
            ctypes.CDLL(library)
        except OSError:
            return f"{library} is not here"
    return _fault_of_compiler(only_lasting=only_lasting) if enginepackages.builds_kernels(wheels) else ""


def _fault_of_compiler(*, only_lasting: bool) -> str:
    program = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if program is None:
        return f"neither {' nor '.join(_COMPILERS)} is here"
    name = Path(program).name
    try:
        said = _built(program)
    except (OSError, subprocess.SubprocessError) as error:
        return "" if only_lasting else f"{name} could not be tried: {type(error).__name__}"
    if said is None:
        return ""
    missing = _MISSING.search(said)
    return f"{name} finds no {missing[1]}" if missing else f"{name} builds nothing that can be loaded"


def _built(program: str) -> str | None:
    """Build a small program and load it, as Triton does; return what was said where that is not possible.

    Raises:
        OSError: Nothing could be written or started.
        subprocess.SubprocessError: It did not end in time.
    """
    headers = sysconfig.get_path("include", "posix_prefix")
    with tempfile.TemporaryDirectory(prefix="sealift-trial-") as scratch:
        source, library = Path(scratch) / "probe.c", Path(scratch) / "probe.so"
        source.write_text(_PROGRAM)
        command = [program, str(source), "-O3", "-shared", "-fPIC", f"-I{headers}", "-o", str(library)]
        done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS)
        if done.returncode != 0:
            return done.stderr.decode(errors="replace")
        try:
            ctypes.CDLL(str(library))
        except OSError:  # what lies below a temporary folder may not be run here
            return ""
    return None


def main() -> int:
    """Say what is missing, where something is that this environment needs; return the exit code."""
    wheels = own_wheels()
    found = fault(wheels)
    if found:
        sys.stderr.write(f"{found}; the engine takes {packages(wheels)} from its machine\n")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
