"""Becomes an attached engine's program: `python -I -m appliance.serve.attached_start PARENT program|module WHAT ARGS`.

The kernel ends it when the launcher's worker ends, however that comes about, so no engine is left without one.
"""

import ctypes
import os
import runpy
import signal
import sys
from typing import Final

_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def main() -> None:
    """Bind this process to its parent, then run what was asked for in its place."""
    parent, kind, what, *arguments = sys.argv[1:]
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        raise SystemExit(1)  # it ended before the kernel knew
    if kind == "program":
        os.execv(what, [what, *arguments])  # noqa: S606 - the launcher hashed it
    sys.argv = [what, *arguments]
    runpy.run_module(what, run_name="__main__")


if __name__ == "__main__":
    main()
