"""exFAT images: what common sticks have, for files of any length. Made and read back mounted, which needs root.

The kernel's own exFAT is used where there is one, else Debian's exfat-fuse. Its times are those of the moment, so the
files in equal images are equal and the images are not.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bundler.images import partition
from bundler.images.facts import ImageFacts
from bundler.images.programs import run
from bundler.images.stage import Tree
from media.digest import file_sha256
from media.errors import UnreadableError, UsageError

LABEL_CHARS: Final = 11
_SPARE: Final = 32 * 2**20
_MIB: Final = 2**20


def size(tree: Tree) -> int:
    """Return how large the image will be, with its table."""
    cluster = _cluster(tree.bytes)
    used = sum(-(-length // cluster) for length in tree.sizes.values())
    used += sum(-(-_folder_bytes(names) // cluster) for names in tree.folders.values())
    total = used * (cluster + 5) + _SPARE
    return partition.START + -(-total // _MIB) * _MIB


def make(tree: Tree, image: Path, *, facts: ImageFacts, size: int) -> None:
    """Fill a new image."""
    what = "the exFAT image could not be made"
    require_root()
    with image.open("xb") as target:
        target.truncate(size)
    partition.write_table(image, kind="exfat", size=size, disk_id=facts.number32)
    with _attached(image) as device:
        cluster = str(_cluster(tree.bytes))
        run("mkfs.exfat", ["-L", facts.label(LABEL_CHARS), "-c", cluster, device], what=what, at=facts.at)
        with _mounted(device, read_only=False) as folder:
            try:
                for name in tree.folders:
                    (folder / name).mkdir(exist_ok=True)
                for name in tree.sizes:
                    shutil.copyfile(tree.folder / name, folder / name)
            except OSError as error:
                raise UnreadableError(
                    what=what, why=error.strerror or "input/output error", fix="free some space"
                ) from error


def names(image: Path) -> set[str]:
    """Return every file in the image."""
    require_root()
    with _attached(image, read_only=True) as device, _mounted(device, read_only=True) as folder:
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def digests(image: Path, tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield the SHA-256 of each file as it comes out of the image."""
    require_root()
    with _attached(image, read_only=True) as device, _mounted(device, read_only=True) as folder:
        for name in tree.sizes:
            yield name, file_sha256(folder / name)


def require_root() -> None:
    """Pass only for root.

    Raises:
        UsageError: Who runs this may neither attach nor mount an image.
    """
    if os.geteuid() != 0:
        raise UsageError(
            what="an exFAT image is made by root only",
            why="no tool fills one without mounting it, and mounting needs root",
            fix="run as root, use --format vfat, or write to a mounted exFAT stick as a folder",
        )


@contextmanager
def _attached(image: Path, *, read_only: bool = False) -> Iterator[str]:
    limit = image.stat().st_size - partition.START
    arguments = ["-f", "--show", "-o", str(partition.START), "--sizelimit", str(limit)]
    arguments += ["-r"] if read_only else []
    device = run("losetup", [*arguments, image], what="the image could not be attached").strip()
    try:
        yield device
    finally:
        run("losetup", ["-d", device], what="the image could not be detached")


@contextmanager
def _mounted(device: str, *, read_only: bool) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sealift-exfat-") as place:
        options = f"{'ro' if read_only else 'rw'},nosuid,nodev,noexec"
        what = "the exFAT image could not be mounted"
        try:
            run("mount", ["-i", "-t", "exfat", "-o", options, device, place], what=what)
        except UnreadableError:  # this kernel has no exFAT
            run("mount.exfat-fuse", ["-o", options, device, place], what=what)
        try:
            yield Path(place)
        finally:
            run("umount", [place], what="the exFAT image could not be unmounted")


def _cluster(content: int) -> int:
    """Return a cluster as Windows takes it for such a size."""
    if content < 256 * _MIB:
        return 4096
    return 32 * 1024 if content < 32 * 2**30 else 128 * 1024


def _folder_bytes(names: tuple[str, ...]) -> int:
    return 32 * (64 + sum(3 + len(name.rpartition("/")[2]) // 15 for name in names))
