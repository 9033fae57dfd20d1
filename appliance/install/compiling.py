"""Compiles the packages of several environments: `python -I -m appliance.install.compiling FOLDER...`.

Environments of one release share most of their packages, and a file is compiled once for all that have the same bytes.
So what is compiled names no time and is not looked at again beside its source (PEP 552, unchecked hash): an installed
environment is never edited. Where a package brings the syntax of a newer Python, which nobody imports here, its file
stays uncompiled. Import puts in where a file lies, so a traceback names the environment that it comes from.
"""

import importlib.util
import os
import py_compile
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Final

_AT_ONCE: Final = 32


def compile_all(folders: Sequence[Path], *, processes: int) -> int:
    """Compile every Python file below the folders; return how many files were compiled, each content once.

    Args:
        folders: Of packages.
        processes: How many compile at a time.

    Raises:
        OSError: A file cannot be read or written.
    """
    places: defaultdict[bytes, list[Path]] = defaultdict(list)
    for folder in folders:
        for path in _sources(folder):
            places[blake2b(path.read_bytes()).digest()].append(path)
    first = [same[0] for same in places.values()]
    with ProcessPoolExecutor(max_workers=processes) as pool:
        made = list(pool.map(_compiled, map(str, first), chunksize=_AT_ONCE))
    for compiled, (_, *others) in zip(made, places.values(), strict=True):
        if compiled is None:
            continue
        for other in others:
            target = Path(importlib.util.cache_from_source(str(other)))
            target.parent.mkdir(exist_ok=True)
            shutil.copy(compiled, target)
    return len(made) - made.count(None)


def _sources(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(where, name) for name in sorted(names) if name.endswith(".py"))


def _compiled(source: str) -> str | None:
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    return py_compile.compile(source, doraise=False, quiet=2, invalidation_mode=mode)


if __name__ == "__main__":
    compile_all([Path(folder) for folder in sys.argv[1:]], processes=len(os.sched_getaffinity(0)))
