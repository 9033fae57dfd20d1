"""Which volume carries which blocks: the signed index, and the plan that makes one (FMT-70 to FMT-79).

A target is one whole file; a part is what of it lies on one volume. A whole file keeps its name; a part of a cut file
is named by its first and last block, so that `cat NAME.*` joins the parts in order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from media import canonical, digest, layout, limits
from media.errors import LimitExceededError, MalformedError, UnsupportedFormatError
from media.release import Kind, Target

_FIELDS = ("format", "payload_digest", "release", "serial", "volumes")
_PART_FIELDS = ("first", "last", "length", "path", "sha256", "target")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What of one target lies on one volume.

    Args:
        target: Path of the whole file.
        first: Number of the first block.
        last: Number of the last block; equal to `first` for an empty file.
        path: Where it lies: the target's own path when it is whole.
        length: Bytes.
        sha256: Of the part; empty in a plan until the writer has hashed it.
    """

    target: str
    first: int
    last: int
    path: str
    length: int
    sha256: str

    @property
    def is_whole(self) -> bool:
        """Tell whether the whole file lies in this part."""
        return self.path == self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One volume of a release.

    Args:
        number: From 1.
        id: Derived from payload and number; what tells volumes apart.
        parts: Sorted by path.
    """

    number: int
    id: str
    parts: tuple[Part, ...]

    @property
    def payload_bytes(self) -> int:
        """Sum of the sizes of its parts."""
        return sum(part.length for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeIndex:
    """`metadata/volumes.json`, equal on all volumes and signed through each one's tag manifest.

    Args:
        release: The release's name.
        serial: Its serial.
        payload_digest: Names all files below data/.
        volumes: In order of their numbers.
    """

    release: str
    serial: int
    payload_digest: str
    volumes: tuple[Volume, ...]

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Read an index.

        Raises:
            LimitExceededError: More bytes than JSON may have.
            MalformedError: Not in canonical form, a field is wrong, or parts overlap, leave gaps or have other names.
            UnsafePathError: A path is not one that a medium may hold.
            UnsupportedFormatError: A later version of the format.
        """
        value = canonical.mapping(canonical.loads_canonical(untrusted), "The volume index")
        _require_format(value)
        canonical.exact_keys(value, _FIELDS, (), "The volume index")
        payload = canonical.sha256_hex(value["payload_digest"], "The volume index")
        listed = canonical.array(value["volumes"], "The volume index", most=limits.VOLUMES)
        index = cls(
            release=layout.require_release_name(canonical.text(value["release"], "The release name")),
            serial=canonical.integer(value["serial"], "The serial", minimum=1, maximum=limits.SERIAL_MAX),
            payload_digest=payload,
            volumes=tuple(_volume(each, number, payload) for number, each in enumerate(listed, start=1)),
        )
        _require_sound(index)
        return index

    def to_bytes(self) -> bytes:
        """Return the canonical bytes.

        Raises:
            MalformedError: A part was not hashed yet, or the index is one that `from_bytes` would refuse.
        """
        _require_sound(self)
        volumes = [
            {
                "number": volume.number,
                "id": volume.id,
                "parts": [{name: getattr(part, name) for name in _PART_FIELDS} for part in volume.parts],
            }
            for volume in self.volumes
        ]
        return canonical.dumps(
            {
                "format": layout.FORMAT,
                "release": self.release,
                "serial": self.serial,
                "payload_digest": self.payload_digest,
                "volumes": volumes,
            }
        )

    def parts_of(self, target: str) -> tuple[tuple[Volume, Part], ...]:
        """Return the parts of a target in block order, each with its volume."""
        return _in_order((volume, part) for volume in self.volumes for part in volume.parts if part.target == target)

    def with_part_digests(self, digests: Mapping[str, str]) -> Self:
        """Return the index with the SHA-256 of cut parts filled in, by path; a digest that is known stays."""
        volumes = tuple(
            replace(
                volume,
                parts=tuple(replace(part, sha256=part.sha256 or digests.get(part.path, "")) for part in volume.parts),
            )
            for volume in self.volumes
        )
        return replace(self, volumes=volumes)

    def require_covers(self, targets: Mapping[str, Target]) -> None:
        """Refuse an index whose parts are not exactly the targets below data/, joined in block order (FMT-76).

        Raises:
            MalformedError: A target is missing, cut elsewhere, of another length or digest, or one is too many.
        """
        joined = _by_target(self)
        wanted = {path for path in targets if path.startswith(f"{layout.DATA}/")}
        if joined.keys() != wanted:
            odd = min(joined.keys() ^ wanted)
            raise _malformed("The volume index", f"{odd} is in the index or in the targets, not in both")
        for path, parts in joined.items():
            _require_fits(targets[path], parts)


