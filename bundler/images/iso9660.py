"""ISO 9660 images at level 3 with Rock Ridge for Linux and Joliet for Windows, by xorriso, without root.

No file reaches 4 GiB, because readers exist that cut longer ones off. Equal volumes give equal images.
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from bundler.images.facts import ImageFacts
from bundler.images.programs import output_of, run
from bundler.images.stage import Tree

LABEL_CHARS: Final = 16
NAME_CHARS: Final = 103
"""What Joliet holds of one name; a longer one would be another name on Windows."""
_SECTOR: Final = 2048
_CHUNK: Final = 2**20
_AT_ONCE: Final = 500


def size(tree: Tree) -> int:
    """Return how large the image will be at most."""
    content = sum(-(-length // _SECTOR) * _SECTOR for length in tree.sizes.values())
    return content + (len(tree.sizes) + 4 * len(tree.folders)) * 1024 + 4 * 2**20


def make(tree: Tree, image: Path, *, facts: ImageFacts, size: int) -> None:
    """Make a new image."""
    del size  # it takes what it needs
    stamp = datetime.fromtimestamp(facts.at, tz=UTC).strftime("%Y%m%d%H%M%S00")
    arguments = ["-as", "mkisofs", "-iso-level", "3", "-R", "-r", "-J", "-joliet-long"]
    arguments += ["--set_all_file_dates", stamp, "-V", facts.label(LABEL_CHARS), "-o", str(image), str(tree.folder)]
    run("xorriso", arguments, what="the ISO image could not be made", at=facts.at)


def names(image: Path) -> set[str]:
    """Return every file in the image."""
    arguments = ["-indev", f"stdio:{image}", "-find", "/", "-not", "-type", "d", "-exec", "echo", "--"]
    listed = run("xorriso", arguments, what="the image cannot be read")
    return {line.strip().strip("'").removeprefix("/") for line in listed.splitlines() if line.strip()}


def digests(image: Path, tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield the SHA-256 of each file as it comes out of the image; one program gives many files back."""
    wanted = list(tree.sizes.items())
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        paths = [f"/{name}" for name, _ in some]
        with output_of(
            "xorriso", ["-osirrox", "on", "-indev", f"stdio:{image}", "-concat", "append", "-", *paths, "--"]
        ) as stream:
            for name, length in some:
                yield name, _digest(stream, length)


def _digest(stream: IO[bytes], length: int) -> str:
    digest = hashlib.sha256()
    while length:
        chunk = stream.read(min(length, _CHUNK))
        if not chunk:
            break
        digest.update(chunk)
        length -= len(chunk)
    return digest.hexdigest()
