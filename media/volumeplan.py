"""The plan of the volumes: which volume carries what, the same for the same arguments (FMT-77, FMT-86)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from media import digest, layout, limits
from media.deltabase import Base
from media.errors import LimitExceededError
from media.release import Kind, Target
from media.volume import Part, Volume, VolumeIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What a delta set carries and what it takes for granted.

    Args:
        base: What the receiver holds.
        carried: For each target that is not held whole, the first and last block of each range that is carried.
    """

    base: Base
    carried: Mapping[str, Sequence[tuple[int, int]]] = field(hash=False)


@dataclass(slots=True, kw_only=True)
class _Rooms:
    """How much is free on each volume, and what was placed on it."""

    free: list[int]
    placed: list[list[Part]]
    allocation: int

    def whole(self, target: Target) -> bool:
        """Place a whole file on the first volume that has room."""
        size = _allotted(target.length, self.allocation)
        for index, free in enumerate(self.free):
            if size <= free:
                self._put(index, _part(target, 0, max(len(target.blocks) - 1, 0)))
                return True
        return False

    def cut(self, target: Target, first: int, last: int) -> bool:
        """Place blocks volume after volume, cut on block boundaries and at the part limit."""
        if not target.length:
            return self.whole(target)
        index = 0
        end = min((last + 1) * layout.BLOCK_BYTES, target.length)
        while first <= last and index < len(self.free):
            rest = end - first * layout.BLOCK_BYTES
            room = self.free[index]
            fits = last - first + 1 if _allotted(rest, self.allocation) <= room else room // layout.BLOCK_BYTES
            take = min(fits, last - first + 1, layout.PART_BLOCKS)
            if take < 1:
                index += 1
                continue
            self._put(index, _part(target, first, first + take - 1))
            first += take
        return first > last

    def _put(self, index: int, part: Part) -> None:
        self.free[index] -= _allotted(part.length, self.allocation)
        self.placed[index].append(part)


def plan(
    targets: Iterable[Target],
    capacities: Sequence[int],
    *,
    release: str,
    serial: int,
    allocation: int = 4096,
    delta: Delta | None = None,
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
        delta: What to carry when it is not everything.

    Raises:
        LimitExceededError: The volumes cannot hold the payload; both numbers are in `why`.
    """
    payload = sorted(
        (target for target in targets if target.path.startswith(f"{layout.DATA}/")),
        key=lambda target: (target.kind == Kind.WEIGHTS, target.path),
    )
    free = [capacity - capacity % allocation for capacity in capacities[: limits.VOLUMES]]
    rooms = _Rooms(free=free, placed=[[] for _ in free], allocation=allocation)
    wanted = [(target, _ranges(target, delta)) for target in payload]
    for target, ranges in wanted:
        cut = target.kind == Kind.WEIGHTS or len(target.blocks) > layout.PART_BLOCKS or ranges != [_all(target)]
        if not (all(rooms.cut(target, *each) for each in ranges) if cut else rooms.whole(target)):
            needed = sum(_allotted(_bytes(each, own), allocation) for each, ranges in wanted for own in ranges)
            raise LimitExceededError(
                what="The volumes cannot hold the release",
                why=f"the payload takes {needed} bytes, the volumes hold {sum(capacities)}; {target.path} has no room",
                fix="Give larger or more volumes.",
            )
    placed = rooms.placed
    while len(placed) > 1 and not placed[-1]:
        placed.pop()
    return VolumeIndex(
        release=release,
        serial=serial,
        payload_digest=digest.payload_digest((each.path, each.length, each.sha256) for each in payload),
        volumes=tuple(
            Volume(number=number, id="", parts=tuple(sorted(parts, key=lambda part: part.path)))
            for number, parts in enumerate(placed or [[]], start=1)
        ),
        base=None if delta is None else delta.base,
    ).with_ids()


def _all(target: Target) -> tuple[int, int]:
    return (0, max(len(target.blocks) - 1, 0))


def _ranges(target: Target, delta: Delta | None) -> list[tuple[int, int]]:
    return [_all(target)] if delta is None else list(delta.carried.get(target.path, ()))


def _bytes(target: Target, blocks: tuple[int, int]) -> int:
    return min((blocks[1] + 1) * layout.BLOCK_BYTES, target.length) - blocks[0] * layout.BLOCK_BYTES


def _part(target: Target, first: int, last: int) -> Part:
    if (first, last) == _all(target):
        return Part(
            target=target.path, first=first, last=last, path=target.path, length=target.length, sha256=target.sha256
        )
    return Part(
        target=target.path,
        first=first,
        last=last,
        path=layout.part_name(target.path, first, last),
        length=_bytes(target, (first, last)),
        sha256=target.blocks[first] if first == last else "",
    )


def _allotted(length: int, allocation: int) -> int:
    return -(-length // allocation) * allocation
