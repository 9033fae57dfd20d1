"""The programs of other people that make and read images: which Debian package has each, and how they are run."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from media.errors import UnreadableError, UsageError

PACKAGES: Final[Mapping[str, str]] = {
    "blkid": "util-linux",
    "debugfs": "e2fsprogs",
    "genisoimage": "genisoimage",
    "losetup": "mount",
    "mcopy": "mtools",
    "mdir": "mtools",
    "mkfs.exfat": "exfatprogs",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mmd": "mtools",
    "mount": "mount",
    "mount.exfat-fuse": "exfat-fuse",
    "umount": "mount",
    "xorriso": "xorriso",
}
# Programs read no settings of the person who runs them, and answer in English.
_SETTINGS: Final = {"LC_ALL": "C.UTF-8", "MTOOLSRC": "/dev/null", "HOME": "/nonexistent", "TZ": "UTC"}


def program(name: str) -> str:
    """Return where a program is; Debian keeps some out of the PATH of people without root.

    Raises:
        UsageError: It is not installed; the error names its package.
    """
    if found := shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"):
        return found
    raise UsageError(
        what=f"{name} is not installed",
        why="this kind of image is made and read back with it",
        fix=f"apt install {PACKAGES[name]}",
    )


def run(
    name: str,
    arguments: Sequence[str | Path],
    *,
    what: str,
    at: int | None = None,
    given: str | None = None,
    folder: Path | None = None,
) -> str:
    """Run a program to its end and return its output.

    Args:
        name: One of PACKAGES.
        arguments: What it gets.
        what: What is being tried, for the error.
        at: The only time it shall know of, in seconds since 1970.
        given: What it reads from its standard input; nothing if left out.
        folder: Where it runs.

    Raises:
        UsageError: It is not installed.
        UnreadableError: It failed; `why` is the last it said.
    """
    try:
        done = subprocess.run(
            [program(name), *map(str, arguments)],
            input=(given or "").encode(),
            capture_output=True,
            check=True,
            cwd=folder,
            env=_environment(at),
        )
    except subprocess.CalledProcessError as error:
        raise UnreadableError(
            what=what, why=f"{name}: {_last(error.stderr)}", fix="free some space, or use another medium"
        ) from None
    return done.stdout.decode("utf-8", "replace")


@contextmanager
def output_of(name: str, arguments: Sequence[str | Path]) -> Iterator[IO[bytes]]:
    """Lend the output of a program as a stream. Whoever reads compares what came, so its exit code is not asked.

    Raises:
        UsageError: It is not installed.
    """
    with subprocess.Popen(
        [program(name), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(None),
    ) as process:
        if process.stdout is None:  # pragma: no cover - it was asked for
            raise UnreadableError(what=f"{name} gave no output")
        try:
            yield process.stdout
        finally:
            process.stdout.close()
            process.kill()


def _environment(at: int | None) -> dict[str, str]:
    dated = {} if at is None else {"SOURCE_DATE_EPOCH": str(at), "E2FSPROGS_FAKE_TIME": str(at)}
    return {**os.environ, **_SETTINGS, **dated}


def _last(said: bytes) -> str:
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:160] if lines else "no reason given"
