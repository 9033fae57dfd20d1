"""A whole computer, emulated: Debian's own kernel with its drivers, udev and systemd, USB ports, a disc drive, a clock.

A box in a container shares this machine's kernel and has no udev, so what only a kernel does is seen here: media that
are plugged in and pulled out, file systems' own drivers, devices that a site does not let in. The processor is
emulated, not lent (KVM), so that it is the same wherever tests run; its programs take some twenty times as long.
Commands go through QEMU's guest agent, devices come and go through its monitor.
"""

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tests.box.debian import debian

QEMU: Final = "qemu-system-x86_64"
USB: Final = "SEALIFT_USB=:storage:smartcard:\n"
"""What its file for udev lets in."""
_INCLUDE: Final = (
    "systemd,systemd-sysv,dbus,python3,iproute2,udev,kmod,gpg,gpgv,gpg-agent,"
    "linux-image-amd64,initramfs-tools,zstd,qemu-guest-agent"
)
_DISK_BYTES: Final = 4 * 2**30
_BOOT_SECONDS: Final = 240
_ANSWER_SECONDS: Final = 120
_NOT_COPIED: Final = ("var/cache/apt/archives", "var/lib/apt/lists")


class ComputerError(Exception):
    """The computer did not boot, or a device could not be plugged in."""


def base_system() -> Path:
    """Return the folder of a Debian 12 with a kernel, made now if there is none."""
    return debian("computer", _INCLUDE, without=_NOT_COPIED)


class _Talk:
    """One connection on which JSON is asked and answered, as QEMU's monitor and its guest agent do."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_ANSWER_SECONDS)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._lines = self._socket.makefile("rb")
        self.events: list[dict[str, Any]] = []

    def ask(self, execute: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Return what a command answers; events that come before are kept."""
        said = {"execute": execute, "arguments": arguments or {}}
        self._socket.sendall(json.dumps(said).encode() + b"\n")
        while True:
            answer = self.next()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                message = f"{execute}: {answer['error']['desc']}"
                raise ComputerError(message)

    def next(self) -> dict[str, Any]:
        """Return the next message of any kind."""
        line = self._lines.readline()
        if not line:
            message = "the computer is off"
            raise ComputerError(message)
        found: dict[str, Any] = json.loads(line)
        if "event" in found:
            self.events.append(found)
        return found

    def close(self) -> None:
        """End it."""
        self._lines.close()
        self._socket.close()


