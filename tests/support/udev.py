"""Real udev on devices that do not exist: `udevadm test` in a mount namespace with a /sys made of files.

udevadm of systemd 252 takes a /sys that is none when it is told so (SYSTEMD_DEVICE_VERIFY_SYSFS), evaluates every rule,
and writes the attributes that rules assign. It runs no program of a rule.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

AVAILABLE = os.geteuid() == 0 and shutil.which("udevadm") is not None and shutil.which("unshare") is not None
_SCRIPT = """
set -e
mount --bind "$1/sys" /sys
mkdir -p /run/udev
mount -t tmpfs none /run/udev
mkdir /run/udev/data
cp "$1"/data/* /run/udev/data/ 2>/dev/null || true
mount -t tmpfs none /usr/lib/udev/rules.d
mkdir -p /etc/udev/rules.d
mount --bind "$1/rules" /etc/udev/rules.d
udevadm test --action="$2" "$3"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What came of one event: the device's properties, and what udev complained of."""

    properties: Mapping[str, str]
    complaints: tuple[str, ...]


@dataclass(slots=True)
class FakeMachine:
    """Devices as files, and rules.

    Args:
        root: An empty folder.
    """

    root: Path
    _paths: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("sys/class", "sys/bus/usb/devices", "sys/block", "rules", "data"):
            (self.root / name).mkdir(parents=True)
        (self.root / "sys/bus/usb/drivers_probe").write_text("")

    def rules(self, name: str, text: str) -> None:
        """Put a file of rules in force."""
        (self.root / "rules" / name).write_text(text)

    def add(self, path: str, *, subsystem: str, uevent: Mapping[str, str], attributes: Mapping[str, str]) -> Path:
        """Make a device below /sys/devices and return its folder."""
        folder = self.root / "sys/devices" / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "uevent").write_text("".join(f"{key}={value}\n" for key, value in uevent.items()))
        for key, value in attributes.items():
            (folder / key).write_text(f"{value}\n")
        home = self.root / ("sys/bus/usb" if subsystem == "usb" else f"sys/class/{subsystem}")
        home.mkdir(exist_ok=True)
        (folder / "subsystem").symlink_to(home)
        return folder

    def remember(self, identity: str, properties: Mapping[str, str]) -> None:
        """Write what udev knows of a device from before, under the name of its database's file."""
        (self.root / "data" / identity).write_text("".join(f"E:{key}={value}\n" for key, value in properties.items()))

    def event(self, path: str, action: str = "add") -> Event:
        """Let udev handle an event of a device."""
        done = subprocess.run(
            ["unshare", "--mount", "bash", "-c", _SCRIPT, "bash", str(self.root), action, f"/sys/devices/{path}"],
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": os.environ["PATH"], "SYSTEMD_DEVICE_VERIFY_SYSFS": "0"},
        )
        pairs = (line.partition("=") for line in done.stdout.splitlines() if "=" in line)
        return Event(
            properties={key: value for key, _, value in pairs},
            complaints=tuple(
                line
                for line in done.stderr.splitlines()
                if ".rules:" in line and (line.startswith("/etc/udev/") or "Failed" in line)
            ),
        )
