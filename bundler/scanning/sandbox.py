"""A throwaway place to open a hostile file in: no network, nothing of this machine to see, nothing to write, limits.

One script runs in it, with an interpreter whose libraries may be anyone's. It finds a root that holds `/usr`, the
interpreter's own folder, the script and the files that were handed over, all read-only, and nothing else: no home, no
/etc, no /proc, no device but /dev/null, no other process. It is nobody (or, where a user without root makes the
sandbox, that user and nobody else) without capabilities, and cannot gain any. What it prints is capped. Where mount
namespaces cannot be made, only the network is taken away; `level` says which of the two this machine allows.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Final

from bundler.errors import ScanError

ISOLATED: Final = "isolated"
NETWORK_ONLY: Final = "no-network"
SCRIPT: Final = "/script.py"
SOCKETS: Final = "/sockets"
"""A folder for sockets that a script makes, where it is given one; files stay empty in it, as everywhere."""

_KEPT_BYTES: Final = 64 * 2**10
_NOBODY: Final = "65534"
_PROCESSES: Final = 128
_NAMESPACES: Final = ("--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--propagation=private")
# $1 is the new root; pairs of source and place follow up to "--", then the program.
_ENTER: Final = """
umask 022
root=$1; shift
mount -t tmpfs -o size=1m,mode=0755,nosuid,nodev sealift "$root"
while [ "$1" != -- ]; do
    mkdir -p "$root${2%/*}"
    if [ "$1" = tmpfs ]; then
        mkdir -p "$root$2"; mount -t tmpfs -o size=1m,mode=1777,nosuid,nodev,noexec sealift "$root$2"; shift 2; continue
    fi
    if [ -d "$1" ]; then mkdir -p "$root$2"; else : > "$root$2"; fi
    mount --bind "$1" "$root$2"
    mount -o remount,bind,ro,nosuid,nodev "$root$2"
    shift 2
done
shift
mkdir -p "$root/dev"; : > "$root/dev/null"
mount --bind /dev/null "$root/dev/null"
for name in bin lib lib64 sbin; do ln -s "usr/$name" "$root/$name"; done
mount -o remount,bind,ro,nosuid,nodev "$root"
code=0
"$@" || code=$?
exit "$code"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the script may use; sizes in bytes, time in seconds."""

    memory: int
    seconds: int
    cpu_seconds: int
    open_files: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a script ended: `signal_name` and `is_late` tell a crash and a timeout from an exit code."""

    code: int
    output: str
    errors: str
    signal_name: str = ""
    is_late: bool = False


def level() -> str:
    """Return how much can be taken away on this machine: `ISOLATED` or `NETWORK_ONLY`.

    Raises:
        ScanError: Not even an empty network namespace can be made.
    """
    return _level(os.geteuid())


@cache
def _level(user: int) -> str:
    probes = {ISOLATED: [*_unshare(user, isolated=True), "mount", "-t", "tmpfs", "probe", "/mnt"]}
    if user != 0:
        # Root without a root of its own could still do everything to files that are root's.
        probes[NETWORK_ONLY] = [*_unshare(user, isolated=False), "true"]
    for name, words in probes.items():
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return name
    raise ScanError(
        what="no sandbox can be made here to load a model in",
        why="unshare(1) could not make empty namespaces",
        fix="install util-linux and run as root, or on a machine that lets users make namespaces",
    )


