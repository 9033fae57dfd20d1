"""Disks of a machine that a test cannot have: programs of the system that say what a test wants, and what was asked."""

import json
from collections.abc import Sequence
from typing import Any

from appliance.errors import StoreWriteError

EMPTY = {"name": "sdb", "type": "disk", "tran": "usb", "size": 10**12, "model": "Portable", "serial": "X1"}
SYSTEM = {
    "name": "vda",
    "type": "disk",
    "tran": None,
    "size": 2 * 10**11,
    "model": "Inside",
    "serial": "S0",
    "children": [{"name": "vda1", "type": "part", "fstype": "ext4", "mountpoints": ["/"]}],
}


class Host:
    """Programs that know one disk (`device`), and in a look round the `others`; `mount` and `mkfs` do something.

    Attributes:
        device: What lsblk says of it.
        others: What it says of the rest, in a look round alone.
        asked: Every command.
        mounts: Whether mount(8) mounts.
        breaks: The program that fails.
    """

    def __init__(self, *others: dict[str, Any], **device: Any) -> None:
        self.device: dict[str, Any] = {**EMPTY, **device}
        self.others = list(others)
        self.asked: list[list[str]] = []
        self.mounts = True
        self.breaks = ""

    def __call__(self, command: Sequence[str]) -> str:
        """Run one."""
        self.asked.append(list(command))
        if command[0] == self.breaks:
            raise StoreWriteError(what="it broke", why="", fix="")
        if command[0] == "mkfs.ext4":
            kept = {key: self.device[key] for key in EMPTY}
            self.device = {
                **kept,
                "fstype": "ext4",
                "label": command[command.index("-L") + 1],
                "uuid": command[command.index("-U") + 1],
            }
        if command[0] == "mount" and self.mounts:
            self.device = {**self.device, "mountpoints": [command[1]]}
        if command[0] != "lsblk":
            return ""
        if "--list" in command:
            return "\n".join(str(one.get("uuid", "")) for one in (*self.others, self.device))
        there = [self.device] if "--" in command else [*self.others, *([self.device] if self.device else [])]
        return json.dumps({"blockdevices": there})

    def restarted(self) -> None:
        """Forget what is mounted, as a power cut does."""
        self.device.pop("mountpoints", None)

    @property
    def changed(self) -> list[str]:
        """Return the programs that change something, in their order."""
        return [command[0] for command in self.asked if command[0] != "lsblk"]
