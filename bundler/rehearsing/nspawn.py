"""A whole Debian that boots: a copy of a root file system, started by systemd-nspawn without a network.

The base is copied and never changed; what a machine behind a gap has not is taken away from the copy: package sources,
lists and caches, name servers. The volume is there read-only. Root is needed, and nothing else of this machine is seen
inside.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from bundler.errors import RehearsalError

VOLUME: Final = "/media/sealift-1"
_CLEAN: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}
_TAKEN_AWAY: Final = (
    "etc/apt/sources.list", "etc/apt/sources.list.d/*", "var/lib/apt/lists/*_*", "var/cache/apt/archives/*.deb",
)  # fmt: skip
_BOOT_SECONDS: Final = 90
_STEP_SECONDS: Final = 1800
_STOP_SECONDS: Final = 30
_KEPT_LINES: Final = 12


class CleanSystem(Protocol):
    """A machine of its own on which programs run as root."""

    @property
    def name(self) -> str:
        """What it is, for the statement."""
        ...

    def run(self, words: Sequence[str], *, step: str, feed: str = "") -> str:
        """Run a program to its end and return its standard output.

        Args:
            words: The program and its arguments.
            step: What is done, for people.
            feed: What people would type.

        Raises:
            RehearsalError: It ended with another code than 0; `what` names the step.
        """
        ...


@dataclass(slots=True, kw_only=True)
class BootedSystem:
    """The real one: reached through the namespaces of its first process."""

    name: str
    leader: int

    def run(self, words: Sequence[str], *, step: str, feed: str = "") -> str:
        """Run a program in it; see `CleanSystem`.

        Raises:
            RehearsalError: As there.
        """
        clean = [f"{name}={value}" for name, value in _CLEAN.items()]
        try:
            done = subprocess.run(
                ["nsenter", "-t", str(self.leader), "-a", "env", "-i", *clean, *words],
                input=feed,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_STEP_SECONDS,
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


@contextmanager
def booted(base: Path, folder: Path, volume: Path) -> Iterator[BootedSystem]:
    """Boot a copy of a base with a volume plugged in read-only, prove that it has no network, and stop it in the end.

    Args:
        base: A root file system with systemd, as debootstrap makes it; only read.
        folder: Where the copy and the console's text lie.
        volume: What is found at `VOLUME`.

    Raises:
        RehearsalError: It cannot be booted here, or it has a network.
    """
    _require_possible(base)
    system = folder / "system"
    _copy(base, system)
    command = [
        "systemd-nspawn", "-D", str(system), "--private-network", "-b", "--console=pipe", "--register=no",
        "--keep-unit", "-M", f"rehearsal-{os.getpid()}", f"--bind-ro={volume}:{VOLUME}",
    ]  # fmt: skip
    with (folder / "console").open("wb") as console:
        nspawn = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
        )
    try:
        yield _running(nspawn, name=_name_of(system), console=folder / "console")
    finally:
        _stop(nspawn)


def _require_possible(base: Path) -> None:
    if os.geteuid() != 0:
        raise RehearsalError(
            what="rehearsal: only root can boot a system",
            why="--system starts one with systemd-nspawn",
            fix="run as root, or leave --system out for a rehearsal in an empty network namespace",
        )
    for program, package in (("systemd-nspawn", "systemd-container"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            raise RehearsalError(
                what=f"rehearsal: {program} is not installed", why="it boots the system", fix=f"install {package}"
            )
    if not (base / "usr/lib/systemd/systemd").exists() or not (base / "etc/os-release").exists():
        raise RehearsalError(
            what=f"rehearsal: {base.name} is no system that boots",
            why="it has no systemd",
            fix="make one: debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,python3 bookworm FOLDER",
        )


def _copy(base: Path, system: Path) -> None:
    done = subprocess.run(
        ["cp", "-a", "--reflink=auto", str(base), str(system)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RehearsalError(
            what="rehearsal: the system could not be copied",
            why=(done.stderr.strip().splitlines() or ["cp failed"])[-1][-200:],
            fix="make room where temporary files lie, or name another place in TMPDIR",
        )
    for path in (path for pattern in _TAKEN_AWAY for path in system.glob(pattern)):
        path.unlink()
    for name, content in (("hostname", "rehearsal\n"), ("resolv.conf", ""), ("machine-id", "")):
        (system / "etc" / name).unlink(missing_ok=True)  # may be a link that leads out of the copy
        (system / "etc" / name).write_text(content)
    (system / VOLUME.lstrip("/")).mkdir(parents=True, exist_ok=True)


def _running(nspawn: "subprocess.Popen[bytes]", *, name: str, console: Path) -> BootedSystem:
    """Wait until systemd says that the system runs, and prove that it has nothing but a loopback."""
    ends = time.monotonic() + _BOOT_SECONDS
    while time.monotonic() < ends and nspawn.poll() is None:
        if leader := _leader(nspawn.pid):
            found = BootedSystem(name=name, leader=leader)
            # It says `degraded`, with an exit code of its own, where a unit cannot start in a container.
            state = found.run(["sh", "-c", "systemctl is-system-running || true"], step="booting").strip()
            if state in {"running", "degraded"}:
                _require_no_network(found)
                return found
        time.sleep(0.2)
    said = [line.strip() for line in console.read_text(errors="replace").splitlines() if line.strip()]
    raise RehearsalError(
        what="rehearsal: the system did not boot",
        why=" | ".join(said[-3:])[-300:] or f"nothing within {_BOOT_SECONDS} s",
        fix="boot it by hand with systemd-nspawn -b and look",
    )


def _require_no_network(system: BootedSystem) -> None:
    told = system.run(["cat", "/proc/net/dev"], step="looking for a network")
    devices = [line.partition(":")[0].strip() for line in told.splitlines()[2:]]
    if devices != ["lo"]:
        raise RehearsalError(
            what="rehearsal: the system has a network",
            why=f"it has {', '.join(devices)}",
            fix="take it away: a rehearsal shows what happens without one",
        )


def _leader(nspawn: int) -> int:
    """Return the first process of the system as this machine counts, or 0 before there is one."""
    try:
        children = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()
        leader = int(children[0]) if children else 0
        return leader if leader and Path(f"/proc/{leader}/comm").read_text().strip() == "systemd" else 0
    except OSError:
        return 0


def _name_of(system: Path) -> str:
    lines = (system / "etc/os-release").read_text(errors="replace").splitlines()
    pretty = next((line.partition("=")[2].strip('"') for line in lines if line.startswith("PRETTY_NAME=")), "a system")
    return "".join(character for character in pretty if character.isascii() and character.isprintable())[:80]


def _stop(nspawn: "subprocess.Popen[bytes]") -> None:
    if nspawn.poll() is None:
        nspawn.send_signal(signal.SIGTERM)
        try:
            nspawn.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            nspawn.kill()
            nspawn.wait()
