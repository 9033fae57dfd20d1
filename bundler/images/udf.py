"""UDF images for large discs and sticks, by genisoimage, without root; an ISO 9660 tree lies beside the UDF one.

Debian has no program that reads UDF without mounting it, so ours does (`udfread`). genisoimage puts numbers of its own
into an image: the files in equal images are equal, the images are not.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bundler.images.facts import ImageFacts
from bundler.images.programs import run
from bundler.images.stage import Tree
from bundler.images.udfread import UdfImage

LABEL_CHARS: Final = 16
_SECTOR: Final = 2048


def size(tree: Tree) -> int:
    """Return how large the image will be at most."""
    content = sum(-(-length // _SECTOR) * _SECTOR for length in tree.sizes.values())
    return content + (2 * len(tree.sizes) + 8 * len(tree.folders)) * _SECTOR + 4 * 2**20


def make(tree: Tree, image: Path, *, facts: ImageFacts, size: int) -> None:
    """Make a new image."""
    del size  # it takes what it needs
    # With Joliet beside it, genisoimage cuts the names in the UDF tree at Joliet's 103 characters too.
    arguments = ["-quiet", "-udf", "-r", "-V", facts.label(LABEL_CHARS)]
    run(
        "genisoimage",
        [*arguments, "-o", str(image), str(tree.folder)],
        what="the UDF image could not be made",
        at=facts.at,
    )


def names(image: Path) -> set[str]:
    """Return every file in the image."""
    with UdfImage(image) as opened:
        return set(opened.files())


def digests(image: Path, tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield the SHA-256 of each file as it comes out of the image."""
    with UdfImage(image) as opened:
        files = opened.files()
        for name in tree.sizes:
            yield name, opened.digest(files[name]) if name in files else ""
