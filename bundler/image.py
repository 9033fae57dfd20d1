"""A written volume as one ext4 file-system image, made and read back without root.

`mkfs.ext4 -d` fills the image from the folder that was written; `debugfs` reads every file back out of it. The image is
put on a stick with any tool that copies bytes, and is mounted read-only with noload where policy allows ext4.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bundler.errors import NotEmptyError, ReadBackError, SigningError
from bundler.measure import Progress, no_progress
from media import layout
from media.errors import UnreadableError

_BLOCK = 4096
_SPARE = 16 * 2**20
"""Room for the journal-less file system's own tables, over what the files take."""


def write_image(
    volume: Path, image: Path, *, number: int, expected: Mapping[str, str], progress: Progress = no_progress
) -> int:
    """Make an image of a written volume and compare every byte that comes back out of it; return its size.

    Args:
        volume: The folder that holds release/ and perhaps custody/.
        image: A file that does not exist yet.
        number: The volume's number, for the label.
        expected: SHA-256 by name below release/.
        progress: Called with files done, files in all, and the file's name.

    Raises:
        NotEmptyError: The image file exists.
        SigningError: The tools of e2fsprogs are not there.
        UnreadableError: The image could not be made.
        ReadBackError: What came back differs.
    """
    if image.exists():
        raise NotEmptyError(
            what=f"{image.name} exists", why="an image is written once", fix="remove it or choose another"
        )
    files = [path for path in volume.rglob("*") if path.is_file()]
    content = sum(-(-path.stat().st_size // _BLOCK) * _BLOCK for path in files)
    inodes = len(files) + sum(1 for path in volume.rglob("*") if path.is_dir()) + 64
    size = content + content // 64 + inodes * 512 + _SPARE
    command = [_tool("mkfs.ext4"), "-q", "-F", "-m", "0", "-b", str(_BLOCK), "-N", str(inodes), "-O", "^has_journal"]
    command += ["-E", "root_owner=0:0", "-L", f"SEALIFT-{number}", "-d", str(volume), str(image), f"{size // 1024}k"]
    _run(command, what="the image could not be made")
    descriptor = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    for done, (name, sha256) in enumerate(sorted(expected.items()), start=1):
        if _digest_in(image, f"{layout.RELEASE}/{name}") != sha256:
            raise ReadBackError(
                what=f"{name} came back different from the image", why="the image is not usable", fix="make it again"
            )
        progress(done, len(expected), f"volume {number}: reading the image back")
    return image.stat().st_size


def _digest_in(image: Path, name: str) -> str:
    process = subprocess.Popen(
        [_tool("debugfs"), "-R", f"cat /{name}", str(image)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        if process.stdout is None:
            return ""
        return hashlib.file_digest(process.stdout, "sha256").hexdigest()  # type: ignore[arg-type]


def _tool(name: str) -> str:
    """Return where a tool of e2fsprogs is; Debian keeps them out of the PATH of people without root."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") or name


def _run(command: list[str], *, what: str) -> None:
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    except FileNotFoundError:
        raise SigningError(
            what=what, why=f"{Path(command[0]).name} is not installed", fix="apt install e2fsprogs"
        ) from None
    except subprocess.CalledProcessError as error:
        why = error.stderr.decode("utf-8", "replace").strip().splitlines()
        raise UnreadableError(
            what=what, why=why[-1][:120] if why else "no reason given", fix="free some space"
        ) from None
