"""FAT32 images, by dosfstools and mtools, without root. Equal volumes give equal images.

A file may have 4 GiB - 1; parts of a volume have at most 3.75 GiB, so every volume fits.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bundler.images import partition
from bundler.images.facts import ImageFacts
from bundler.images.programs import output_of, run
from bundler.images.stage import Tree

LABEL_CHARS: Final = 11
_LEAST_CLUSTERS: Final = 66_000
"""With fewer than 65,525 a reader takes it for FAT16."""
_SPARE: Final = 16 * 2**20
"""For hand-overs, and for what systems leave on a stick."""
_MIB: Final = 2**20
_AT_ONCE: Final = 200


def size(tree: Tree) -> int:
    """Return how large the image will be, with its table."""
    for cluster in _clusters():
        used = sum(-(-length // cluster) for length in tree.sizes.values())
        used += sum(-(-_folder_bytes(names) // cluster) + 1 for names in tree.folders.values())
        clusters = max(used + _SPARE // cluster, _LEAST_CLUSTERS)
        total = clusters * cluster + 2 * 4 * (clusters + 2) + 64 * 1024
        if total <= _largest_with(cluster):
            break
    return partition.START + -(-total // _MIB) * _MIB


def make(tree: Tree, image: Path, *, facts: ImageFacts, size: int) -> None:
    """Fill a new image."""
    what = "the FAT32 image could not be made"
    with image.open("xb") as target:
        target.truncate(size)
    partition.write_table(image, kind="vfat", size=size, disk_id=facts.number32)
    cluster = next(each for each in _clusters() if size - partition.START <= _largest_with(each))
    hidden = partition.START // partition.SECTOR
    arguments = ["-F", "32", "-s", cluster // partition.SECTOR, "-h", hidden, "--offset", hidden, "--invariant"]
    arguments += ["-i", f"{facts.number32:08x}", "-n", facts.label(LABEL_CHARS), image]
    run("mkfs.vfat", [*map(str, arguments), str((size - partition.START) // 1024)], what=what, at=facts.at)
    place = ["-i", f"{image}@@{partition.START}"]
    for folder, names in tree.folders.items():
        if folder:
            run("mmd", [*place, f"::/{folder}"], what=what, at=facts.at)
        for start in range(0, len(names), _AT_ONCE):
            files = [tree.folder / name for name in names[start : start + _AT_ONCE]]
            run("mcopy", [*place, "-Q", *files, f"::/{folder}"], what=what, at=facts.at)


def names(image: Path) -> set[str]:
    """Return every file in the image."""
    listed = run("mdir", ["-i", f"{image}@@{partition.START}", "-b", "-a", "-/", "::"], what="the image cannot be read")
    return {line.removeprefix("::/") for line in listed.splitlines() if line and not line.endswith("/")}


def digests(image: Path, tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield the SHA-256 of each file as it comes out of the image."""
    for name in tree.sizes:
        with output_of("mcopy", ["-i", f"{image}@@{partition.START}", f"::/{name}", "-"]) as stream:
            yield name, hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def _clusters() -> tuple[int, ...]:
    return (512, 4096, 8192, 16384, 32768)


def _largest_with(cluster: int) -> int:
    """Return the largest file system with clusters of this size, as Microsoft's own formatter chooses them."""
    return {512: 260 * _MIB, 4096: 8 * 2**30, 8192: 16 * 2**30, 16384: 32 * 2**30}.get(cluster, 2**41)


def _folder_bytes(names: tuple[str, ...]) -> int:
    """Return what a folder's own entries take: 13 characters of a long name in each, and two for the folder itself."""
    return 32 * (2 + sum(2 + len(name.rpartition("/")[2]) // 13 for name in names)) + 32 * 64