def run(
    python: Path,
    script: Path,
    arguments: Sequence[str],
    *,
    limits: Limits,
    files: Mapping[Path, str] | None = None,
    at: str = "",
    has_sockets: bool = False,
) -> Ended:
    """Run a stand-alone script to its end in a fresh sandbox.

    Args:
        python: The interpreter, in a virtual environment.
        script: The script; it may import what that environment holds.
        arguments: Its arguments.
        limits: What it may use.
        files: Host files and the absolute paths under which the script finds them, where that is possible; any
            argument that equals such a path becomes the host path where it is not.
        at: The level, where it is known already.
        has_sockets: Whether there is the folder `SOCKETS`.

    Raises:
        ScanError: No sandbox can be made.
    """
    found = at or level()
    handed = {script.resolve(): SCRIPT, **{path.resolve(): place for path, place in (files or {}).items()}}
    with tempfile.TemporaryDirectory(prefix="sl-") as folder:
        if found == ISOLATED:
            words = _isolated(python, handed, Path(folder), limits, has_sockets=has_sockets)
            words += [SCRIPT, *arguments]
        else:
            hosts = {SOCKETS: folder, **{place: str(path) for path, place in handed.items()}}
            # Nobody could not reach a cache in someone's home; here the files lie where they are.
            words = [*_unshare(os.geteuid(), isolated=False), *_limited(limits), *_without_rights(becomes_nobody=False)]
            words += [str(python), "-I", "-B", str(script), *(hosts.get(word, word) for word in arguments)]
        return _ended(words, limits.seconds, Path(folder))


def _isolated(python: Path, handed: Mapping[Path, str], root: Path, limits: Limits, *, has_sockets: bool) -> list[str]:
    user = os.geteuid()
    environment = python.parent.parent
    shown = {Path("/usr"): "/usr", environment.resolve(): str(environment), **handed}
    base = Path(sys.base_prefix).resolve()
    if not base.is_relative_to("/usr"):
        shown[base] = str(base)
    mounts = [word for path, place in shown.items() for word in (str(path), place)]
    mounts += ["tmpfs", SOCKETS] if has_sockets else []
    # Processes are counted for a user on the whole machine; only nobody has none of its own.
    processes = ["prlimit", f"--nproc={_PROCESSES}", "--"] if user == 0 else []
    rights = ["chroot", str(root), *_without_rights(becomes_nobody=user == 0)]
    program = [*processes, *_limited(limits), *rights, str(python), "-I", "-B"]
    return [*_unshare(user, isolated=True), "/bin/sh", "-euc", _ENTER, "sandbox", str(root), *mounts, "--", *program]


def _unshare(user: int, *, isolated: bool) -> list[str]:
    mapped = [] if user == 0 else ["--user", "--map-root-user"]
    return ["unshare", *mapped, *(_NAMESPACES if isolated else ("--net",))]


def _limited(limits: Limits) -> list[str]:
    return [
        "prlimit", f"--as={limits.memory}", f"--cpu={limits.cpu_seconds}", "--fsize=0", "--core=0",
        f"--nofile={limits.open_files}", "--",
    ]  # fmt: skip


def _without_rights(*, becomes_nobody: bool) -> list[str]:
    changed = ["--reuid", _NOBODY, "--regid", _NOBODY, "--clear-groups"] if becomes_nobody else []
    return ["setpriv", *changed, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]


def _ended(words: list[str], seconds: int, folder: Path) -> Ended:
    if shutil.which(words[0]) is None:
        raise ScanError(what=f"{words[0]} is not installed", why="it makes the sandbox", fix="install util-linux")
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env={"HOME": "/", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"},
    ) as child:
        told, complained = _Capped(child.stdout), _Capped(child.stderr)
        is_late = False
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            is_late = True
            child.kill()
            child.wait()
        output, errors = told.text(), complained.text()
    code = child.returncode
    number = -code if code < 0 else code - 128 if code > 128 else 0
    name = signal.Signals(number).name if number in set(signal.Signals) else ""
    shown = errors.replace(str(folder), "")
    return Ended(code=code, output=output, errors=shown, signal_name="" if is_late else name, is_late=is_late)


class _Capped:
    """Keeps the first and the last of what a program prints, and throws away what lies between."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        self._pipe = pipe
        self._first = b""
        self._last = b""
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        while self._pipe is not None and (chunk := os.read(self._pipe.fileno(), 65536)):
            room = _KEPT_BYTES - len(self._first)
            self._first += chunk[:room]
            self._last = (self._last + chunk[room:])[-_KEPT_BYTES:]

    def text(self) -> str:
        """Return what was kept, once the program has ended."""
        self._thread.join(10)
        return (self._first + self._last).decode(errors="replace")
