"""`sealift-bundler remake`: write one volume again, for a medium that was lost or damaged."""

from pathlib import Path
from typing import Annotated

import typer

from bundler.cli import context as shared
from bundler.cli.bars import CeremonyFolder, Home, RegisterFolder, Work, byte_bar, register_at
from bundler.custody import HandedOver, hand_over
from bundler.dispatch import record_written
from bundler.remake import remake
from bundler.signatory import Ceremony
from bundler.workfolder import WorkFolder


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("remake")
    def command(
        context: typer.Context,
        work: Work,
        destination: Annotated[Path, typer.Argument(help="An empty, mounted medium.")],
        ceremony: CeremonyFolder,
        number: Annotated[int, typer.Option("--volume", help="The volume's number, as the site's error names it.")],
        person: Annotated[
            str, typer.Option("--person", help="Who puts the seals on: enters the first hand-over.")
        ] = "",
        home: Home = None,
        to: Annotated[str, typer.Option("--to", help="Who takes the medium; the person who writes if left out.")] = "",
        place: Annotated[str, typer.Option("--place", help="Where, for custody.")] = "bundling machine",
        seals: Annotated[
            list[str] | None, typer.Option("--seal", help="A seal number as put on; reserved ones raise no question.")
        ] = None,
        register_folder: RegisterFolder = None,
    ) -> None:
        """Write one volume again, byte by byte as it was sealed, read it back, and show that its signatures hold."""
        ours, held = shared.of(context), Ceremony.load(ceremony)
        folder, register = WorkFolder(root=work), register_at(register_folder, ceremony)
        register.entries()  # one that cannot be read is found before anything is written
        with byte_bar(ours) as progress:
            made = remake(folder, number, destination, ceremony=held, progress=progress)
        if person:
            name = held.person(person).name
            facts = HandedOver(
                sender=name,
                receiver=to or name,
                place=place,
                seals=tuple(seals or ()),
                condition=f"written again, {made.volume.read_back.says}",
            )
            hand_over(destination, person, facts, ceremony=held, clock=ours.clock, home=home)
        medium = record_written(register, folder, made.volume, clock=ours.clock, to=to, again=True)
        ours.result(
            {
                "medium": medium,
                "release": made.release,
                "serial": made.serial,
                "code": made.code,
                "number": made.volume.number,
                "id": made.volume.id,
                "files": made.volume.files,
                "bytes": made.volume.bytes,
                "read_back": made.volume.read_back.says,
                "tag_manifest_sha256": made.tag_manifest_sha256,
                "signatures_hold": list(made.signers),
            },
            f"{made.to_text()}\n  register      {medium}",
        )
