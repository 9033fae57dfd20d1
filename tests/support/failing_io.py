"""A program whose k-th call to the disk fails, by strace's fault injection: only calls on files below one folder count.

strace counts for each thread by itself, so a number meets the k-th call of every thread that comes so far.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
CALLS: Final = "pwrite64,write,fsync,fdatasync,ftruncate,fallocate,unlink,rename"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """How it went: the program's lines, its exit code, and the calls that were made to fail."""

    lines: tuple[str, ...]
    code: int
    calls: tuple[str, ...]


def run_with_failure(
    module: str, arguments: Sequence[str], *, files: Sequence[Path], number: int, error: str, log: Path
) -> Failed:
    """Run a module under strace and let call `number` on `files` fail.

    Args:
        module: Is run with this interpreter, from the checkout.
        arguments: Its own.
        files: Whose calls count; a file need not be there yet.
        number: Which call of each thread, from 1.
        error: As errno names it, such as EIO or ENOSPC.
        log: Where strace writes.
    """
    paths = [word for file in files for word in ("-P", str(file))]
    done = subprocess.run(
        ["strace", "-f", "-q", "-o", str(log), "-e", f"trace={CALLS}", *paths,
         "-e", f"inject={CALLS}:error={error}:when={number}", sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip
    told = log.read_text(errors="replace").splitlines()
    calls = tuple(line.split(maxsplit=1)[1].partition("(")[0] for line in told if "(INJECTED)" in line)
    return Failed(lines=tuple(done.stdout.splitlines()), code=done.returncode, calls=calls)
