"""Which of llama.cpp's libraries for processors a machine runs: the best that was tried, not the best that is claimed.

llama.cpp asks the processor what it has and takes the library with most of it. That may end whoever uses it: a virtual
machine names what its host does not let it have, or a compiler built the library wrongly. So each library computes once
in a process of its own (`processortrial`), and one that ends it, or computes something else, is left out. A tenth of a
second, at each start, since a machine may be moved to another processor.
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from media.processortrial import NONE_FITS

_TRIAL: Final = "processortrial.py"
_SECONDS: Final = 60
_TRIES: Final = "tries "
_FITS: Final = "fits "
_FAILED: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """The libraries of an environment's wheel, tried.

    Attributes:
        library: The file name of the one that is used; empty where the wheel has one alone, or none computes here.
        unfit: File names of those that are for this processor, by what it claims, and do not compute, best first.

    Both are empty where the trial itself failed, too: then llama.cpp chooses, as it would without us.
    """

    library: str = ""
    unfit: tuple[str, ...] = ()


def libraries_of(packages: Path) -> Path:
    """Return the folder of an environment's packages where llama.cpp's libraries for processors lie."""
    return packages / "bin"


def fitting(python: Path, packages: Path) -> Fitting:
    """Try the libraries, best first, until one computes.

    Args:
        python: The environment's interpreter.
        packages: Its folder of packages (site-packages).
    """
    libraries = libraries_of(packages)
    if not any(libraries.glob("libggml-cpu-*.so")):
        return Fitting()
    unfit: list[str] = []
    while True:
        lines, code = _tried(python, [libraries, packages / "llama_cpp" / "lib", *unfit])
        if code > 0 and code != NONE_FITS:
            return Fitting()
        fits = next((line.removeprefix(_FITS) for line in lines if line.startswith(_FITS)), "")
        tried = [line.removeprefix(_TRIES) for line in lines if line.startswith(_TRIES)]
        fresh = [name for name in tried if name not in (fits, *unfit)]
        unfit += fresh
        if fits or code >= 0 or not fresh:
            return Fitting(library=fits, unfit=tuple(unfit))


def _tried(python: Path, arguments: Sequence[Path | str]) -> tuple[list[str], int]:
    """Return what a trial said, and the code that it ended with; it sees nothing of this process' environment."""
    # Its text, since a build runs this from our wheel, which is no folder.
    program = resources.files(__package__).joinpath(_TRIAL).read_text()
    try:
        started = subprocess.Popen(
            [python, "-I", "-c", program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath},
        )
    except OSError:  # an environment that is not whole
        return [], _FAILED
    with started as process:
        try:
            out, _ = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
    return out.decode(errors="replace").splitlines(), process.returncode
