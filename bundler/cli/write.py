"""`sealift-bundler write`: write sealed volumes to media and read every byte back."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from bundler.cli import context as shared
from bundler.cli.bars import (
    CeremonyFolder,
    Home,
    KeyPlaces,
    RegisterFolder,
    SecretFd,
    Work,
    byte_bar,
    numbered,
    own_keys,
    register_at,
)
from bundler.cli.carriers import (
    DiscSize,
    Erase,
    FirstHolder,
    Format,
    Scratch,
    image_job,
    put,
    require_holder,
    show_plan,
)
from bundler.cli.seal import volume_plan, volume_text
from bundler.seal import trust_sheet
from bundler.signatory import Ceremony
from bundler.volumechoice import VolumeChoice, describe
from bundler.volumefiles import volume_index
from bundler.workfolder import WorkFolder
from bundler.write import WrittenVolume
from media.errors import UsageError

_NUMBERED = re.compile(r"[^/=]*=")


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("write")
    def command(
        context: typer.Context,
        work: Work,
        destinations: Annotated[
            list[str],
            typer.Argument(
                help="For each volume in order, or N=PLACE for some: an empty, mounted medium; with --format an image"
                " file that does not exist, or a stick such as /dev/sdb."
            ),
        ],
        ceremony: CeremonyFolder,
        image_format: Format = "",
        erase: Erase = None,
        disc: DiscSize = "",
        scratch: Scratch = None,
        person: Annotated[
            str, typer.Option("--person", help="Who puts the seals on: enters the first hand-over.")
        ] = "",
        home: Home = None,
        key: KeyPlaces = None,
        secret_fd: SecretFd = None,
        to: Annotated[str, typer.Option("--to", help="Who takes the media; the person who writes if left out.")] = "",
        place: Annotated[str, typer.Option("--place", help="Where, for custody.")] = "bundling machine",
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Check everything and show what would go where; write nothing.")
        ] = False,
        register_folder: RegisterFolder = None,
    ) -> None:
        """Write each volume whole or not at all, read it back from the device, and print the trust sheet."""
        ours, folder, held = shared.of(context), WorkFolder(root=work), Ceremony.load(ceremony)
        places = _destinations(destinations, folder)
        job = image_job(image_format, erase=erase, disc=disc, scratch=scratch)
        holder = FirstHolder(
            person=person,
            to=to,
            place=place,
            keys=own_keys(home, key, secret_fd),
            seals=VolumeChoice.load(folder).seals if folder.is_frozen else {},
        )
        require_holder(folder, places, holder, ours, ceremony=held)
        book = register_at(register_folder, ceremony)
        book.entries()  # one that cannot be read is found before anything is written
        if dry_run:
            _show(ours, folder, held, places=places, job=job)
            return
        show_plan(folder, places, job=job, ceremony=held)  # what cannot be done is said before a bar is drawn
        sheet = trust_sheet(folder, ceremony=held)  # of all volumes, also where only some are written now
        with byte_bar(ours) as progress:
            done = put(
                folder, places, job=job, ceremony=held, holder=holder, register=book, context=ours, progress=progress
            )
        for volume, medium in done:
            ours.say(f"volume {volume.number}: {volume.files} files, {volume.bytes:,} bytes, {volume.read_back.says}")
            if volume.carrier:
                ours.say(f"  {volume.carrier}")
            ours.say(f"  in the register as {medium}")
        volumes = [{**_facts(volume), "medium": medium} for volume, medium in done]
        ours.result({"sheet": sheet.to_json(), "volumes": volumes}, sheet.to_text())


def _show(ours: shared.Context, folder: WorkFolder, held: Ceremony, *, places: dict[int, Path], job: Any) -> None:
    if not folder.is_frozen:
        with byte_bar(ours) as progress:
            volumes = volume_plan(folder, None, progress=progress)
        ours.result({"volumes": volumes}, volume_text(volumes))
        return
    volumes = describe(volume_index(folder), VolumeChoice.load(folder))
    rows, text = show_plan(folder, places, job=job, ceremony=held)
    trust_sheet(folder, ceremony=held)
    ours.result({"volumes": volumes, "destinations": rows}, f"{volume_text(volumes)}\n{text}\nnothing was written")


def _destinations(texts: list[str], folder: WorkFolder) -> dict[int, Path]:
    named = [text for text in texts if _NUMBERED.match(text)]
    if named and len(named) != len(texts):
        raise UsageError(
            what=f"{next(text for text in texts if text not in named)!r} does not say which volume",
            why=f"{named[0]!r} does",
            fix="give one place for each volume in order, or N=PLACE for each; a folder of such a name is ./N=NAME",
        )
    if named:
        pairs = numbered(texts, option="destination")
        if len({number for number, _ in pairs}) != len(pairs):
            raise UsageError(what="a volume is given two destinations", fix="write copies one after the other")
        return {number: Path(place) for number, place in pairs}
    if folder.is_frozen and len(texts) != (count := len(volume_index(folder).volumes)):
        raise UsageError(
            what=f"{len(texts)} destinations for {count} volumes",
            why="each volume needs a medium of its own",
            fix="give one for each volume in order, or N=PLACE for some",
        )
    return {number: Path(text) for number, text in enumerate(texts, start=1)}


def _facts(volume: WrittenVolume) -> dict[str, Any]:
    return {
        "number": volume.number,
        "id": volume.id,
        "files": volume.files,
        "bytes": volume.bytes,
        "carrier": volume.carrier,
        "read_back": volume.read_back.says,
        "verified": volume.read_back.past_cache,
    }
