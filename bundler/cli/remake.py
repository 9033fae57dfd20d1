"""`sealift-bundler remake`: write one volume again, for a medium that was lost or damaged."""

from pathlib import Path
from typing import Annotated

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
from bundler.remake import prove_remade
from bundler.signatory import Ceremony
from bundler.workfolder import WorkFolder
from media import layout


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("remake")
    def command(
        context: typer.Context,
        work: Work,
        destination: Annotated[
            Path, typer.Argument(help="An empty, mounted medium; with --format an image file or a stick.")
        ],
        ceremony: CeremonyFolder,
        number: Annotated[int, typer.Option("--volume", help="The volume's number, as the site's error names it.")],
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
        to: Annotated[str, typer.Option("--to", help="Who takes the medium; the person who writes if left out.")] = "",
        place: Annotated[str, typer.Option("--place", help="Where, for custody.")] = "bundling machine",
        seals: Annotated[
            list[str] | None, typer.Option("--seal", help="A seal number as put on; reserved ones raise no question.")
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Check everything and show what would be written; write nothing.")
        ] = False,
        register_folder: RegisterFolder = None,
    ) -> None:
        """Write one volume again, byte by byte as it was sealed, read it back, and show that its signatures hold."""
        ours, held = shared.of(context), Ceremony.load(ceremony)
        folder, places = WorkFolder(root=work), {number: destination}
        job = image_job(image_format, erase=erase, disc=disc, scratch=scratch)
        keys = own_keys(home, key, secret_fd)
        holder = FirstHolder(
            person=person, to=to, place=place, keys=keys, seals={number: tuple(seals or ())}, again=True
        )
        require_holder(folder, places, holder, ours, ceremony=held)
        book = register_at(register_folder, ceremony)
        book.entries()  # one that cannot be read is found before anything is written
        if dry_run:
            rows, text = show_plan(folder, places, job=job, ceremony=held)
            ours.result({"destinations": rows}, f"{text}\nnothing was written")
            return
        show_plan(folder, places, job=job, ceremony=held)  # what cannot be done is said before a bar is drawn
        with byte_bar(ours) as progress:
            ((written, medium),) = put(
                folder, places, job=job, ceremony=held, holder=holder, register=book, context=ours, progress=progress
            )
        release = folder.seal_of(number) if job is not None else destination / layout.RELEASE
        made = prove_remade(folder, written, release, ceremony=held)
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
                "carrier": made.volume.carrier,
                "read_back": made.volume.read_back.says,
                "verified": made.volume.read_back.past_cache,
                "tag_manifest_sha256": made.tag_manifest_sha256,
                "signatures_hold": list(made.signers),
            },
            f"{made.to_text()}\n  register      {medium}",
        )
