"""A medium that is a program: a folder shown through FUSE that lies, fails or dies as it is told.

    with lying(volume, place, Lie(path="release/data/x", how="good once")) as told:
        ...                                   # read below place
    told()                                    # how often each file was opened

The program is a process of its own, so that it can die in the middle. Nothing of what it gives is kept by the kernel:
each read reaches it (tests/support/lying_files.py).
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import pytest

_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lie:
    """What is wrong with one file.

    Args:
        path: Below the volume.
        how: `good once` (evil from the second opening on), `evil once`, `evil again` (each byte is evil when it is
            read a second time, in whatever opening), `grows` (longer than it said), `shrinks` (ends early), `short`
            (a read gives a few bytes only), `fails` (an I/O error from `at` on), `dies` (the medium is gone at `at`),
            `endless` (says that it has a petabyte), `waits` (each read takes a while).
        at: In bytes.
    """

    path: str
    how: str
    at: int = 0


@contextmanager
def lying(volume: Path, place: Path, *lies: Lie) -> Iterator[Callable[[], Counter[str]]]:
    """Show a volume at a place, with lies; yields a function that says how often each file was opened."""
    if not Path("/dev/fuse").exists():
        pytest.skip("there is no /dev/fuse here")
    if shutil.which("fusermount3") is None and os.geteuid() != 0:
        pytest.skip("FUSE needs fusermount3 or root")
    place.mkdir(exist_ok=True)
    log = place.with_name(f"{place.name}.opened")
    log.touch()
    text = json.dumps([asdict(lie) for lie in lies])
    command = [sys.executable, "-m", "tests.support.lying_files", str(volume), str(place), text, str(log)]
    process = subprocess.Popen(command, cwd=_ROOT, stderr=subprocess.PIPE)
    with process:
        try:
            until = time.monotonic() + 20
            while not place.is_mount():
                if process.poll() is not None or time.monotonic() > until:
                    assert process.stderr is not None
                    pytest.fail(f"FUSE did not start: {process.stderr.read().decode()[-400:]}")
                time.sleep(0.02)
            yield lambda: Counter(log.read_text("utf-8").splitlines())
        finally:
            unmount(place)
            process.terminate()


def unmount(place: Path) -> None:
    """Take it away, also in the middle of a read; what is gone already may be."""
    for command in (["umount", "-l", str(place)], ["fusermount3", "-u", "-z", str(place)]):
        with suppress(FileNotFoundError):
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return
