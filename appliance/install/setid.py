"""Packages that bring programs with the set-user-ID or set-group-ID bit: no unit of the box may make such a file.

The units that install run with `RestrictSUIDSGID=` (systemd.exec(5)): whoever took one over could leave nothing behind
that gives its caller root's rights. What needs such a file is put in by root at the box's console. That is found out
here from the packages' bytes, before anything is changed; else dpkg would stop in the middle.
"""

import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from appliance.errors import InstallError, PreflightError
from appliance.install.maintainer import Package, carried_files
from appliance.store.content import StoredRelease

_DEBS: Final = PurePosixPath("data/debs")
_SECONDS: Final = 120
_BITS: Final = 0o6000
# A maintainer script that gives a file such a mode, in numbers or letters; a comment does nothing.
_SCRIPT: Final = re.compile(
    r"^[^#\n]*\b(?:chmod|mkdir|install|dpkg-statoverride)\b[^#\n]*(?:\s|,|-m|--mode=)[\"']?(?:0*[2-7][0-7]{3}|[ugoa]*[+=][rwxXt]*s[rwxXts]*)\b",
    re.MULTILINE,
)


def is_forbidden() -> bool:
    """Return whether this process may make no file with such a bit: found out by trying."""
    with tempfile.NamedTemporaryFile(prefix="sealift-") as probe:
        try:
            os.fchmod(probe.fileno(), 0o4700)
        except PermissionError:
            return True
    return False


def require_possible(packages: Sequence[Package], stored: StoredRelease) -> None:
    """Return when this process may put in every one of the packages.

    Raises:
        PreflightError: Some bring such a file, and this process may make none; they are named.
        InstallError: A package cannot be read.
        StoreDamagedError: A file in the store is not what was signed.
    """
    if not packages or not is_forbidden():
        return
    files = carried_files(stored)
    found = [one.name for one in packages if _brings(one, stored, files.get((one.name, one.after), ""))]
    if found:
        raise PreflightError(
            what=f"release {stored.serial} brings programs with the set-user-ID bit, in {', '.join(found)}",
            why="the unit that installs may make no such file, and nothing was changed",
            fix=f"as root at the box's console: `sealift install {stored.serial} --here`, by the same approvals",
        )


def _brings(package: Package, stored: StoredRelease, file: str) -> bool:
    if any(sets_such_a_mode(text) for _, text in package.scripts):
        return True
    return has_such_files(stored.verify(str(_DEBS / file)))


def sets_such_a_mode(script: str) -> bool:
    """Return whether a maintainer script seems to give a file such a bit; a wrong yes costs a walk to the console."""
    return _SCRIPT.search(script) is not None


def has_such_files(deb: Path) -> bool:
    """Return whether a package file brings a file, or a folder that is not there yet, with such a bit.

    Raises:
        InstallError: It cannot be read.
    """
    found = False
    try:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as told:
            with tarfile.open(fileobj=told.stdout, mode="r|") as archive:
                for member in archive:
                    found = found or (bool(member.mode & _BITS) and not _is_there(member))
            code = told.wait(_SECONDS)
    except (OSError, subprocess.SubprocessError, tarfile.TarError) as error:
        raise _unreadable(deb, type(error).__name__) from error
    if code != 0:
        raise _unreadable(deb, f"dpkg-deb ended with {code}")
    return found


def _is_there(member: tarfile.TarInfo) -> bool:
    # dpkg leaves a folder that is there as it is.
    return member.isdir() and Path("/", member.name).is_dir()


def _unreadable(deb: Path, why: str) -> InstallError:
    return InstallError(
        what=f"the package {deb.name[:12]} cannot be read", why=why, fix="receive the release again from its medium"
    )
