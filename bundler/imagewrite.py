"""Writing sealed volumes as images, into files or straight onto sticks, with everything checked before the first byte.

For a stick the image is made beside the work folder first and compared file by file; the stick is then compared with
the image as a whole. A stick that holds anything is refused unless somebody typed its serial number or path.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from bundler.blockdevice import BlockDevice
from bundler.burn import burn, require_fits
from bundler.errors import CapacityError
from bundler.images.facts import ImageFacts
from bundler.images.kinds import Kind
from bundler.images.make import MadeImage, make_image, require_absent, require_names_fit
from bundler.images.stage import Tree, copied_bytes, lay_out, tree_of
from bundler.lent import lent, take_away
from bundler.measure import Progress, no_progress
from bundler.plan import ReleasePlan
from bundler.readback import ReadBack
from bundler.seal import require_sealed
from bundler.signatory import Ceremony
from bundler.volumefiles import PlannedFile, planned_files, volume_index
from bundler.workfolder import WorkFolder
from bundler.write import WrittenVolume, choose
from media.digest import file_sha256
from media.volume import Volume

_IMAGE: Final = ".image-"

HandOver = Callable[[int, Path, str], None]
"""Enters the first hand-over of a volume, given its number, the folder with its release/, and what was seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageJob:
    """How volumes become images.

    Args:
        kind: The file system.
        erase: Serials or paths of sticks that may lose what they hold.
        most: Bytes that an image may have, for a disc that is burnt later; None for no limit.
        scratch: Where images for sticks are made; the work folder if None.
    """

    kind: Kind
    erase: tuple[str, ...] = ()
    most: int | None = None
    scratch: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedImage:
    """One volume, where it goes, and both numbers."""

    volume: Volume
    place: Path
    device: BlockDevice | None
    files: tuple[PlannedFile, ...]
    image_bytes: int
    holds: str

    def to_json(self) -> dict[str, Any]:
        """Return the plan for a program."""
        return {
            "number": self.volume.number,
            "id": self.volume.id,
            "destination": self.place.name,
            "device": self.device.title if self.device else "",
            "image_bytes": self.image_bytes,
            "device_bytes": self.device.size if self.device else None,
            "will_be_erased": self.holds,
        }

    def to_text(self) -> str:
        """Return the plan for people."""
        text = f"volume {self.volume.number}: up to {self.image_bytes:,} bytes to {self.place.name}"
        if self.device:
            text += f" of {self.device.size:,} ({self.device.title})"
        return f"{text}; WILL LOSE: {self.holds}" if self.holds else text


def plan_images(
    work: WorkFolder, destinations: Mapping[int, Path], *, job: ImageJob, ceremony: Ceremony
) -> tuple[PlannedImage, ...]:
    """Check everything that can be checked before anything is written.

    Raises:
        UsageError: A destination is wrong, a program is not installed, or a name is too long for the file system.
        NotEmptyError: An image exists, or a stick is in use, holds other data, or is a disk of this machine.
        CapacityError: A stick, a disc or the work folder's disk is too small; `why` gives both numbers.
        SigningError: The release is not sealed by enough people.
    """
    planned = []
    for volume, place in choose(work, destinations):
        require_sealed(work, volume, ceremony=ceremony)
        files = tuple(planned_files(work, volume))
        tree = tree_of(files, work.root)
        require_names_fit(tree, job.kind)
        size = job.kind.size(tree)
        device, holds = None, ""
        if place.is_block_device():
            device = BlockDevice.open(place)
            device.require_unused()
            holds = device.require_empty(job.erase)
            require_fits(size, device, is_partitioned=job.kind.is_partitioned, number=volume.number)
        else:
            require_absent(place)
        if job.most is not None and size > job.most:
            raise CapacityError(
                what=f"volume {volume.number} does not fit the disc",
                why=f"its image takes up to {size:,} bytes, the disc holds {job.most:,}",
                fix="use a larger disc, or plan again with --capacity",
            )
        planned.append(
            PlannedImage(volume=volume, place=place, device=device, files=files, image_bytes=size, holds=holds)
        )
    _require_room(planned, work=work, job=job)
    return tuple(planned)


