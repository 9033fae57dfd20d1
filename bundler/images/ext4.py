"""ext4 images, by e2fsprogs, without root and without a journal. Equal volumes give equal images.

Mounted read-only with noload, and only where a site's policy allows ext4.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bundler.images import partition
from bundler.images.facts import ImageFacts
from bundler.images.programs import output_of, run
from bundler.images.stage import Tree
from media.errors import UnreadableError

LABEL_CHARS: Final = 16
_BLOCK: Final = 4096
_SPARE: Final = 16 * 2**20
_MIB: Final = 2**20
_LITTER: Final = "lost+found"


def size(tree: Tree) -> int:
    """Return how large the image will be, with its table."""
    content = sum(-(-length // _BLOCK) * _BLOCK for length in tree.sizes.values())
    total = content + content // 64 + _inodes(tree) * 512 + len(tree.folders) * _BLOCK + _SPARE
    return partition.START + -(-total // _MIB) * _MIB


def make(tree: Tree, image: Path, *, facts: ImageFacts, size: int) -> None:
    """Fill a new image; every file is readable by all and belongs to root."""
    what = "the ext4 image could not be made"
    with image.open("xb") as target:
        target.truncate(size)
    partition.write_table(image, kind="ext4", size=size, disk_id=facts.number32)
    extra = f"root_owner=0:0,offset={partition.START},hash_seed={facts.uuid},lazy_itable_init=0"
    arguments = ["-q", "-F", "-m", "0", "-b", str(_BLOCK), "-N", str(_inodes(tree)), "-O", "^has_journal"]
    arguments += ["-U", str(facts.uuid), "-E", extra, "-L", facts.label(LABEL_CHARS), "-d", str(tree.folder)]
    run("mkfs.ext4", [*arguments, str(image), f"{(size - partition.START) // 1024}k"], what=what, at=facts.at)
    script = "".join(_settled(name, mode=0o100444, at=facts.at) for name in tree.sizes)
    script += "".join(_settled(name, mode=0o040755, at=facts.at) for name in (*tree.folders, _LITTER))
    run("debugfs", ["-w", "-f", "-", _place(image)], what=what, at=facts.at, given=script)


def names(image: Path) -> set[str]:
    """Return every file in the image."""
    found: set[str] = set()
    folders = [""]
    while folders:
        folder = folders.pop()
        listed = run("debugfs", ["-R", f'ls -p "/{folder}"', _place(image)], what="the image cannot be read")
        for line in filter(None, listed.splitlines()):
            _, inode, mode, _, _, name, *_ = line.split("/")
            path = f"{folder}/{name}".removeprefix("/")
            if name in {".", ".."} or path == _LITTER or inode == "0":
                continue
            if mode.startswith("04"):
                folders.append(path)
            else:
                found.add(path)
    return found


def digests(image: Path, tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield the SHA-256 of each file as it comes out of the image."""
    for name in tree.sizes:
        with output_of("debugfs", ["-R", f"cat /{name}", _place(image)]) as stream:
            yield name, hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def _place(image: Path) -> str:
    if "?" in str(image):
        raise UnreadableError(what="an image's name may hold no question mark", fix="choose another name")
    return f"{image}?offset={partition.START}"


def _inodes(tree: Tree) -> int:
    return len(tree.sizes) + len(tree.folders) + 320


def _settled(name: str, *, mode: int, at: int) -> str:
    facts = {"mode": f"0{mode:o}", "uid": "0", "gid": "0"}
    times = dict.fromkeys(("atime", "ctime", "mtime", "crtime"), f"@{at}")
    return "".join(f'sif "/{name}" {field} {value}\n' for field, value in (facts | times).items())
