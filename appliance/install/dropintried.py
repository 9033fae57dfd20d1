"""A unit's drop-in, judged by systemd beside the unit's own file before it is put in place.

Entry point: ``python -I -m appliance.install.dropintried --units FOLDER UNIT NAME PATH``, which the playbook names
where it writes such a file (`validate:`). A drop-in alone is no unit, so the unit's file is laid beside it in a scratch
folder: the release's where FOLDER has it, else Debian's, else one that does nothing. It needs no right and no socket,
so it runs where the file is written (ADR 52).

Promises: this ends with 0 only where `systemd-analyze verify` says nothing of the unit with the drop-in that it does
not say of the unit without. Whether programs are there is not asked: the same install may bring them.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from appliance.errors import InstallError
from media.errors import SealiftError

DEBIAN: Final = Path("/usr/lib/systemd/system")
_UNITS: Final = "etc/systemd/system"
_UNIT: Final = re.compile(r"[a-z0-9-]+(@)?\.service")
_NAME: Final = re.compile(r"[a-z0-9-]+\.conf")
_NOTHING: Final = "[Service]\nExecStart=/bin/true\n"
_PROGRAM: Final = re.compile(r": Command .* is not executable: ")
_SECONDS: Final = 60
_MOST_SAID: Final = 300


def require(units: Path, unit: str, name: str, path: Path, *, debian: Path = DEBIAN) -> None:
    """Return where systemd finds nothing wrong with a unit that it would not find without the drop-in at `path`.

    Args:
        units: The folder with the release's units.
        unit: The unit's name, a template's without an instance.
        name: The name that the drop-in will have.
        path: Where its bytes lie.
        debian: Where units of packages lie.

    Raises:
        InstallError: It does, or it could not be asked.
    """
    if not (_UNIT.fullmatch(unit) and _NAME.fullmatch(name)):
        raise _failed(unit, name, "that is no name of a unit and a drop-in")
    try:
        with tempfile.TemporaryDirectory(prefix="sealift-drop-in-") as scratch:
            there = Path(scratch) / _UNITS
            added = there / f"{unit}.d"
            added.mkdir(parents=True)
            found = next((one / unit for one in (units, debian) if (one / unit).is_file()), None)
            if found is None:
                (there / unit).write_text(_NOTHING)
            else:
                shutil.copyfile(found, there / unit)
            before = _said(Path(scratch), unit)
            shutil.copyfile(path, added / name)
            more = [line for line in _said(Path(scratch), unit) if line not in before]
    except subprocess.TimeoutExpired as error:
        raise _failed(unit, name, "systemd-analyze did not end in time") from error
    except OSError as error:
        raise _failed(unit, name, f"systemd could not be asked: {error.strerror}") from error
    if more:
        raise _failed(unit, name, "; ".join(more)[:_MOST_SAID])


def _said(root: Path, unit: str) -> list[str]:
    """Return the lines that systemd says of the unit below `root`, paths as on a box.

    Raises:
        OSError: It came to no judgement.
    """
    options = [f"--root={root}", "--man=no", "--recursive-errors=no"]
    done = subprocess.run(
        ["systemd-analyze", "verify", *options, unit.replace("@", "@tried")],
        capture_output=True,
        check=False,
        timeout=_SECONDS,
    )
    if done.returncode not in {0, 1}:
        raise OSError(0, f"systemd-analyze ended with {done.returncode}")
    told = (done.stdout + done.stderr).decode(errors="replace").replace(str(root), "")
    return [line for line in told.splitlines() if line.strip() and not _PROGRAM.search(line)]


def _failed(unit: str, name: str, why: str) -> InstallError:
    return InstallError(
        what=f"the drop-in {name} of {unit} is not put in place",
        why=why,
        fix="look at what the site file says of it; what was there before is in force",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge one drop-in; returns the exit code, 0 where it may be put in place."""
    parser = argparse.ArgumentParser(prog="sealift-drop-in-tried")
    parser.add_argument("--units", type=Path, required=True)
    parser.add_argument("unit")
    parser.add_argument("name")
    parser.add_argument("path", type=Path)
    options = parser.parse_args(arguments)
    try:
        require(options.units, options.unit, options.name, options.path)
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
