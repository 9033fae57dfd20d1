"""A whole release signed, sealed and written by one program that holds all keys: for demo and rehearsal roots only.

It makes the calls that people make one by one, in the same order, and reads the candidate once for all of them; writing
hashes it again. A production root is refused: there the point is that no one machine holds two people's keys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.attest import attest, choose_volumes
from bundler.custody import HandedOver, hand_over
from bundler.errors import SigningError
from bundler.gpghome import short_homes
from bundler.measure import Progress, no_progress
from bundler.prepare import prepare
from bundler.seal import code_of, put_seals
from bundler.sign import sign
from bundler.signatory import Ceremony
from bundler.volumechoice import VolumeChoice
from bundler.workfolder import WorkFolder
from bundler.write import WrittenVolume, write
from media.clock import Clock
from media.people import Environment, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class OneGo:
    """What came of it."""

    code: str
    sheet: Path
    volumes: tuple[WrittenVolume, ...]


def release_in_one_go(
    work: WorkFolder,
    destinations: Mapping[int, Path] | Sequence[Path],
    *,
    ceremony: Ceremony,
    clock: Clock,
    choice: VolumeChoice | None = None,
    place: str = "the bundling machine",
    progress: Progress = no_progress,
) -> OneGo:
    """Attest, sign, seal, write, read back and hand over a candidate with throwaway keys.

    Args:
        work: Holds candidate/ and, in attest/, unsigned statements.
        destinations: An empty folder for each volume.
        ceremony: Of a demo or rehearsal root.
        clock: For the custody entries.
        choice: The volumes; one that holds everything if not given.
        place: For the custody entries.
        progress: Called while bytes are read and written.

    Raises:
        SigningError: The root is for production, or nobody in it may do what is needed.
        SealiftError: Whatever the single steps raise.
    """
    if ceremony.environment == Environment.PRODUCTION:
        raise SigningError(
            what="a production release is not signed in one go",
            why="one program would hold the keys of all people",
            fix="run attest, sign, seal and write, each person on their own",
        )
    packer = ceremony.people.with_role(Role.CUSTODY)[0]
    chosen = choice or VolumeChoice()
    with short_homes([ceremony.home_of(person.id) for person in ceremony.people.people]):
        if not work.volumes.exists():
            choose_volumes(work, packer.id, chosen, ceremony=ceremony, clock=clock, place=place, progress=progress)
        for person in (packer, *ceremony.people.people):
            attest(work, person.id, ceremony=ceremony)
        signers = ceremony.people.with_role(Role.RELEASE)[: ceremony.threshold("release")]
        prepared = prepare(work, ceremony=ceremony, progress=progress)
        for person in signers:
            sign(work, person.id, ceremony=ceremony, prepared=prepared)
        for person in signers[:-1]:
            put_seals(work, person.id, ceremony=ceremony)
        written = write(work, destinations, ceremony=ceremony, progress=progress)
        folders = destinations if isinstance(destinations, Mapping) else dict(enumerate(destinations, start=1))
        for volume in written:
            facts = HandedOver(
                sender=packer.name,
                receiver=packer.name,
                place=place,
                seals=tuple(chosen.seals.get(volume.number, ())),
                condition=f"{volume.read_back.says}, seals put on",
            )
            hand_over(folders[volume.number], packer.id, facts, ceremony=ceremony, clock=clock)
    return OneGo(code=code_of(work), sheet=work.sheet, volumes=written)
