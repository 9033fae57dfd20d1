"""`sealift-bundler write`: write sealed volumes to media and read every byte back."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bundler.cli import context as shared
from bundler.cli.bars import CeremonyFolder, Home, RegisterFolder, Work, byte_bar, numbered, register_at
from bundler.cli.seal import volume_plan, volume_text
from bundler.custody import HandedOver, hand_over
from bundler.dispatch import record_written
from bundler.image import write_image
from bundler.seal import trust_sheet
from bundler.signatory import Ceremony
from bundler.volumechoice import VolumeChoice
from bundler.volumefiles import planned_files, volume_index
from bundler.workfolder import WorkFolder
from bundler.write import WrittenVolume, write
from media.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("write")
    def command(
        context: typer.Context,
        work: Work,
        destinations: Annotated[
            list[str], typer.Argument(help="An empty, mounted medium for each volume in order, or N=FOLDER for some.")
        ],
        ceremony: CeremonyFolder,
        images: Annotated[
            list[str] | None, typer.Option("--image", help="Also make an ext4 image of a volume, as N=FILE.")
        ] = None,
        person: Annotated[
            str, typer.Option("--person", help="Who puts the seals on: enters the first hand-over.")
        ] = "",
        home: Home = None,
        to: Annotated[str, typer.Option("--to", help="Who takes the media; the person who writes if left out.")] = "",
        place: Annotated[str, typer.Option("--place", help="Where, for custody.")] = "bundling machine",
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which volume carries what.")] = False,
        register_folder: RegisterFolder = None,
    ) -> None:
        """Write each volume whole or not at all, read it back from the device, and print the trust sheet."""
        ours, folder, held = shared.of(context), WorkFolder(root=work), Ceremony.load(ceremony)
        if dry_run:
            with byte_bar(ours) as progress:
                volumes = volume_plan(folder, None, progress=progress)
            ours.result({"volumes": volumes}, volume_text(volumes))
            return
        places = _destinations(destinations)
        wanted = dict(numbered(images, option="--image"))
        if unknown := sorted(set(wanted) - set(places)):
            raise UsageError(what=f"volume {unknown[0]} is not written", fix="make images of volumes that are")
        register = register_at(register_folder, ceremony)
        register.entries()  # one that cannot be read is found before anything is written
        with byte_bar(ours) as progress:
            written = write(folder, places, ceremony=held, progress=progress)
            for volume in written:
                if person:
                    facts = _first_hand_over(folder, held, volume, person=person, to=to, place=place)
                    hand_over(places[volume.number], person, facts, ceremony=held, clock=ours.clock, home=home)
            for number, file in sorted(wanted.items()):
                chosen = next(each for each in volume_index(folder).volumes if each.number == number)
                expected = {each.name: each.sha256 for each in planned_files(folder, chosen)}
                write_image(places[number], Path(file), number=number, expected=expected, progress=progress)
        sheet = trust_sheet(folder, ceremony=held)
        media = {each.number: record_written(register, folder, each, clock=ours.clock, to=to) for each in written}
        for volume in written:
            ours.say(f"volume {volume.number}: {volume.files} files, {volume.bytes:,} bytes, {volume.read_back.says}")
            ours.say(f"  in the register as {media[volume.number]}")
        volumes = [{**_facts(volume), "medium": media[volume.number]} for volume in written]
        ours.result({"sheet": sheet.to_json(), "volumes": volumes}, sheet.to_text())


def _destinations(texts: list[str]) -> dict[int, Path]:
    if all("=" in text for text in texts):
        return {number: Path(folder) for number, folder in numbered(texts, option="destination")}
    return {number: Path(text) for number, text in enumerate(texts, start=1)}


def _first_hand_over(
    folder: WorkFolder, held: Ceremony, volume: WrittenVolume, *, person: str, to: str, place: str
) -> HandedOver:
    name = held.person(person).name
    return HandedOver(
        sender=name,
        receiver=to or name,
        place=place,
        seals=tuple(VolumeChoice.load(folder).seals.get(volume.number, ())),
        condition=f"{volume.read_back.says}, seals put on",
    )


def _facts(volume: WrittenVolume) -> dict[str, Any]:
    return {
        "number": volume.number,
        "id": volume.id,
        "files": volume.files,
        "bytes": volume.bytes,
        "read_back": volume.read_back.says,
    }
