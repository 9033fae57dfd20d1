"""Says whether an environment is exactly what its requirements file lists, byte for byte.

Each installed distribution's RECORD names its files and their SHA-256; pip rewrites it while installing. Files that
Python makes itself (``.pyc``) are not in question, because the interpreter checks them against their sources.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final

from appliance.errors import InstallError
from media.wheelnames import canonical

_PIN: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")
_LEFT_OUT: Final = re.compile(r"# left out: ([A-Za-z0-9][A-Za-z0-9._-]*): ")
_MISSING: Final = re.compile(r" requires ([A-Za-z0-9][A-Za-z0-9._-]*), which is not installed\.")
_WHOLE: Final = "No broken requirements found."


def pins(requirements: bytes) -> dict[str, str]:
    """Return name and version of every line of a requirements file as our releases write it.

    Raises:
        InstallError: A line is not ``NAME==VERSION --hash=sha256:HEX``.
    """
    found: dict[str, str] = {}
    for line in requirements.decode(errors="replace").replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pin = _PIN.match(line)
        if pin is None or "--hash=sha256:" not in line:
            raise InstallError(
                what="a requirements file of the release is wrong",
                why="expected NAME==VERSION --hash=sha256:HEX on every line",
                fix="ask the sender for a corrected release",
            )
        found[canonical(pin[1])] = pin[2]
    return found


def left_out(requirements: bytes) -> frozenset[str]:
    """Return the names of dependencies that the sender left out, with a reason (``# left out: NAME: REASON``)."""
    lines = requirements.decode(errors="replace").splitlines()
    return frozenset(canonical(found[1]) for line in lines if (found := _LEFT_OUT.match(line)))


def require_whole(checked: str, without: frozenset[str], *, environment: str) -> None:
    """Return when `pip check` found nothing missing but what was left out.

    Args:
        checked: What it printed; one line for each thing that is wrong.
        without: Names of what may be missing.
        environment: Named in errors.

    Raises:
        InstallError: Something else is wrong.
    """
    lines = [line.strip() for line in checked.splitlines() if line.strip()]
    for line in lines or ["pip check said nothing"]:
        missing = _MISSING.search(line)
        if line != _WHOLE and (missing is None or canonical(missing[1]) not in without):
            raise _wrong(environment, line[:200])


def require_exact(site_packages: Path, expected: Mapping[str, str], *, environment: str) -> None:
    """Return when exactly the expected distributions are there and every file they record is unchanged.

    Raises:
        InstallError: One is absent, of another version or not asked for, or a file differs.
    """
    installed = list(distributions(path=[str(site_packages)]))
    found = {canonical(one.metadata["Name"]): one.version for one in installed}
    if found != dict(expected):
        odd = min(set(found.items()) ^ set(expected.items()))
        raise _wrong(environment, f"{odd[0]} {odd[1]} is there without being listed, or listed without being there")
    for one in installed:
        if (changed := _changed_file(one)) is not None:
            raise _wrong(environment, f"{changed} is not the file that was installed")


def _changed_file(one: Distribution) -> str | None:
    if not one.files:  # a list that is lost vouches for nothing
        return f"the list of files of {one.metadata['Name']}"
    for file in one.files:
        if file.hash is None or file.suffix == ".pyc":  # some wheels bring such files, and ours are made over them
            continue
        try:
            content = Path(str(file.locate())).read_bytes()
        except OSError:
            return str(file)
        digest = base64.urlsafe_b64encode(hashlib.new(file.hash.mode, content).digest()).rstrip(b"=").decode()
        if digest != file.hash.value:
            return str(file)
    return None


def _wrong(environment: str, why: str) -> InstallError:
    return InstallError(
        what=f"the environment {environment} is not what the release lists",
        why=why,
        fix="run `sealift install` again; it builds the environment anew",
    )
