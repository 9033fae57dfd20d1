"""RAUC as a peer: a signed bundle with the payload as one raw image, installed by its own service.

No block device, no boot loader and no system bus are needed: slots are files, the boot state is a script's, and the
service has a private bus.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from bench.measuring import run, timed

_CONFIG = """[system]
compatible=sealift-bench
bootloader=custom
bundle-formats=plain
mountprefix={folder}/mnt
data-directory={folder}/data

[handlers]
bootloader-custom-backend={folder}/backend.sh

[keyring]
path={folder}/cert.pem

[slot.rootfs.0]
device={folder}/slot-a
type=raw
bootname=A

[slot.rootfs.1]
device={folder}/slot-b
type=raw
bootname=B
"""
_MANIFEST = """[update]
compatible=sealift-bench
version=1

[bundle]
format=plain

[image.rootfs]
filename=payload.img
"""
_BACKEND = """#!/bin/sh
case "$1" in
  get-primary) echo A ;;
  get-current) echo A ;;
  get-state) echo good ;;
esac
"""
_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={folder}/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


def is_there() -> bool:
    """Tell whether RAUC, its service and what it needs are installed; it mounts its bundle, so it needs root."""
    return os.geteuid() == 0 and all(shutil.which(name) for name in ("rauc", "dbus-daemon", "mksquashfs", "openssl"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rauc:
    """A bundle, and a service that installs it."""

    folder: Path
    bundle: Path
    environment: dict[str, str]

    def install(self) -> float:
        """Install the bundle once; return the seconds it took."""
        slot = self.folder / "slot-b"
        slot.write_bytes(b"")
        os.truncate(slot, self.bundle.stat().st_size)
        return timed(lambda: run("rauc", "install", self.bundle, env=self.environment, stderr=subprocess.DEVNULL))


@contextmanager
def prepared(folder: Path, payload: Sequence[Path], *, bundle: Path) -> Iterator[Rauc]:
    """Make a bundle of these files and start the service.

    Args:
        folder: A folder of its own; its path must be short enough for a socket.
        payload: Joined into one image.
        bundle: Where the bundle is written: on the medium.
    """
    content = folder / "content"
    for each in (content, folder / "mnt", folder / "data"):
        each.mkdir(parents=True)
    with (content / "payload.img").open("wb") as image:
        for path in payload:
            with path.open("rb") as stream:
                shutil.copyfileobj(stream, image, 2**22)
        os.truncate(image.fileno(), -(-image.tell() // 4096) * 4096)
    (content / "manifest.raucm").write_text(_MANIFEST)
    (folder / "system.conf").write_text(_CONFIG.format(folder=folder))
    (folder / "bus.conf").write_text(_BUS.format(folder=folder))
    backend = folder / "backend.sh"
    backend.write_text(_BACKEND)
    backend.chmod(0o755)
    for slot in ("slot-a", "slot-b"):
        (folder / slot).write_bytes(b"")
    key: list[str | Path] = [
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        folder / "key.pem",
        "-out",
        folder / "cert.pem",
    ]
    run("openssl", "req", "-x509", *key, "-days", "30", "-subj", "/CN=bench", stderr=subprocess.DEVNULL)
    run(
        "rauc", "bundle", f"--cert={folder}/cert.pem", f"--key={folder}/key.pem",
        "--mksquashfs-args=-noD -noI -noF -noX", content, bundle, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    shutil.rmtree(content)
    environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={folder}/bus"}
    bus = subprocess.Popen(
        ["dbus-daemon", f"--config-file={folder}/bus.conf", "--nofork"], stderr=subprocess.DEVNULL, env=environment
    )
    try:
        _wait_for(folder / "bus")
        service = subprocess.Popen(
            ["rauc", f"--conf={folder}/system.conf", "--override-boot-slot=A", "service"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            sleep(1.0)  # the service claims its name
            yield Rauc(folder=folder, bundle=bundle, environment=environment)
        finally:
            service.terminate()
            service.wait()
            _let_go(folder / "mnt")
    finally:
        bus.terminate()
        bus.wait()


def _let_go(place: Path) -> None:
    """Unmount what an installation that was broken off left mounted: its bundle lies on the medium."""
    mounted = (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
    for each in sorted((path for path in mounted if path.startswith(f"{place}/")), reverse=True):
        run("umount", each)


def _wait_for(path: Path) -> None:
    until = monotonic() + 10
    while not path.exists():
        if monotonic() > until:
            raise SystemExit(f"{path.name} did not appear")
        sleep(0.05)
