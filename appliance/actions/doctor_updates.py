"""What doctor looks at after an update: who runs with files that a package replaced, and whether a boot is due."""

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from appliance.actions.findings import Finding
from appliance.config import Config

PROCESSES: Final = Path("/proc")
KERNELS: Final = Path("/boot")
ASKED: Final = Path("/run/reboot-required")
PACKAGES: Final = Path("/var/lib/dpkg/status")
_RELEASE: Final = Path("sys/kernel/osrelease")
# Where Debian's packages put programs and libraries; what else was deleted and is mapped is a process's own affair.
_REPLACED: Final = re.compile(r" (?:/usr)?/(?:s?bin|lib[^/]*)/(?:[^\n]*/)?([^\n/]+) \(deleted\)$", re.MULTILINE)
# In people's sessions are units, too, and their names hold numbers of people.
_UNIT: Final = re.compile(r"^0::/(?!user\.slice/)(?:[^\n]*?/)?([^\n/]+\.service|init\.scope)(?:/|$)", re.MULTILINE)
_KERNEL: Final = re.compile(r"[0-9]+(?:[.-][0-9]+)*")
# As Debian's kernels say of what package they are; its compiler's is in brackets.
_BUILT: Final = re.compile(r"#[0-9]+ [^\n]* Debian ([0-9]\S*) \(")
_SHOWN: Final = 3
# What may be started anew at any hour: Sealift's own, the web server and what watches. Not what holds people's sessions
# or other services, as dbus and systemd-logind.
_RESTARTED: Final = re.compile(r"(sealift.*|nginx|prometheus(-.*)?)\.service")


def services(config: Config, processes: Path = PROCESSES) -> Iterator[Finding]:
    """Whose processes run with programs or libraries of before an update: names of units and of files, no folders.

    Only root sees every process; nothing is said where nobody was found, and not all could be looked at.
    """
    if config.places.root != "/":
        return
    found, is_whole = _old_files(processes)
    if not found and not is_whole:
        return
    yield Finding(
        name="replaced files",
        is_good=None if found else True,
        text="; ".join(f"{unit} runs with {_listed(names)} of before" for unit, names in sorted(found.items()))
        or "no service runs with a library of before an update",
        why="an update is on the disk, and for these not in force: what it closes stays open until they start anew",
        fix=_renewed(sorted(found)),
    )


def boot(
    config: Config,
    *,
    processes: Path = PROCESSES,
    kernels: Path = KERNELS,
    asked: Path = ASKED,
    packages: Path = PACKAGES,
) -> Iterator[Finding]:
    """Whether a boot is due: another kernel is installed than the one that runs, or a package asked for one.

    Debian replaces a kernel by one of the same name where its modules still fit: then its package's version tells.

    Nothing is said where none is known to be due, as in a container, which has no kernel of its own.
    """
    if config.places.root != "/":
        return
    running = _text(processes / _RELEASE).strip()
    installed = [path.name.removeprefix("vmlinuz-") for path in kernels.glob("vmlinuz-*")]
    newest = max(installed, key=_numbers, default="")
    reasons = []
    if _numbers(running) and _numbers(newest) > _numbers(running):
        reasons.append(f"Linux {running} runs, {newest} is installed")
    elif built := _BUILT.search(_text(processes / "version")):
        placed = _placed(_text(packages), running)
        if placed and placed != built[1]:
            reasons.append(f"Linux {running} of Debian {built[1]} runs, {placed} is installed")
    if asked.exists():
        reasons.append("a package asked for it")
    if reasons:
        yield Finding(
            name="boot due",
            is_good=None,
            text="; ".join(reasons),
            why="a kernel is in force from the boot on: what the new one closes is open in the one that runs",
            fix="boot in a maintenance window: `sealift window --help`",
        )


def _old_files(processes: Path) -> tuple[dict[str, set[str]], bool]:
    """Return the replaced files that each unit maps, by their last names, and whether every process could be seen."""
    found: dict[str, set[str]] = {}
    is_whole = True
    for folder in processes.glob("[0-9]*"):
        try:
            names = set(_REPLACED.findall((folder / "maps").read_text("utf-8", "replace")))
            unit = _UNIT.search((folder / "cgroup").read_text("utf-8", "replace")) if names else None
        except PermissionError:
            is_whole = False
        except OSError:  # it ended meanwhile
            continue
        else:
            if unit:
                found.setdefault(unit[1], set()).update(names)
    return found, is_whole


def _renewed(units: Iterable[str]) -> str:
    """Return how units get the files of now."""
    own = [unit for unit in units if _RESTARTED.fullmatch(unit)]
    others = [unit for unit in units if unit not in own]
    ways = [f"`systemctl restart {shlex.join(own)}`"] if own else []
    ways += [f"a boot in a maintenance window renews {', '.join(others)}"] if others else []
    return "; ".join(ways)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _placed(packages: str, running: str) -> str:
    """Return the version of the package that brings the kernel of this name; empty where none does."""
    wanted = rf"^Package: linux-image-{re.escape(running)}\n((?:.+\n)*)"
    told = re.search(wanted, packages, re.MULTILINE)
    if not told or not re.search(r"^Status: \S+ \S+ installed$", told[1], re.MULTILINE):
        return ""
    version = re.search(r"^Version: (\S+)$", told[1], re.MULTILINE)
    return version[1] if version else ""


def _listed(names: set[str]) -> str:
    shown = sorted(names)
    rest = len(shown) - _SHOWN
    return ", ".join(shown[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _numbers(release: str) -> tuple[int, ...]:
    """Return what orders releases of a kernel: `6.1.0-28-amd64` is 6, 1, 0, 28."""
    found = _KERNEL.match(release)
    return tuple(map(int, re.split("[.-]", found[0]))) if found else ()
