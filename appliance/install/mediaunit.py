"""What `sealift-media@NAME` decides about a medium that arrived; mount(8) itself is a line of the unit.

Entry point: ``python -I -m appliance.install.mediaunit --config FILE check|mounted NAME``. `check` ends with 0
when the medium may be mounted. It ends with 1, by which systemd passes the unit over, when it may not, and people are
shown why. It opens no file of the medium: it asks blkid and the kernel. It runs as a user of its own, without a right.

Rules: only file systems of the site's list; one file system, not two in one place; nothing that the machine uses
already or that /etc/fstab names; at most `media.most` at a time.
"""

import argparse
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from appliance import config as configuration
from appliance.config import Config
from appliance.errors import UnitError
from appliance.install import arrivals
from appliance.install.arrivals import MOUNTED, REFUSED, Arrival
from appliance.mounttables import fstab_rows, plain
from media import durable
from media.clock import Clock, SystemClock, to_text
from media.errors import SealiftError

SKIPPED: Final = 1
ALWAYS: Final = "ro,nosuid,nodev,noexec"
OPTIONS: Final = {
    "vfat": "uid=0,gid=0,fmask=0133,dmask=0022,utf8",
    "exfat": "uid=0,gid=0,fmask=0133,dmask=0022",
    "iso9660": "nojoliet",
    "udf": "uid=0,gid=0,umask=0022",
    # A journal that a stranger wrote is not replayed.
    "ext4": "noload",
}
"""What mount(8) is told for a type besides; what is not here is never mounted."""

