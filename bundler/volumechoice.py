"""How large the volumes are and which seals are reserved for them: chosen once, before the first attestation is signed.

Which volume carries what follows from the payload and these numbers alone, so the volumes' ids are known before anyone
signs and custody entries can name them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from bundler.errors import CapacityError
from bundler.measure import Measured
from bundler.plan import ReleasePlan
from bundler.workfolder import WorkFolder
from media import layout, limits
from media.canonical import array, dumps, exact_keys, integer, loads, mapping, text
from media.errors import LimitExceededError, MalformedError, UsageError
from media.release import Target
from media.volume import VolumeIndex
from media.volumeplan import plan

_ALLOCATION = 4096
_FIXED_TAGS = 2**20
"""check/, the root chain, signatures and the small files of a bag; they are about 100 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeChoice:
    """What people chose about the volumes.

    Args:
        rooms: Bytes for data/ on each volume; none means one volume as large as it takes.
        seals: Seal numbers reserved for each volume, by its number.
    """

    rooms: tuple[int, ...] = ()
    seals: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Read a choice.

        Raises:
            MalformedError: It is not one.
        """
        what = "volumes.json"
        value = exact_keys(loads(untrusted), ("format", "rooms", "seals"), (), what)
        integer(value["format"], what, minimum=1, maximum=1)
        seals = mapping(value["seals"], what)
        if not all(number.isascii() and number.isdecimal() and len(number) <= 2 for number in seals):
            raise MalformedError(what=f"{what} is malformed", why="seals are given by volume number")
        return cls(
            rooms=tuple(integer(each, what) for each in array(value["rooms"], what, most=limits.VOLUMES)),
            seals={
                int(number): tuple(text(each, what, most=64) for each in array(own, what, most=limits.SEALS))
                for number, own in seals.items()
            },
        )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        seals: dict[str, Any] = {str(number): list(own) for number, own in self.seals.items()}
        return dumps({"format": 1, "rooms": list(self.rooms), "seals": seals})

    @classmethod
    def load(cls, work: WorkFolder) -> Self:
        """Read the choice of a work folder.

        Raises:
            CapacityError: Nothing was chosen yet.
        """
        if not work.volumes.is_file():
            raise CapacityError(
                what="the volumes of this release are not chosen yet",
                why="custody entries and signatures name them",
                fix="run: sealift-bundler attest WORK --person ID, with --capacity for each volume",
            )
        return cls.from_bytes(work.volumes.read_bytes())

    def require_for(self, index: VolumeIndex) -> None:
        """Pass only when this can be kept, and each seal is reserved for a volume that there is.

        Raises:
            UsageError: A seal is reserved for another number, where nobody would ever find it.
            MalformedError: A seal's number cannot be kept.
        """
        if strange := sorted(set(self.seals) - {volume.number for volume in index.volumes}):
            count = len(index.volumes)
            raise UsageError(
                what=f"a seal is reserved for volume {strange[0]}, which is not there",
                why=f"the release has {count} volume{'' if count == 1 else 's'}",
                fix=f"correct --seal {strange[0]}=…; which volume carries what: sealift-bundler seal WORK --dry-run",
            )
        self.from_bytes(self.to_bytes())


def rooms_for(
    capacities: Sequence[int], *, release: ReleasePlan, payload: Mapping[str, Measured], attest_bytes: int
) -> tuple[int, ...]:
    """Return how much of each medium is left for data/ once every volume carries metadata/, attest/ and check/.

    Raises:
        CapacityError: A medium cannot hold even those.
    """
    tags = _FIXED_TAGS + 2 * attest_bytes
    tags += sum(1024 + 6 * len(path) + 68 * len(found.blocks) for path, found in payload.items())
    rooms = tuple(capacity - tags for capacity in capacities)
    if any(room < 0 for room in rooms):
        raise CapacityError(
            what=f"a volume of {release.release} is too small",
            why=f"signatures, lists and evidence take up to {tags:,} bytes, the smallest holds {min(capacities):,}",
            fix="use a larger medium",
        )
    return rooms


def plan_volumes(release: ReleasePlan, payload: Mapping[str, Measured], choice: VolumeChoice) -> VolumeIndex:
    """Return which volume carries what; parts that are cut have no digest yet.

    Raises:
        CapacityError: The volumes cannot hold the payload; `why` gives both numbers.
    """
    targets = [
        Target(path=path, length=found.length, sha256=found.sha256, kind=release.kinds[path], blocks=found.blocks)
        for path, found in payload.items()
    ]
    rooms = choice.rooms or (sum(-(-each.length // _ALLOCATION) * _ALLOCATION for each in targets) + _ALLOCATION,)
    try:
        return plan(targets, rooms, release=release.release, serial=release.serial, allocation=_ALLOCATION)
    except LimitExceededError as error:
        raise CapacityError(what=error.what, why=error.why, fix=error.fix) from error


def describe(index: VolumeIndex, choice: VolumeChoice) -> list[dict[str, Any]]:
    """Return the plan for people: per volume its id, its parts and both numbers."""
    rooms = dict(enumerate(choice.rooms, start=1))
    return [
        {
            "number": volume.number,
            "id": volume.id,
            "files": len(volume.parts),
            "cut": sum(1 for part in volume.parts if not part.is_whole),
            "payload_bytes": volume.payload_bytes,
            "room_bytes": rooms.get(volume.number, volume.payload_bytes),
            "seals": list(choice.seals.get(volume.number, ())),
            "folder": layout.RELEASE,
        }
        for volume in index.volumes
    ]
