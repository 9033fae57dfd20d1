"""Becomes one unit's process: takes its place below the supervisor, then runs the unit's own command.

It exists because LISTEN_PID must name the process that listens, which is known only after the fork. It is run by path
with ``-I -S``, so it starts in milliseconds and imports nothing of ours.

Promises: the process dies when the supervisor dies (PR_SET_PDEATHSIG); sockets are passed from descriptor 3 on, in
order; nothing else is inherited but the standard streams.
"""

import ctypes
import json
import os
import signal
import sys

_FIRST_FD = 3
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Read the job from the first argument and run its command."""
    job = json.loads(sys.argv[1])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != job["supervisor"]:
        sys.exit(1)
    os.umask(job["umask"])
    # First above every number in play, so that no copy overwrites one that is still needed.
    above = max([_FIRST_FD, *job["fds"]]) + 1 + len(job["fds"])
    parked = [os.dup2(fd, above + offset, inheritable=False) for offset, fd in enumerate(job["fds"])]
    for offset, fd in enumerate(parked):
        os.dup2(fd, _FIRST_FD + offset, inheritable=True)
    os.closerange(_FIRST_FD + len(parked), 4096)
    environment = dict(job["environment"])
    if parked:
        environment |= {
            "LISTEN_PID": str(os.getpid()),
            "LISTEN_FDS": str(len(parked)),
            "LISTEN_FDNAMES": ":".join(job["names"]),
        }
    try:
        os.execve(job["command"][0], job["command"], environment)  # noqa: S606 - becoming the unit is the purpose
    except OSError as error:
        sys.stderr.write(f"{job['command'][0].rpartition('/')[2]}: {error.strerror}\n")
        sys.exit(203)  # systemd.exec(5): EXEC


if __name__ == "__main__":
    main()
