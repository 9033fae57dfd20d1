"""The static files of `systemd/` as data, and a scratch root in which systemd's own tools accept them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
INSTANCE = "a" * 12
HOST_UNITS = Path("/usr/lib/systemd/system")


def settings(path: Path) -> list[tuple[str, str, str]]:
    """Return (section, key, value) of every line, in order; keys may repeat."""
    found, section = [], ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.append((section, key, value))
    return found


def values(path: Path, key: str) -> list[str]:
    """Return every value that `key` is given in the file."""
    return [value for _, found, value in settings(path) if found == key]


def services() -> Iterator[Path]:
    """Yield every service file, sorted."""
    yield from sorted(SYSTEMD.glob("*.service"))


def scratch_root(folder: Path) -> Path:
    """Copy the units below `folder` with stand-ins for what ExecStart names, for `systemd-analyze verify --root`."""
    units = folder / "etc/systemd/system"
    units.mkdir(parents=True)
    for path in SYSTEMD.iterdir():
        if path.is_file():
            shutil.copy(path, units)
            for line in (
                values(path, "ExecStart")
                + values(path, "ExecStartPre")
                + values(path, "ExecReload")
                + values(path, "ExecStopPost")
                + values(path, "ExecStop")
                + values(path, "ExecStartPost")
            ):
                program = folder / line.split()[0].lstrip("+-/").replace("%i", INSTANCE)
                program.parent.mkdir(parents=True, exist_ok=True)
                program.write_text("#!/bin/sh\n")
                program.chmod(0o755)
    shutil.copytree(HOST_UNITS, folder / HOST_UNITS.relative_to("/"), symlinks=True)
    return folder