@dataclass(slots=True, kw_only=True)
class Computer:
    """One computer; `create` its disk, `boot`, and in the end `stop`.

    Args:
        folder: Its own, with a short name, for its sockets are in it.
        shares: Folders of this machine that it reads, by mount point.
        devices: What is plugged in when it is switched on: further arguments of QEMU.
    """

    folder: Path
    shares: Mapping[str, Path]
    devices: Sequence[str] = ()
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    _agent: _Talk | None = field(default=None, repr=False)
    _monitor: _Talk | None = field(default=None, repr=False)

    @contextmanager
    def running(self, base: Path, lay: Callable[[Path], None]) -> Iterator[Self]:
        """Create its disk and boot it; cut its power when the block ends."""
        self.create(base, lay)
        try:
            self.boot(base)
            yield self
        finally:
            self.stop()

    def create(self, base: Path, lay: Callable[[Path], None]) -> None:
        """Make its disk from a base and from what `lay` adds below the root."""
        root = self.folder / "root"
        subprocess.run(["cp", "-a", "--reflink=auto", base, root], check=True)
        lay(root)
        mounts = []
        for number, point in enumerate(self.shares):
            (root / point.lstrip("/")).mkdir(parents=True, exist_ok=True)
            mounts.append(f"share{number} {point} 9p trans=virtio,ro,cache=loose 0 0\n")
        (root / "etc/fstab").write_text("".join(mounts))
        (root / "etc/machine-id").write_text("")
        with self._disk.open("wb") as disk:
            disk.truncate(_DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-d", root, self._disk], check=True)
        shutil.rmtree(root)

    def boot(self, base: Path) -> None:
        """Switch it on and wait until systemd says that it runs.

        Raises:
            ComputerError: It does not.
        """
        (kernel,), (initrd,) = base.glob("boot/vmlinuz-*"), base.glob("boot/initrd.img-*")
        command = [
            QEMU,
            *("-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"),
            *("-nic", "none", "-display", "none", "-no-reboot", "-serial", f"file:{self.folder / 'console'}"),
            *("-kernel", str(kernel), "-initrd", str(initrd), "-append", "root=/dev/vda rw console=ttyS0 quiet"),
            *("-drive", f"file={self._disk},if=virtio,format=raw,cache=unsafe"),
            *("-device", "qemu-xhci,id=usb,p2=8,p3=8", "-device", "ide-cd,bus=ide.0,id=drive"),
            *("-device", "virtio-serial", "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
            *("-chardev", f"socket,path={self.folder / 'agent'},server=on,wait=off,id=agent"),
            *("-qmp", f"unix:{self.folder / 'monitor'},server=on,wait=off"),
        ]
        for number, folder in enumerate(self.shares.values()):
            command += ["-virtfs", f"local,path={folder},mount_tag=share{number},security_model=none,readonly=on"]
        self._process = subprocess.Popen([*command, *self.devices], stdin=subprocess.DEVNULL, start_new_session=True)
        until = time.monotonic() + _BOOT_SECONDS
        self._monitor = self._connect("monitor", until)
        self._monitor.next()  # its greeting
        self._monitor.ask("qmp_capabilities")
        self._agent = self._connect("agent", until)
        self._agent.ask("guest-ping")
        while time.monotonic() < until:
            if self.shell("systemctl is-system-running").stdout.strip() in {"running", "degraded"}:
                return
            time.sleep(0.5)
        message = "the computer did not boot"
        raise ComputerError(message)

    def shell(self, script: str) -> "subprocess.CompletedProcess[str]":
        """Run a script as root, as a person at its console would; stderr goes along with stdout."""
        assert self._agent is not None
        words = ["-c", f"exec 2>&1\n{script}"]
        asked = {"path": "/bin/bash", "arg": words, "capture-output": True}
        process = self._agent.ask("guest-exec", asked)["pid"]
        while not (state := self._agent.ask("guest-exec-status", {"pid": process}))["exited"]:
            time.sleep(0.1)
        said = base64.b64decode(state.get("out-data", "")).decode(errors="replace")
        return subprocess.CompletedProcess(words, state.get("exitcode", -1), said, "")

    def until(self, script: str, *, seconds: float = 90) -> str:
        """Wait until a script ends with 0 and return what it said.

        Raises:
            ComputerError: It did not within these seconds.
        """
        end = time.monotonic() + seconds
        while (done := self.shell(script)).returncode != 0:
            if time.monotonic() > end:
                message = f"not within {seconds:.0f} s: {script}\n{done.stdout}"
                raise ComputerError(message)
            time.sleep(0.5)
        return done.stdout

    def ask(self, execute: str, **arguments: Any) -> Any:
        """Ask QEMU's monitor; a `_` in an argument's name stands for a `-`."""
        assert self._monitor is not None
        return self._monitor.ask(execute, {name.replace("_", "-"): value for name, value in arguments.items()})

    def plug(self, driver: str, name: str, **more: Any) -> None:
        """Plug a USB device in."""
        self.ask("device_add", driver=driver, id=name, bus="usb.0", **more)

    def plug_stick(self, name: str, image: Path) -> None:
        """Plug in a USB stick whose cells are a file of this machine."""
        self.ask("object-add", qom_type="throttle-group", id=f"speed-{name}")
        cells = {"driver": "raw", "file": {"driver": "file", "filename": str(image)}}
        self.ask("blockdev-add", node_name=name, driver="throttle", throttle_group=f"speed-{name}", file=cells)
        self.plug("usb-storage", name, drive=name, removable=True, serial=name)

    def slow(self, name: str, bytes_per_second: int) -> None:
        """Let a stick be this slow from here on, and forget what was read of it."""
        limits = {"bps-total": bytes_per_second}
        self.ask("qom-set", path=f"/objects/speed-{name}", property="limits", value=limits)
        self.shell("echo 3 > /proc/sys/vm/drop_caches")

    def pull(self, name: str) -> None:
        """Pull a USB device out, whatever it does."""
        assert self._monitor is not None
        self.ask("device_del", id=name)
        while not any(
            event["event"] == "DEVICE_DELETED" and event["data"].get("device") == name for event in self._monitor.events
        ):
            self._monitor.next()
        self._monitor.events.clear()
        with suppress(ComputerError):  # it had no cells
            self.ask("blockdev-del", node_name=name)
            self.ask("object-del", id=f"speed-{name}")

    def stop(self) -> None:
        """Cut its power."""
        for talk in (self._agent, self._monitor):
            if talk is not None:
                talk.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def _disk(self) -> Path:
        return self.folder / "disk"

    def _connect(self, name: str, until: float) -> _Talk:
        assert self._process is not None
        while time.monotonic() < until and self._process.poll() is None:
            with suppress(OSError):
                return _Talk(self.folder / name)
            time.sleep(0.1)
        message = "the computer did not start"
        raise ComputerError(message)