_BLKID_SECONDS: Final = 60
_BLKID_AMBIVALENT: Final = 8
_LABEL_CHARACTERS: Final = 64
_SECTOR: Final = 512
_ESCAPED: Final = re.compile(r"\\(.)")
# What udev writes as a number in the names of its links, where it stands in a label: a space is \x20.
_NUMBERED: Final = re.compile(r"[^0-9A-Za-z#+.:=@_\x80-\U0010ffff-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Where the kernel and the host say what they know; arguments, so that tests need no real device."""

    block: Path = Path("/") / arrivals.BLOCK
    devices: Path = Path("/dev")
    mounts: Path = Path("/proc/self/mountinfo")
    fstab: Path = Path("/etc/fstab")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What blkid says of a device, without reading a file of it."""

    filesystem: str
    label: str


class Refusal(Exception):  # noqa: N818 - a decision that is shown to people, not an error of a command
    """The medium is not mounted; `why` is for people."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one step; returns the exit code."""
    parser = argparse.ArgumentParser(prog="sealift-media")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    parser.add_argument("step", choices=("check", "mounted"))
    parser.add_argument("name")
    options = parser.parse_args(arguments)
    try:
        config = configuration.load(options.config)
        name = arrivals.require_name(options.name)
        if options.step == "check":
            return check(config, name, kernel=Kernel(), clock=SystemClock())
        mounted(config, name, kernel=Kernel())
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return error.exit_code
    return 0


def check(config: Config, name: str, *, kernel: Kernel, clock: Clock) -> int:
    """Decide about a medium and write it down; returns 0 when it may be mounted, else `SKIPPED`."""
    arrival = Arrival(
        name=name,
        id=secrets.token_hex(8),
        state=REFUSED,
        why="it was not mounted",
        filesystem="",
        label="",
        bytes=size_of(name, kernel),
        at=to_text(clock.now()),
    )
    try:
        probed = probe(kernel.devices / name)
        arrival = replace(arrival, filesystem=probed.filesystem, label=probed.label)
        require_free(config, name, kernel=kernel)
        require_type(config, probed.filesystem)
    except Refusal as refusal:
        arrivals.keep(config.at, replace(arrival, why=refusal.why))
        sys.stderr.write(f"the medium is refused: {refusal.why}\n")
        return SKIPPED
    # Refused until mount(8) has answered; the next step says that it is mounted.
    arrivals.keep(config.at, arrival)
    options = f"{ALWAYS},{OPTIONS[probed.filesystem]}"
    line = f"{kernel.devices / name} {config.at.media / name} {probed.filesystem} {options} 0 0\n"
    durable.replace(table(config, name), line.encode(), mode=0o644)
    return 0


def mounted(config: Config, name: str, *, kernel: Kernel) -> None:
    """Write down that a medium is in use, if it is: read-only, where it belongs.

    Raises:
        UnitError: It is not; then it stays refused.
    """
    arrival = arrivals.arrived(config.at, name)
    for words in _mounts(kernel):
        # The file system's own options: in a sandbox everything is mounted read-only once more.
        if plain(words[4]) == str(config.at.media / name) and "ro" in words[-1].split(","):
            arrivals.keep(config.at, replace(arrival, state=MOUNTED, why=""))
            return
    raise UnitError(
        what=f"medium {name} is not mounted",
        why="mount(8) did not do it",
        fix=f"read `journalctl -u sealift-media@{name}`",
    )


def table(config: Config, name: str) -> Path:
    """Return where mount(8) reads the type of a medium and its options: an fstab(5) of one line."""
    return config.at.arrived / f"{name}.fstab"


def probe(device: Path, *, blkid: str = "blkid") -> Probed:
    """Return what file system is on a device.

    Raises:
        Refusal: None, more than one, or it cannot be read.
    """
    command = [blkid, "--probe", "--output", "export", "--match-tag", "TYPE", "--match-tag", "LABEL", "--", str(device)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_BLKID_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refusal("it cannot be read") from error
    if done.returncode == _BLKID_AMBIVALENT:
        raise Refusal("it bears more than one file system in one place")
    pairs = (line.partition("=") for line in done.stdout.decode(errors="replace").splitlines())
    untrusted = {name: _ESCAPED.sub(r"\1", value) for name, _, value in pairs}
    filesystem = untrusted.get("TYPE", "")
    if done.returncode != 0 or not filesystem:
        raise Refusal("it bears no file system")
    return Probed(filesystem=_printable(filesystem), label=_printable(untrusted.get("LABEL", "")))


def require_type(config: Config, filesystem: str) -> None:
    """Pass only for a file system that this site takes.

    Raises:
        Refusal: It does not.
    """
    if filesystem not in config.media.filesystems:
        allowed = ", ".join(config.media.filesystems)
        raise Refusal(f"its file system is {filesystem}; this site takes {allowed}")


def require_free(config: Config, name: str, *, kernel: Kernel) -> None:
    """Pass only for a device that nothing on this machine uses, while there is room for one more medium.

    Raises:
        Refusal: It is mounted, held, named in /etc/fstab, or there are too many.
    """
    device = kernel.devices / name
    try:
        number = device.stat().st_rdev
    except OSError as error:
        raise Refusal("the device is gone") from error
    mounts = _mounts(kernel)
    if f"{os.major(number)}:{os.minor(number)}" in {words[2] for words in mounts} or number in _sources(mounts):
        raise Refusal("the machine uses it already")
    holders = kernel.block / name / "holders"
    if holders.is_dir() and any(holders.iterdir()):
        raise Refusal("it is part of another device")
    if number in _in_fstab(kernel):
        raise Refusal("/etc/fstab names it: it belongs to the machine")
    below = f"{config.at.media}/"
    if len([words for words in mounts if plain(words[4]).startswith(below)]) >= config.media.most:
        raise Refusal(f"{config.media.most} media are in use; take one out first")


def size_of(name: str, kernel: Kernel) -> int:
    """Return the bytes of a device; 0 where the kernel does not say."""
    try:
        return int((kernel.block / name / "size").read_text()) * _SECTOR
    except (OSError, ValueError):
        return 0


def _mounts(kernel: Kernel) -> list[list[str]]:
    return [line.split() for line in kernel.mounts.read_text(errors="replace").splitlines()]


def _sources(mounts: Sequence[Sequence[str]]) -> set[int]:
    """Return the numbers of the devices that mounts name; some file systems (btrfs) show another number themselves."""
    found: set[int] = set()
    for words in mounts:
        if "-" in words[:-2] and (source := words[words.index("-") + 2]).startswith("/dev/"):
            with suppress(OSError):
                found.add(Path(plain(source)).stat().st_rdev)
    return found - {0}


def _in_fstab(kernel: Kernel) -> set[int]:
    """Return the device numbers that /etc/fstab names, by path, label or UUID."""
    found: set[int] = set()
    try:
        text = kernel.fstab.read_text(errors="replace")
    except OSError:
        return found
    for source, *_ in fstab_rows(text):
        kind, equals, value = source.partition("=")
        place = Path(source)
        if equals:
            named = _NUMBERED.sub(lambda one: f"\\x{ord(one[0]):02x}", plain(value.strip('"')))
            place = kernel.devices / "disk" / f"by-{kind.lower()}" / named
        try:
            found.add(place.stat().st_rdev)
        except OSError:
            continue
    return found - {0}


def _printable(text: str) -> str:
    return "".join(one if one.isascii() and one.isprintable() else "?" for one in text)[:_LABEL_CHARACTERS]


if __name__ == "__main__":
    raise SystemExit(main())
