"""Ends the processes of a service that gunicorn runs as soon as all they had to do is done.

Python takes every module apart before it ends: half a second of a service's master, and as much of its worker. Whoever
stops or restarts units waits for it, and so do callers. After any other end than the one that was asked for, and where
a caller is still answered, Python goes its own way.
"""

import os
import sys
from contextlib import suppress
from typing import Any, NoReturn


def master(_server: Any) -> None:
    """End a master that was told to stop, whose workers are gone; gunicorn's hook `on_exit`."""
    if isinstance(sys.exc_info()[1], StopIteration | KeyboardInterrupt):
        leave(0)


def worker(_server: Any, worker: Any) -> None:
    """End a worker that was told to stop and answers nobody any more; gunicorn's hook `worker_exit`.

    Nothing that is registered with `atexit` runs: a worker that needs it has another hook.
    """
    ended = sys.exc_info()[1]
    if isinstance(ended, SystemExit) and not ended.code and worker.nr_conns == 0:
        leave(0)


def leave(code: int) -> NoReturn:
    """End this process with an exit code now; what it printed is told before."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more, or it was closed
            stream.flush()
    os._exit(code)