def plan(
    targets: Iterable[Target], capacities: Sequence[int], *, release: str, serial: int, allocation: int = 4096
) -> VolumeIndex:
    """Return which volume carries what; the same for the same arguments.

    Everything that is no weights lies on the first volumes that have room for it, whole, so that volume 1 has what a
    person needs first. Weights then fill volume after volume and are cut on block boundaries, as is any file longer
    than a part may be. Trailing volumes without parts are left out.

    Args:
        targets: Of the release; those below attest/ are no payload and are left out.
        capacities: Bytes that each volume may hold below data/; what metadata/, attest/ and check/ take is deducted.
        release: The release's name.
        serial: Its serial.
        allocation: Bytes in which the file system allots space.

    Raises:
        LimitExceededError: The volumes cannot hold the payload; both numbers are in `why`.
    """
    payload = sorted(
        (target for target in targets if target.path.startswith(f"{layout.DATA}/")),
        key=lambda target: (target.kind == Kind.WEIGHTS, target.path),
    )
    room = [capacity - capacity % allocation for capacity in capacities[: limits.VOLUMES]]
    placed: list[list[Part]] = [[] for _ in room]
    for target in payload:
        cut = target.kind == Kind.WEIGHTS or len(target.blocks) > layout.PART_BLOCKS
        if not (_place_cut if cut else _place_whole)(target, room, placed, allocation):
            needed = sum(_allotted(each.length, allocation) for each in payload)
            raise LimitExceededError(
                what="The volumes cannot hold the release",
                why=f"the payload takes {needed} bytes, the volumes hold {sum(capacities)}; {target.path} has no room",
                fix="Give larger or more volumes.",
            )
    while len(placed) > 1 and not placed[-1]:
        placed.pop()
    payload_digest = digest.payload_digest((each.path, each.length, each.sha256) for each in payload)
    return VolumeIndex(
        release=release,
        serial=serial,
        payload_digest=payload_digest,
        volumes=tuple(
            Volume(
                number=number,
                id=digest.volume_id(payload_digest, number),
                parts=tuple(sorted(parts, key=lambda part: part.path)),
            )
            for number, parts in enumerate(placed or [[]], start=1)
        ),
    )


def _place_whole(target: Target, room: list[int], placed: list[list[Part]], allocation: int) -> bool:
    size = _allotted(target.length, allocation)
    for index, free in enumerate(room):
        if size <= free:
            room[index] -= size
            placed[index].append(_part(target, 0, max(len(target.blocks) - 1, 0)))
            return True
    return False


def _place_cut(target: Target, room: list[int], placed: list[list[Part]], allocation: int) -> bool:
    first, count, index = 0, len(target.blocks), 0
    if not count:
        return _place_whole(target, room, placed, allocation)
    while first < count and index < len(room):
        rest = target.length - first * layout.BLOCK_BYTES
        fits = count - first if _allotted(rest, allocation) <= room[index] else room[index] // layout.BLOCK_BYTES
        take = min(fits, count - first, layout.PART_BLOCKS)
        if take < 1:
            index += 1
            continue
        part = _part(target, first, first + take - 1)
        room[index] -= _allotted(part.length, allocation)
        placed[index].append(part)
        first += take
    return first == count


def _part(target: Target, first: int, last: int) -> Part:
    count = len(target.blocks)
    if first == 0 and last == max(count - 1, 0):
        return Part(
            target=target.path, first=first, last=last, path=target.path, length=target.length, sha256=target.sha256
        )
    length = min((last + 1) * layout.BLOCK_BYTES, target.length) - first * layout.BLOCK_BYTES
    return Part(
        target=target.path,
        first=first,
        last=last,
        path=layout.part_name(target.path, first, last),
        length=length,
        sha256=target.blocks[first] if first == last else "",
    )


