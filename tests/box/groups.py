"""A group of processes for each box: two booted systems in one group take one another's units for theirs.

systemd keeps its units as folders below the group it was started in; without groups of their own two boxes share
`system.slice`, and one cannot end what the other's unit of the same name runs.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

_MOUNTS: Final = Path("/proc/self/mounts")
# A script, because a process moves itself before it becomes nspawn; what it starts is in the groups from the start.
_ENTER: Final = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"'


def within(name: str, command: list[str]) -> list[str]:
    """Return the command as one that runs in groups of this name, which are made now."""
    folders = [folder / name for folder in _of_units()]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    return ["sh", "-c", _ENTER, "groups", *map(str, folders), "--", *command]


def remove(name: str) -> None:
    """Take the groups of this name away; one that still holds a process stays."""
    for folder in _of_units():
        found = [folder / name, *(folder / name).rglob("*")] if (folder / name).is_dir() else []
        for path in sorted((path for path in found if path.is_dir()), reverse=True):
            with suppress(OSError):
                path.rmdir()


def _of_units() -> list[Path]:
    """Return where systemd would keep its units: its own hierarchy, and the unified one."""
    mounts = [line.split() for line in _MOUNTS.read_text().splitlines()]
    return [
        Path(place)
        for _, place, kind, options, *_ in mounts
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(","))
    ]
