"""Which blocks a delta set carries, where the others are taken from, and what would be lacking (FMT-82 to FMT-86).

A block is carried when no file of the base has a block of its digest. A file whose content the base has under any name
is not carried at all.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bundler.holdings import Holdings
from media import layout
from media.deltabase import Base, Run
from media.release import Target
from media.volume import VolumeIndex
from media.volumeplan import Delta


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Blocks that a delta set takes for granted and the receiver does not hold."""

    target: str
    first: int
    last: int
    length: int

    def to_text(self) -> str:
        """Return one line."""
        return f"{self.target} blocks {self.first} to {self.last} ({self.length:,} bytes)"


def plan_delta(targets: Mapping[str, Target], holdings: Holdings) -> Delta:
    """Return what to carry to a receiver that has these holdings; the same for the same arguments."""
    places: dict[str, list[tuple[str, int]]] = {}
    for sha256, file in sorted(holdings.files.items()):
        for number, block in enumerate(file.blocks):
            places.setdefault(block, []).append((sha256, number))
    carried: dict[str, list[tuple[int, int]]] = {}
    runs: list[Run] = []
    for path, target in sorted(targets.items()):
        if not path.startswith(f"{layout.DATA}/") or _is_held(target, holdings):
            continue
        ranges, own = _split(target, places)
        carried[path] = ranges
        runs += own
    base = Base(site=holdings.site, source=holdings.source, at=holdings.at, serials=holdings.serials, runs=tuple(runs))
    return Delta(base=base, carried=carried)


def gaps(index: VolumeIndex, targets: Mapping[str, Target], holdings: Holdings) -> tuple[Gap, ...]:
    """Return what a delta set takes for granted and these holdings lack; empty when it applies."""
    found = [
        _gap(target, 0, max(len(target.blocks) - 1, 0))
        for target in index.held_whole(targets)
        if not _is_held(target, holdings)
    ]
    for run in index.base.runs if index.base else ():
        target, file = targets[run.target], holdings.files.get(run.object)
        blocks = file.blocks[run.block :] if file else ()
        lacking = [
            number
            for number in range(run.first, run.last + 1)
            if blocks[number - run.first : number - run.first + 1] != (target.blocks[number],)
        ]
        found += [_gap(target, first, last) for first, last in _ranges(lacking)]
    return tuple(sorted(found, key=lambda gap: (gap.target, gap.first)))


def _is_held(target: Target, holdings: Holdings) -> bool:
    file = holdings.files.get(target.sha256)
    return file is not None and file.length == target.length


def _split(target: Target, places: Mapping[str, list[tuple[str, int]]]) -> tuple[list[tuple[int, int]], list[Run]]:
    """Return the ranges to carry and the runs to take from the base."""
    lacking: list[int] = []
    runs: list[Run] = []
    for number, block in enumerate(target.blocks):
        known = places.get(block)
        if known is None:
            lacking.append(number)
            continue
        last = runs[-1] if runs else None
        if last and last.last == number - 1 and (last.object, last.block + number - last.first) in known:
            runs[-1] = Run(target=last.target, first=last.first, last=number, object=last.object, block=last.block)
            continue
        # The same place in an older file first: it is most likely to go on for long.
        chosen, at = min(known, key=lambda place: (place[1] != number, place))
        runs.append(Run(target=target.path, first=number, last=number, object=chosen, block=at))
    if not target.blocks:
        return [(0, 0)], []
    return list(_ranges(lacking)), runs


def _ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield first and last of each run of consecutive numbers."""
    first = None
    for place, number in enumerate(numbers):
        first = number if first is None else first
        if place + 1 == len(numbers) or numbers[place + 1] != number + 1:
            yield first, number
            first = None


def _gap(target: Target, first: int, last: int) -> Gap:
    end = min((last + 1) * layout.BLOCK_BYTES, target.length)
    return Gap(target=target.path, first=first, last=last, length=end - first * layout.BLOCK_BYTES)
