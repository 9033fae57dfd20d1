"""Old and new releases of one site and the delta set between them, with blocks of a few kilobytes so that many fit.

The block size is the format's; `small_blocks` changes it in this process only, for every module that reads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import bundler.measure
import bundler.metadata
from bundler.custody import HandedOver, hand_over
from bundler.delta import Packing, make_delta
from bundler.holdings import EarlierRelease, Holdings
from bundler.seal import code_of, seal
from bundler.workfolder import WorkFolder
from bundler.write import write
from media import layout
from media.clock import FixedClock
from media.deltabase import Knowledge
from media.volume import VolumeIndex
from tests.support.medium import MADE_AT, SimulatedMedium

BLOCK = 4096


def small_blocks(patch: pytest.MonkeyPatch, size: int = BLOCK) -> None:
    """Make a block so many bytes in this process."""
    patch.setattr(layout, "BLOCK_BYTES", size)
    patch.setattr(layout, "PART_BYTES", size * layout.PART_BLOCKS)
    patch.setattr(bundler.measure, "BLOCK_BYTES", size)
    patch.setattr(bundler.metadata, "BLOCK_BYTES", size)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaMedium:
    """A sealed delta set on its volumes."""

    work: WorkFolder
    volumes: list[Path]
    code: str
    index: VolumeIndex


def holdings_of(*media: SimulatedMedium, site: str = "demo-clinic") -> Holdings:
    """Return what a site holds that received these media whole."""
    releases = [EarlierRelease.open(medium.work.root) for medium in media]
    return Holdings(
        site=site,
        source=Knowledge.INVENTORY,
        at=MADE_AT,
        serials=tuple(sorted(each.terms.serial for each in releases)),
        files={file.sha256: file for each in releases for file in each.held()},
    )


def delta_medium(
    folder: Path,
    new: SimulatedMedium,
    holdings: Holdings,
    *,
    earlier: Sequence[SimulatedMedium] = (),
    capacities: tuple[int, ...] = (),
) -> DeltaMedium:
    """Make, seal, write and hand over a delta set of a release."""
    work, clock = WorkFolder(root=folder / "delta-work"), FixedClock(at=MADE_AT)
    folder.mkdir(parents=True, exist_ok=True)
    made = make_delta(
        new.work,
        work,
        holdings,
        Packing(packer="alice", capacities=capacities),
        ceremony=new.ceremony,
        clock=clock,
        earlier=[EarlierRelease.open(each.work.root) for each in earlier],
    )
    for person in ("alice", "bob"):
        seal(work, person, ceremony=new.ceremony)
    volumes = [folder / f"delta-{volume.number}" for volume in made.index.volumes]
    write(work, volumes, ceremony=new.ceremony)
    for volume in volumes:
        facts = HandedOver(sender="Alice Archer", receiver="Alice Archer", place="Bundling room")
        hand_over(volume, "alice", facts, ceremony=new.ceremony, clock=clock)
    return DeltaMedium(work=work, volumes=volumes, code=code_of(work), index=made.index)
