"""Runs one deep shard within its time, and ends all that it started."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# In the environment of everything that a shard starts.
_MARK = "SEALIFT_SHARD"
_shown = threading.Lock()


def run_shard(name: str, commands: Sequence[Sequence[str]], limit: float, *, shown_at_end: bool = False) -> bool:
    """Run a shard's commands within `limit` seconds; return whether it passed.

    What it prints is shown as it comes, or in one piece at its end.
    """
    started = time.monotonic()
    passed = True
    marked = {**os.environ, _MARK: f"{os.getpid()}-{name}"}
    with tempfile.TemporaryFile() as kept:
        for command in commands:
            left = limit - (time.monotonic() - started)
            out, err = (kept, subprocess.STDOUT) if shown_at_end else (None, None)
            with subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err, env=marked) as process:
                try:
                    passed = process.wait(max(left, 1)) == 0
                except subprocess.TimeoutExpired:
                    kept.write(f"shard {name}: over {limit / 60:.0f} minutes\n".encode())
                    passed = False
                finally:
                    if process.poll() is None:
                        end_with_all_below(process.pid)
            if not passed:
                break
        _end_what_is_left(f"{_MARK}={marked[_MARK]}".encode())
        minutes = (time.monotonic() - started) / 60
        kept.seek(0)
        text = kept.read().decode(errors="replace")
    with _shown:
        sys.stdout.write(f"{text}== shard {name}: {'passed' if passed else 'FAILED'} in {minutes:.1f} minutes\n")
        sys.stdout.flush()
    return passed


def end_with_all_below(process: int) -> None:
    """End a process and what it started, which may have another environment, as what an engine's launcher starts has.

    A process is stopped before its children are listed, so that it has no more of them.
    """
    with suppress(OSError):  # it ended meanwhile
        os.kill(process, signal.SIGSTOP)
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            for child in children.read_text().split():
                end_with_all_below(int(child))
        os.kill(process, signal.SIGKILL)


def _end_what_is_left(mark: bytes) -> None:
    """End what a shard left running, above all boxes of one that was out of time: they would slow the next ones."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it ended meanwhile, or is another user's
            if mark in environment.read_bytes().split(b"\0"):
                os.kill(int(environment.parent.name), signal.SIGKILL)