def _allotted(length: int, allocation: int) -> int:
    return -(-length // allocation) * allocation


def _volume(untrusted: Any, number: int, payload: str) -> Volume:
    what = f"Volume {number} of the index"
    value = canonical.exact_keys(untrusted, ("id", "number", "parts"), (), what)
    volume_id = canonical.text(value["id"], what)
    if canonical.integer(value["number"], what) != number or volume_id != digest.volume_id(payload, number):
        raise _malformed(what, "its number or its id is not the one that follows from the payload")
    return Volume(
        number=number, id=volume_id, parts=tuple(_read_part(each) for each in canonical.array(value["parts"], what))
    )


def _read_part(untrusted: Any) -> Part:
    what = "A part of the index"
    value = canonical.exact_keys(untrusted, _PART_FIELDS, (), what)
    return Part(
        target=canonical.text(value["target"], what),
        first=canonical.integer(value["first"], what, maximum=limits.BLOCKS_PER_FILE - 1),
        last=canonical.integer(value["last"], what, maximum=limits.BLOCKS_PER_FILE - 1),
        path=canonical.text(value["path"], what),
        length=canonical.integer(value["length"], what, maximum=layout.PART_BYTES),
        sha256=canonical.sha256_hex(value["sha256"], what),
    )


def _require_sound(index: VolumeIndex) -> None:
    parts = [part for volume in index.volumes for part in volume.parts]
    if not index.volumes or len(index.volumes) > limits.VOLUMES or len(parts) > limits.FILES:
        raise _malformed("The volume index", "it has no volume, or too many volumes or parts")
    for volume in index.volumes:
        paths = [part.path for part in volume.parts]
        if paths != sorted(paths):
            raise _malformed("The volume index", f"the parts of volume {volume.number} are not sorted by path")
    for part in parts:
        canonical.sha256_hex(part.sha256, f"The digest of {part.path}")
        _require_part(part)
    layout.require_distinct(part.path for part in parts)
    layout.require_distinct({part.target for part in parts})
    for path, found in _by_target(index).items():
        _require_joined(path, found)


def _require_part(part: Part) -> None:
    if layout.safe_path(part.target).parts[0] != layout.DATA or len(layout.safe_path(part.path).parts) < 2:
        raise _malformed("A part of the index", "it does not lie below data/")
    blocks = part.last - part.first + 1
    if blocks > layout.PART_BLOCKS or blocks != max(-(-part.length // layout.BLOCK_BYTES), 1):
        raise _malformed(f"The part {part.path}", "its length does not fit its blocks")
    if part.path not in {part.target, layout.part_name(part.target, part.first, part.last)}:
        raise _malformed(f"The part {part.path}", "its name does not follow from its target and blocks")


def _require_joined(path: str, parts: Sequence[Part]) -> None:
    what = f"The file {path}"
    if any(part.is_whole for part in parts) and (len(parts) != 1 or parts[0].first != 0):
        raise _malformed(what, "a whole file has one part")
    if len(parts) == 1 and not parts[0].is_whole:
        raise _malformed(what, "a cut file has at least two parts")
    following = 0
    for part in parts:
        if part.first != following:
            raise _malformed(what, "its parts overlap or leave a gap")
        following = part.last + 1
        if part is not parts[-1] and part.length != (part.last - part.first + 1) * layout.BLOCK_BYTES:
            raise _malformed(what, "only its last part may end within a block")
    if not parts[-1].length and parts[-1].last != 0:
        raise _malformed(what, "its last part is empty")


def _require_fits(target: Target, parts: Sequence[Part]) -> None:
    if sum(part.length for part in parts) != target.length or parts[-1].last + 1 != max(len(target.blocks), 1):
        raise _malformed(f"The file {target.path}", "its parts have another length than the target")
    for part in parts:
        known = part.sha256
        if part.is_whole:
            known = target.sha256
        elif part.first == part.last:
            known = target.blocks[part.first]
        if part.sha256 != known:
            raise _malformed(f"The part {part.path}", "its digest is not that of the target")


def _by_target(index: VolumeIndex) -> dict[str, list[Part]]:
    found: dict[str, list[Part]] = {}
    for volume in index.volumes:
        for part in volume.parts:
            found.setdefault(part.target, []).append(part)
    return {path: sorted(parts, key=lambda part: part.first) for path, parts in found.items()}


def _in_order(found: Iterable[tuple[Volume, Part]]) -> tuple[tuple[Volume, Part], ...]:
    return tuple(sorted(found, key=lambda pair: pair[1].first))


def _require_format(value: Mapping[str, Any]) -> None:
    version = canonical.integer(value.get("format"), "The volume index", minimum=1)
    if version > layout.FORMAT:
        raise UnsupportedFormatError(
            what=f"The volume index has format version {version}",
            why=f"this program reads version {layout.FORMAT}",
            fix="Install a release that reads it first; ask the sender which one.",
        )


def _malformed(what: str, why: str) -> MalformedError:
    return MalformedError(
        what=f"{what} is malformed", why=why, fix="Do not use this medium; ask the sender for a new one."
    )
