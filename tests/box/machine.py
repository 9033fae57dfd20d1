"""A real Debian 12 in a container of its own: booted by systemd, no network but the cable a test plugs in.

The base image is made once by debootstrap from this machine's own Debian mirror and kept outside the checkout; every
box starts from a copy of it, with its package sources taken away.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.box import groups
from tests.box.debian import debian

_INCLUDE = "systemd,systemd-sysv,dbus,python3,iproute2"
_CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
_TOOLS = {
    "systemd-nspawn": "systemd-container",
    "debootstrap": "debootstrap",
    "apt-ftparchive": "apt-utils",
    "chromium": "chromium",
    "nft": "nftables",
    "ip": "iproute2",
}
_BOOT_SECONDS = 300  # after a power cut an install is taken back within it


class BoxError(Exception):
    """A command in the box ended with another status than expected, or the box did not boot."""


def install_tools() -> None:
    """Install the tools of this machine that are missing."""
    missing = sorted({package for tool, package in _TOOLS.items() if shutil.which(tool) is None})
    if missing:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "--no-install-recommends", "-y", *missing]):
            subprocess.run(["apt-get", "-qq", *words], env=quiet, stdout=subprocess.DEVNULL, check=True)


def base_image() -> Path:
    """Return the folder of a bare Debian 12, made now if there is none."""
    return debian("base", _INCLUDE)


@dataclass(slots=True, kw_only=True)
class Machine:
    """One box.

    Args:
        root: The folder of its file system.
        name: Its name, also that of its cable's end.
        media: What is plugged in read-only, by mount point in the box.
        disks: File systems of their own, by mount point in the box.
        log: Where its console goes.
        tmp_on_disk: Whether its folder for temporary files lies on its disk, as a machine's does; else in memory.
        counts_anew: Whether its monotonic seconds begin anew at each boot, as a machine's do; else they are this one's.
    """

    root: Path
    name: str
    media: Mapping[str, Path]
    log: Path
    disks: Mapping[str, Path] = field(default_factory=dict)
    tmp_on_disk: bool = False
    counts_anew: bool = False
    _nspawn: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    _leader: int = 0

    def create(self, base: Path) -> None:
        """Copy the base and take away everything a box behind a gap does not have."""
        subprocess.run(["cp", "-a", "--reflink=auto", base, self.root], check=True)
        for pattern in ("etc/apt/sources.list", "etc/apt/sources.list.d/*", "var/cache/apt/archives/*.deb"):
            for path in self.root.glob(pattern):
                path.unlink()
        for path in (self.root / "var/lib/apt/lists").glob("*_*"):
            path.unlink()
        (self.root / "etc/hostname").write_text("box\n")
        (self.root / "etc/resolv.conf").write_text("")
        (self.root / "etc/machine-id").write_text("")
        for point in self.media:
            (self.root / point.lstrip("/")).mkdir(parents=True)

    def boot(self) -> float:
        """Start it and return after how many seconds systemd said that it runs."""
        began = time.monotonic()
        binds = [f"--bind-ro={source}:{point}" for point, source in self.media.items()]
        binds += [f"--bind={source}:{point}" for point, source in self.disks.items()]
        command = ["systemd-nspawn", "-D", str(self.root), "--private-network", "-b", "--console=pipe", "-M", self.name]
        if self.counts_anew:
            # A time name space of its own, in which it was started a second ago.
            behind = int(time.monotonic()) - 1
            command = ["unshare", "--time", f"--monotonic=-{behind}", f"--boottime=-{behind}", *command]
        with self.log.open("ab") as console:
            self._nspawn = subprocess.Popen(
                groups.within(self._group, [*command, "--register=no", "--keep-unit", *binds]),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                env={**os.environ, "SYSTEMD_NSPAWN_TMPFS_TMP": str(int(not self.tmp_on_disk))},
            )
        while time.monotonic() - began < _BOOT_SECONDS:
            if self._find_leader():
                state = self.run("systemctl", "is-system-running", shown=False, may_fail=True).stdout.strip()
                if state in {"running", "degraded"}:
                    return time.monotonic() - began
            time.sleep(0.2)
        message = "the box did not boot"
        raise BoxError(message)

    @property
    def leader(self) -> int:
        """The box's first process, as this machine counts."""
        return self._leader

    def run(
        self, *words: str | Path, feed: str | None = None, shown: bool = True, may_fail: bool = False
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in the box as root.

        Raises:
            BoxError: It did not end with 0.
        """
        texts = [str(word) for word in words]
        if shown:
            print(f"box# {shlex.join(texts)}", flush=True)
        done = self._enter(texts, feed=feed)
        if shown:
            sys.stdout.write(done.stdout)
        if done.returncode != 0 and not may_fail:
            sys.stdout.write("" if shown else done.stdout)
            sys.stdout.write(done.stderr)
            message = f"in the box `{shlex.join(texts)[:120]}` ended with {done.returncode}"
            raise BoxError(message)
        return done

    def result(self, *words: str) -> dict[str, Any]:
        """Run one of our commands in the box and return its JSON result."""
        print(f"box# {shlex.join(words)}", flush=True)
        found: dict[str, Any] = json.loads(self.run(*words, "--json", shown=False).stdout)
        return found

    def told(self, *words: str) -> dict[str, Any]:
        """Return the JSON of one of our commands that looks at the box; that something is wrong there is no error."""
        found: dict[str, Any] = json.loads(self.run(*words, "--json", shown=False, may_fail=True).stdout)
        return found

    def shell(self, script: str, *, feed: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a script in one shell of the box, as a person at its console would; stderr goes along with stdout."""
        return self._enter(["bash", "-c", f"exec 2>&1\n{script}"], feed=feed)

    def status_of(self, process: int | str) -> dict[str, str]:
        """Return what the kernel tells of a process; nothing of one that ended."""
        read = self._enter(["cat", f"/proc/{process}/status"], feed=None)
        return {key: value.strip() for key, _, value in (line.partition(":") for line in read.stdout.splitlines())}

    def reboot(self) -> float:
        """Shut it down as it does itself, start it again, and return the seconds of the second start."""
        self.run("systemctl", "reboot", may_fail=True)
        assert self._nspawn is not None
        self._nspawn.wait(60)
        return self.boot()

    def cut_power(self) -> None:
        """End everything in it at once, as when the power fails: no process of it gets to run again."""
        assert self._nspawn is not None
        os.kill(self._leader, signal.SIGKILL)
        self._nspawn.wait(60)

    def stop(self) -> None:
        """Turn it off; whatever is left of it is killed."""
        if self._nspawn is not None and self._nspawn.poll() is None:
            self._nspawn.send_signal(signal.SIGTERM)
            try:
                self._nspawn.wait(30)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
        groups.remove(self._group)

    @property
    def _group(self) -> str:
        return f"{self.name}-{os.getpid()}"

    def _enter(self, words: Sequence[str], *, feed: str | None) -> "subprocess.CompletedProcess[str]":
        clean = [f"{name}={value}" for name, value in _CLEAN.items()]
        return subprocess.run(
            ["nsenter", "-t", str(self._leader), "-a", "env", "-i", *clean, *words],
            input=feed,
            stdin=subprocess.DEVNULL if feed is None else None,
            capture_output=True,
            text=True,
            check=False,
        )

    def _find_leader(self) -> bool:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            message = "the box ended while booting"
            raise BoxError(message)
        try:
            children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        except OSError:
            return False
        self._leader = int(children[0]) if children else 0
        return self._leader != 0 and Path(f"/proc/{self._leader}/comm").read_text().strip() == "systemd"