def write_images(
    work: WorkFolder,
    destinations: Mapping[int, Path],
    *,
    job: ImageJob,
    ceremony: Ceremony,
    hand_over: HandOver | None = None,
    progress: Progress = no_progress,
) -> tuple[WrittenVolume, ...]:
    """Write volumes as images and read them back.

    Args:
        work: A work folder whose release is sealed by enough people.
        destinations: An image file or a block device for each volume, by number.
        job: Which file system, and what may be lost.
        ceremony: Under whose root it was sealed.
        hand_over: Enters the first hand-over, since nothing can be added to some images later.
        progress: Called with bytes done, bytes in all, and what is being done.

    Raises:
        SealiftError: As `plan_images`; nothing was written anywhere.
        ReadBackError: What came back is not what was sealed.
        UnreadableError: An image or a stick could not be written.
    """
    planned = plan_images(work, destinations, job=job, ceremony=ceremony)
    index, release = volume_index(work), ReleasePlan.load(work.plan)
    at = int(datetime.fromisoformat(release.created).timestamp())
    written = []
    for place in {work.root, job.scratch or work.root}:
        take_away(place, _IMAGE)
    for each in planned:
        number = each.volume.number
        facts = ImageFacts(serial=index.serial, number=number, volume_id=each.volume.id, at=at)
        with lent(work.root, _IMAGE) as scratch:
            tree = _stage(each, scratch, job=job, hand_over=hand_over, progress=progress)
            if each.device is None:
                image = each.place
                made = make_image(tree, image, kind=job.kind, facts=facts, progress=progress)
                written.append(_written(each, made.read_back, f"{job.kind.title} image, SHA-256 {file_sha256(image)}"))
                continue
            with lent(job.scratch or work.root, _IMAGE) as beside:
                image = beside / f"volume-{number}.img"
                made = make_image(tree, image, kind=job.kind, facts=facts, progress=progress)
                past_cache = burn(image, each.device, number=number, progress=progress)
            written.append(
                _written(each, _proof(made, past_cache=past_cache), f"{job.kind.title} on {each.device.title}")
            )
    return tuple(written)


def _stage(
    planned: PlannedImage, folder: Path, *, job: ImageJob, hand_over: HandOver | None, progress: Progress
) -> Tree:
    number = planned.volume.number
    lay_out(planned.files, folder, label=f"volume {number}: laying out", progress=progress)
    if hand_over is not None:
        # It leaves this machine only when the comparison that it speaks of was passed: else image and stick are void.
        hand_over(number, folder, f"written as {job.kind.title} and compared byte by byte, seals put on")
    return tree_of(planned.files, folder)


def _written(planned: PlannedImage, read_back: ReadBack, carrier: str) -> WrittenVolume:
    return WrittenVolume(
        number=planned.volume.number,
        id=planned.volume.id,
        files=read_back.files,
        bytes=read_back.bytes,
        read_back=read_back,
        carrier=carrier,
    )


def _proof(made: MadeImage, *, past_cache: bool) -> ReadBack:
    """Return what was shown of a stick: what the image's files showed, as far as the stick itself gave the bytes."""
    return ReadBack(files=made.read_back.files, bytes=made.read_back.bytes, past_cache=past_cache)


def _require_room(planned: list[PlannedImage], *, work: WorkFolder, job: ImageJob) -> None:
    """Pass only when every disk that images are made on has room for what is made there at one time."""
    needs: dict[Path, int] = {}
    on_sticks = [each.image_bytes for each in planned if each.device is not None]
    if on_sticks:
        needs[job.scratch or work.root] = max(on_sticks)
    for each in planned:
        if each.device is None:
            needs[each.place.parent] = needs.get(each.place.parent, 0) + each.image_bytes
    copied = max(copied_bytes(each.files, work.root) for each in planned)
    by_disk: dict[int, tuple[Path, int]] = {}
    for folder, needed in (*needs.items(), (work.root, copied)):
        disk = folder.stat().st_dev
        by_disk[disk] = (folder, by_disk.get(disk, (folder, 0))[1] + needed)
    for folder, needed in by_disk.values():
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise CapacityError(
                what="there is no room to make the images",
                why=f"they need {needed:,} bytes, the disk has {free:,}",
                fix="free some space, write fewer volumes at once, or name another disk with --scratch",
            )
