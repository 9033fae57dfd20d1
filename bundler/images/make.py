"""Making one volume's image and reading every byte of it back with the tools of its file system.

The image appears under its name only when all of it was compared. Before it is read, the page cache was emptied of it
and shown to be; where that could not be done, the result says that it is not verified.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from bundler import pagecache
from bundler.errors import NotEmptyError, ReadBackError
from bundler.images.facts import ImageFacts
from bundler.images.kinds import Kind
from bundler.images.stage import Tree
from bundler.measure import Progress
from bundler.readback import ReadBack
from media import durable
from media.errors import UnreadableError, UsageError

_UNFINISHED = ".unfinished"
_GLANCE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeImage:
    """An image as it lies in its file."""

    bytes: int
    read_back: ReadBack


def require_absent(image: Path) -> None:
    """Pass only when nothing is in the image's place.

    Raises:
        NotEmptyError: Something is.
        UsageError: There is no such folder, or no file is named.
    """
    if not image.name:
        raise UsageError(what=f"{str(image)!r} names no image", why="it is a folder", fix="name a file to write")
    for path in (image, unfinished(image)):
        if path.is_symlink() or path.exists():
            raise NotEmptyError(
                what=f"{path.name} exists", why="an image is written once", fix="remove it or choose another"
            )
    if not image.parent.is_dir():
        raise UsageError(what=f"the folder of {image.name} does not exist", fix="make it, or choose another")


def require_names_fit(tree: Tree, kind: Kind) -> None:
    """Pass only when every name is kept as it is.

    Raises:
        UsageError: One is too long.
    """
    for name in tree.sizes:
        if longest := next((part for part in name.split("/") if len(part) > kind.name_chars), None):
            raise UsageError(
                what=f"{longest[:60]}… has a name too long for {kind.title}",
                why=f"it has {len(longest)} characters, {kind.title} keeps {kind.name_chars} on every system",
                fix="choose --format udf, exfat, vfat or ext4",
            )


def unfinished(image: Path) -> Path:
    """Return the name under which an image is made."""
    return image.with_name(f"{image.name}{_UNFINISHED}")


def make_image(tree: Tree, image: Path, *, kind: Kind, facts: ImageFacts, progress: Progress) -> MadeImage:
    """Make an image of what was laid out, compare all that comes back out of it, and give it its name.

    Raises:
        NotEmptyError: The image exists.
        UsageError: A program is not installed, or root is needed.
        UnreadableError: It could not be made.
        ReadBackError: What came back differs; the image is removed.
    """
    require_absent(image)
    require_names_fit(tree, kind)
    making = unfinished(image)
    try:
        with _watched(making, tree.bytes, f"volume {facts.number}: making the {kind.title} image", progress):
            kind.make(tree, making, facts=facts, size=kind.size(tree))
        past_cache = _forget(making)
        _compare(tree, making, kind=kind, number=facts.number, progress=progress)
        making.rename(image)
        durable.sync_folder(image.parent)
    except OSError as error:
        raise UnreadableError(
            what=f"{image.name} could not be made", why=error.strerror or "input/output error", fix="free some space"
        ) from error
    finally:
        making.unlink(missing_ok=True)
    return MadeImage(
        bytes=image.stat().st_size,
        read_back=ReadBack(files=len(tree.sizes), bytes=tree.bytes, past_cache=past_cache),
    )


@contextmanager
def _watched(image: Path, total: int, label: str, progress: Progress) -> Iterator[None]:
    """Tell how far a program has come that does not tell itself: by what the disk holds of its image."""
    done = Event()

    def watch() -> None:
        while not done.wait(_GLANCE_SECONDS):
            with suppress(OSError):
                progress(min(image.stat().st_blocks * 512, total), total, label)

    progress(0, total, label)
    watcher = Thread(target=watch, name="image-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _forget(image: Path) -> bool:
    """Put an image on the disk and out of memory; return whether what is read next comes from the disk."""
    descriptor = os.open(image, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
        return pagecache.drop(descriptor) and pagecache.is_on_a_device(image)
    finally:
        os.close(descriptor)


def _compare(tree: Tree, image: Path, *, kind: Kind, number: int, progress: Progress) -> None:
    if odd := sorted(kind.names(image) ^ set(tree.sizes)):
        raise ReadBackError(
            what=f"{odd[0]} is not in the image as planned", why=f"{len(odd)} files differ by name", fix="make it again"
        )
    done = 0
    for name, found in kind.digests(image, tree):
        if found != tree.sha256[name]:
            raise ReadBackError(
                what=f"{name} came back different from the image",
                why=f"expected {tree.sha256[name][:12]}, read {found[:12]}",
                fix="restore the work folder if it changed, and make the image again",
            )
        done += tree.sizes[name]
        progress(done, tree.bytes, f"volume {number}: reading the image back")
