"""The file systems that a volume can be written as an image of, and what each of them can hold."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from bundler.images import exfat, ext4, fat32, iso9660, udf
from bundler.images.facts import ImageFacts
from bundler.images.stage import Tree
from media.errors import UsageError

_LONGEST: Final = 255


class _Make(Protocol):
    def __call__(self, tree: Tree, image: Path, *, facts: ImageFacts, size: int) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One file system.

    Args:
        name: As `mount -t` takes it.
        title: As people say it.
        is_partitioned: It lies in a partition; else it takes the whole device.
        can_grow: Hand-overs can be added on the medium later.
        name_chars: The longest name that it keeps everywhere.
        size: Bytes of the image, or the most it may have.
        make: Makes the image.
        names: Lists every file in an image.
        digests: Reads files out of it.
    """

    name: str
    title: str
    is_partitioned: bool
    can_grow: bool
    name_chars: int
    size: Callable[[Tree], int]
    make: _Make
    names: Callable[[Path], set[str]]
    digests: Callable[[Path, Tree], Iterator[tuple[str, str]]]


KINDS: Final[Mapping[str, Kind]] = {
    each.name: each
    for each in (
        Kind(
            name="exfat",
            title="exFAT",
            is_partitioned=True,
            can_grow=True,
            name_chars=_LONGEST,
            size=exfat.size,
            make=exfat.make,
            names=exfat.names,
            digests=exfat.digests,
        ),
        Kind(
            name="vfat",
            title="FAT32",
            is_partitioned=True,
            can_grow=True,
            name_chars=_LONGEST,
            size=fat32.size,
            make=fat32.make,
            names=fat32.names,
            digests=fat32.digests,
        ),
        Kind(
            name="ext4",
            title="ext4",
            is_partitioned=True,
            can_grow=True,
            name_chars=_LONGEST,
            size=ext4.size,
            make=ext4.make,
            names=ext4.names,
            digests=ext4.digests,
        ),
        Kind(
            name="iso9660",
            title="ISO 9660",
            is_partitioned=False,
            can_grow=False,
            name_chars=iso9660.NAME_CHARS,
            size=iso9660.size,
            make=iso9660.make,
            names=iso9660.names,
            digests=iso9660.digests,
        ),
        Kind(
            name="udf",
            title="UDF",
            is_partitioned=False,
            can_grow=False,
            name_chars=_LONGEST,
            size=udf.size,
            make=udf.make,
            names=udf.names,
            digests=udf.digests,
        ),
    )
}


def kind_of(name: str) -> Kind:
    """Return a file system by its name.

    Raises:
        UsageError: There is none of that name.
    """
    aliases = {"fat32": "vfat", "fat": "vfat", "iso": "iso9660"}
    lower = name.lower()
    if (found := KINDS.get(aliases.get(lower, lower))) is None:
        raise UsageError(what=f"{name[:40]!r} is no format", fix=f"choose one of {', '.join(KINDS)}")
    return found
