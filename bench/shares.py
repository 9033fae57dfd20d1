"""Processor shares as systemd gives them: each service is a group, and groups are weighed, not threads.

A box weighs its services (CPUWeight= in systemd/), so that what computes without a pause takes from nobody who needs a
moment. Without groups every thread counts alike, and a benchmark of several services on few cores measures that.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.asking import family
from bench.measuring import ROOT, say

USUAL: Final = 100
"""What systemd gives where a unit says nothing."""
_APART: Final = re.compile(rb"[\0 :]+")
_OLD: Final = Path("/sys/fs/cgroup/cpu")
_NEW: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Processes, with all that they start from now on, and what they weigh together."""

    pids: Sequence[int]
    weight: int = USUAL


def weight_of(unit: str) -> int:
    """Return what a unit of the project weighs, by its file in systemd/."""
    for line in (ROOT / "systemd" / unit).read_text("utf-8").splitlines():
        if line.startswith("CPUWeight="):
            return int(line.partition("=")[2])
    return USUAL


def running(word: str) -> list[int]:
    """Return the processes below this one that have a word in their command, with all below them.

    A command that tells what its process is, such as ``gunicorn: worker [name]``, is one text with that in it.
    """
    found = []
    for pid in family((os.getpid(),)):
        with suppress(OSError):
            if word.encode() in _APART.split(Path(f"/proc/{pid}/cmdline").read_bytes()):
                found.append(pid)
    return family(found)


@contextmanager
def weighed(groups: Mapping[str, Group]) -> Iterator[bool]:
    """Give groups of processes their shares until the block ends; yield whether this machine let that be done."""
    with ExitStack() as stack:
        try:
            for name, group in groups.items():
                folder = _made(f"sealift-bench-{os.getpid()}-{name}", group.weight)
                stack.callback(_ended, folder)
                for pid in group.pids:
                    with suppress(ProcessLookupError):
                        (folder / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            say(f"processors are shared by threads, not by services: {error.strerror}")
            stack.close()
            yield False
            return
        yield True


def _made(name: str, weight: int) -> Path:
    if (_OLD / "cpu.shares").exists():
        folder = _OLD / name
        folder.mkdir()
        (folder / "cpu.shares").write_text(str(weight * 1024 // 100))  # as systemd translates a weight
        return folder
    (_NEW / "cgroup.subtree_control").write_text("+cpu")
    folder = _NEW / name
    folder.mkdir()
    (folder / "cpu.weight").write_text(str(weight))
    return folder


def _ended(folder: Path) -> None:
    for pid in (folder / "cgroup.procs").read_text().split():
        with suppress(OSError):
            (folder.parent / "cgroup.procs").write_text(pid)
    with suppress(OSError):
        folder.rmdir()
