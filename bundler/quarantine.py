"""A place to rehearse in: an empty network namespace, a clean environment, and no configuration of this machine.

Every program runs with nothing but a loopback of its own, which leads nowhere: whatever tries to reach a network fails
at once. Not root needed where users may make namespaces. Programs meet over Unix sockets, which are files.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from bundler.errors import RehearsalError

_KEPT_LINES: Final = 12
_SECONDS: Final = 1800


class Quarantine(Protocol):
    """Runs programs where no network is."""

    def run(self, arguments: Sequence[str | Path], *, step: str) -> str:
        """Run a program to its end and return its standard output.

        Raises:
            RehearsalError: It ended with another code than 0; `what` names the step.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkNamespace:
    """The real one, made by unshare(1) for each program.

    Args:
        home: An empty folder that stands for the home of whoever runs the programs.
        variables: Set besides the few that every program gets.
    """

    home: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def run(self, arguments: Sequence[str | Path], *, step: str) -> str:
        """Run a program in a fresh empty network namespace; see `Quarantine`.

        Raises:
            RehearsalError: As there.
        """
        words = [*_unshare(), *(str(argument) for argument in arguments)]
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                cwd=self.home,
                env={**self._environment(), **self.variables},
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RehearsalError(
                what=f"rehearsal: {step} could not run", why=type(error).__name__, fix="run again with --debug"
            ) from error
        if done.returncode != 0:
            said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            raise RehearsalError(
                what=f"rehearsal: {step} failed",
                why=f"exit code {done.returncode}: {' | '.join(said[-_KEPT_LINES:])[-1500:]}",
                fix="correct it and build again; add --keep to look at what is left",
            )
        return done.stdout

    def require_empty(self) -> None:
        """Prove that no network device but loopback is there.

        Raises:
            RehearsalError: Namespaces cannot be made here, or one is not empty.
        """
        try:
            told = self.run(["cat", "/proc/net/dev"], step="making an empty network namespace")
        except RehearsalError as error:
            raise RehearsalError(
                what="rehearsal: no empty network namespace can be made here",
                why=error.why,
                fix="run as root, or on a machine that lets users make namespaces",
            ) from error
        devices = [line.partition(":")[0].strip() for line in told.splitlines()[2:]]
        if devices != ["lo"]:
            raise RehearsalError(
                what="rehearsal: the network namespace is not empty",
                why=f"it has {', '.join(devices)}",
                fix="report it with the kernel's version",
            )

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            # pip must not find this machine's own indexes and link folders.
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def _unshare() -> list[str]:
    if shutil.which("unshare") is None:
        raise RehearsalError(
            what="rehearsal: unshare is not installed", why="it makes the empty network", fix="install util-linux"
        )
    made = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    # Loopback is up, as in a unit with PrivateNetwork=: vLLM's own processes meet there.
    return [*made, "sh", "-c", 'ip link set lo up 2>/dev/null; exec "$@"', "sh"]
