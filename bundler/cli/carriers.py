"""What `write` and `remake` share: what a volume is written onto, the first hand-over, what a stick loses for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from bundler.cli.context import Context
from bundler.custody import HandedOver, hand_over, require_first
from bundler.dispatch import record_erased, record_sent, record_written, require_receiver
from bundler.errors import SigningError
from bundler.images.kinds import KINDS, kind_of
from bundler.imagewrite import ImageJob, PlannedImage, plan_images, write_images
from bundler.measure import Progress
from bundler.mediasizes import size_of
from bundler.privatekeys import PrivateKeys
from bundler.register import Register
from bundler.room import require_room
from bundler.seal import require_sealed
from bundler.signatory import Ceremony
from bundler.volumefiles import planned_files, volume_index
from bundler.workfolder import WorkFolder
from bundler.write import WrittenVolume, choose, require_empty, write
from media.errors import UsageError
from media.people import Role

Format = Annotated[
    str,
    typer.Option(
        "--format",
        help=f"Write images, into files or onto sticks (/dev/sdX): {', '.join(KINDS)}. Else folders of mounted media.",
        autocompletion=lambda: list(KINDS),
    ),
]
Erase = Annotated[
    list[str] | None,
    typer.Option("--erase", help="The serial number or path of a stick that may lose what it holds, typed exactly."),
]
DiscSize = Annotated[
    str, typer.Option("--disc", help="Refuse an image that is larger than this disc: dvd, bd, bd-dl, or bytes.")
]
Scratch = Annotated[
    Path | None, typer.Option("--scratch", help="Where images for sticks are made; else in the work folder.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstHolder:
    """Who puts the seals on and who takes the media; nobody is entered when `person` is empty."""

    person: str
    to: str
    place: str
    keys: PrivateKeys
    seals: Mapping[int, tuple[str, ...]]
    again: bool = False

    def facts(self, number: int, name: str, condition: str) -> HandedOver:
        """Return the first hand-over of a volume, by the name of who enters it."""
        return HandedOver(
            sender=name,
            receiver=self.to or name,
            place=self.place,
            seals=self.seals.get(number, ()),
            condition=condition,
        )


def image_job(name: str, *, erase: list[str] | None, disc: str, scratch: Path | None) -> ImageJob | None:
    """Return how images are made, or None where folders are written.

    Raises:
        UsageError: There is no such format, or an option is for images only.
    """
    if not name:
        if erase or disc or scratch:
            raise UsageError(what="--erase, --disc and --scratch are for images", fix="add --format, such as exfat")
        return None
    if scratch is not None and not scratch.is_dir():
        raise UsageError(what="the folder of --scratch does not exist", fix="make it, or choose another")
    return ImageJob(kind=kind_of(name), erase=tuple(erase or ()), most=size_of(disc) if disc else None, scratch=scratch)


def require_holder(
    work: WorkFolder, places: Mapping[int, Path], holder: FirstHolder, context: Context, *, ceremony: Ceremony
) -> None:
    """Pass only when what is to be entered of the media can be; asked before anything is written, and by dry runs.

    Raises:
        SigningError: The person may not enter custody.
        UsageError: A name, the place or a seal cannot be entered as it was typed.
    """
    require_custodian(ceremony, holder.person)
    if holder.to:
        require_receiver(holder.to, holder.person)
    if not holder.person or not work.is_frozen:
        return
    index = volume_index(work)
    for volume in index.volumes:
        if volume.number in places:
            facts = holder.facts(volume.number, ceremony.person(holder.person).name, "written")
            require_first(index.release, volume.id, holder.person, facts, clock=context.clock)


def require_custodian(ceremony: Ceremony, person: str) -> None:
    """Pass only when a person may enter the first hand-over, or nobody was named; asked before anything is written.

    Raises:
        SigningError: The root names no such person, or does not give them the role.
    """
    if person and Role.CUSTODY not in ceremony.person(person).roles:
        raise SigningError(
            what=f"{ceremony.person(person).name} may not enter custody",
            why="the root does not give the role custody",
            fix="name a person who may with --person, or write without and enter the hand-over later",
        )


def show_plan(
    work: WorkFolder, places: Mapping[int, Path], *, job: ImageJob | None, ceremony: Ceremony
) -> tuple[list[dict[str, Any]], str]:
    """Check all that a run would check first and return where each volume would go, with both numbers.

    Raises:
        SealiftError: What the run itself would raise before it writes.
    """
    if job is not None:
        planned = plan_images(work, places, job=job, ceremony=ceremony)
        return [each.to_json() for each in planned], "\n".join(each.to_text() for each in planned)
    _require_no_device(list(places.values()))
    rows, lines = [], []
    chosen = choose(work, places)
    for volume, _ in chosen:
        require_sealed(work, volume, ceremony=ceremony)
    for volume, folder in chosen:
        require_empty(folder, volume)
        room = require_room(folder, planned_files(work, volume), number=volume.number)
        rows.append({"number": volume.number, "id": volume.id, "destination": folder.name, **room.to_json()})
        lines.append(f"volume {volume.number}: needs {room.needed:,} bytes of {room.free:,} free in {folder.name}")
    return rows, "\n".join(lines)


def put(
    work: WorkFolder,
    places: Mapping[int, Path],
    *,
    job: ImageJob | None,
    ceremony: Ceremony,
    holder: FirstHolder,
    register: Register,
    context: Context,
    progress: Progress,
) -> tuple[tuple[WrittenVolume, str], ...]:
    """Write volumes onto what was named, enter the first hand-overs, and record each medium as soon as it exists.

    What a stick loses is recorded before it does. Whoever calls has checked all places with `show_plan`.

    Returns:
        Each volume with the name of its medium in the register.

    Raises:
        SealiftError: What writing, custody and register raise.
    """

    def first(number: int, folder: Path, condition: str) -> None:
        facts = holder.facts(number, ceremony.person(holder.person).name, condition)
        hand_over(folder, holder.person, facts, ceremony=ceremony, clock=context.clock, home=holder.keys)

    done = []
    for number, place in sorted(places.items()):
        if job is not None:
            _record_erased(plan_images(work, {number: place}, job=job, ceremony=ceremony), holder, register, context)
            entered = first if holder.person else None
            (volume,) = write_images(
                work, {number: place}, job=job, ceremony=ceremony, hand_over=entered, progress=progress
            )
        else:
            (volume,) = write(work, {number: place}, ceremony=ceremony, progress=progress)
        # Before the hand-over, which may fail: a medium that nobody handed over exists all the same.
        medium = record_written(register, work, volume, clock=context.clock, by=holder.person, again=holder.again)
        if job is None and holder.person:
            first(number, place, f"{volume.read_back.says}, seals put on")
        if holder.to:
            record_sent(register, medium, to=holder.to, by=holder.person, clock=context.clock)
        done.append((volume, medium))
    return tuple(done)


def _record_erased(planned: Sequence[PlannedImage], holder: FirstHolder, register: Register, context: Context) -> None:
    for each in planned:
        if each.device is not None and each.holds:
            context.say(f"{each.device.title}: {each.holds} will be lost")
            record_erased(register, each.device.title, held=each.holds, by=holder.person, clock=context.clock)


def _require_no_device(places: Sequence[Path]) -> None:
    if odd := next((place for place in places if place.is_block_device()), None):
        raise UsageError(
            what=f"{odd.name} is a device and no folder",
            why="the file system for it was not named",
            fix="add --format exfat (or vfat, ext4, udf, iso9660), or mount it and name the folder",
        )
