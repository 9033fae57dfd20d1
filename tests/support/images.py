"""Sealed releases for tests of images: the files of a volume, laid out or to be written by the commands."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundler.images.facts import ImageFacts
from bundler.images.kinds import KINDS
from bundler.images.make import make_image
from bundler.images.programs import program
from bundler.images.stage import Tree, lay_out, tree_of
from bundler.measure import no_progress
from bundler.volumefiles import planned_files, volume_index
from media.errors import UsageError
from tests.support.medium import SimulatedMedium

PARTITION = 2**20
NEEDED = {
    "exfat": ("mkfs.exfat", "mount.exfat-fuse", "losetup"),
    "vfat": ("mkfs.vfat", "mmd", "mcopy", "mdir"),
    "ext4": ("mkfs.ext4", "debugfs"),
    "iso9660": ("xorriso",),
    "udf": ("genisoimage",),
}


def missing_for(kind: str) -> str:
    """Return why an image of this kind cannot be made here; empty when it can."""
    for name in NEEDED[kind]:
        try:
            program(name)
        except UsageError as error:
            return error.what
    return "it needs root" if kind == "exfat" and os.geteuid() != 0 else ""


def laid_out(medium: SimulatedMedium, folder: Path, *, number: int = 1) -> Tree:
    """Lay a volume out with its first hand-over, and return what it holds."""
    files = planned_files(medium.work, volume_index(medium.work).volumes[number - 1])
    lay_out(files, folder, label="laying out", progress=no_progress)
    shutil.copytree(medium.volumes[number - 1] / "custody", folder / "custody")
    return tree_of(files, folder)


def image_of(medium: SimulatedMedium, kind: str, folder: Path) -> Path:
    """Return the image of a medium's first volume, made by our own program."""
    volume = volume_index(medium.work).volumes[0]
    facts = ImageFacts(serial=medium.serial, number=1, volume_id=volume.id, at=1_790_000_000)
    image = folder / f"volume.{kind}"
    make_image(laid_out(medium, folder / "tree"), image, kind=KINDS[kind], facts=facts, progress=no_progress)
    return image


@contextmanager
def loop_device(folder: Path, size: int, *, name: str = "stick") -> Iterator[Path]:
    """Lend a block device of blank bytes, read and written past the page cache; needs root."""
    backing = folder / name
    with backing.open("xb") as target:
        target.truncate(size)
    arguments = [program("losetup"), "-f", "--show", "--direct-io=on", str(backing)]
    device = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip()
    try:
        yield Path(device)
    finally:
        subprocess.run([program("losetup"), "-d", device], check=True)
