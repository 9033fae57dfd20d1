"""`sealift-bundler hand-in` and `take`: carry signatures between machines that share nothing."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from bundler.chunks import LARGEST_FILE, read_small_files, to_lines, write_codes
from bundler.cli import context as shared
from bundler.cli.bars import NOT_WRITTEN, CeremonyFolder, DryRun, Person, Work, byte_bar, require_folder
from bundler.handin import HandIn, Part, hand_in, take
from bundler.lent import lent, take_away
from bundler.signatory import Ceremony
from bundler.workfolder import WorkFolder
from media import durable

_DRY: Final = ".sealift-dry-"


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("hand-in")
    def hand_in_command(
        context: typer.Context,
        work: Work,
        ceremony: CeremonyFolder,
        person: Person,
        out: Annotated[Path | None, typer.Option("--out", help="The file; PERSON.hand-in.json here.")] = None,
        codes: Annotated[
            Path | None, typer.Option("--codes", help="Also write it as QR codes and lines into this folder.")
        ] = None,
        only: Annotated[
            list[Part] | None, typer.Option("--only", help="Hand in only this, once the others have the rest.")
        ] = None,
        dry_run: DryRun = False,
    ) -> None:
        """Write what you signed of a release, statements, metadata and seals, as one small file."""
        found = hand_in(WorkFolder(root=work), person, ceremony=Ceremony.load(ceremony), only=only or tuple(Part))
        data, target = found.to_bytes(), out or Path(f"{person}.hand-in.json")
        require_folder(target)
        lines = to_lines(data) if codes is not None or len(data) <= LARGEST_FILE else ()
        if not dry_run:
            durable.replace(target, data, mode=0o644)
        if codes is not None and not dry_run:
            write_codes(codes, target.stem, data, at=shared.of(context).clock.now())
        facts = {
            "file": target.name,
            "bytes": len(data),
            "codes": len(lines),
            "statements": sorted(found.statements),
            "signed": found.signatures is not None,
            "sealed_volumes": sorted(found.seals),
            "dry_run": dry_run,
        }
        done = [
            f"{len(found.statements)} statements",
            "metadata" if found.signatures else "",
            "seals" if found.seals else "",
        ]
        carried = f"{len(lines)} codes" if lines else "too large for codes: carry the file itself"
        text = f"{target.name}: {', '.join(filter(None, done))}; {len(data):,} bytes, {carried}"
        shared.of(context).result(facts, f"{text}; {NOT_WRITTEN}" if dry_run else text)

    @app.command("take")
    def take_command(
        context: typer.Context,
        work: Work,
        handed_in: Annotated[
            list[Path], typer.Argument(metavar="FILE...", help="What others handed in: files, or lines of codes.")
        ],
        ceremony: CeremonyFolder,
        dry_run: DryRun = False,
    ) -> None:
        """Verify what others handed in over the bytes here, and put it into this work folder."""
        ours = shared.of(context)
        files = [HandIn.from_bytes(data) for data in read_small_files(handed_in)]
        with ExitStack() as stack:
            place = stack.enter_context(_twin(WorkFolder(root=work))) if dry_run else WorkFolder(root=work)
            progress = stack.enter_context(byte_bar(ours))
            done = take(place, files, ceremony=Ceremony.load(ceremony), progress=progress)
        lines = [
            f"taken from {', '.join(done.people)}",
            f"signed by {', '.join(done.signed)}; {done.threshold} are needed",
        ]
        if done.frozen:
            lines.append(f"the metadata is frozen; sealed by {', '.join(done.sealed_by) or 'nobody yet'}")
        if done.sheet:
            lines += [f"release code {done.code}", f"next: sealift-bundler write {work} FOLDER..."]
        if dry_run:
            lines = [f"all of it holds; so it would be: {lines[0]}", *lines[1:], "nothing was put into the work folder"]
        ours.result({**asdict(done), "dry_run": dry_run}, "\n".join(lines))


@contextmanager
def _twin(work: WorkFolder) -> Iterator[WorkFolder]:
    """Lend a throwaway copy of a work folder; its payload, which nothing here writes to, is shared by links."""
    above = work.root.absolute().parent
    take_away(above, _DRY)
    with lent(above, _DRY) as folder:
        twin = WorkFolder(root=folder / "w")
        shutil.copytree(work.root, twin.root, ignore=lambda at, _: ["data"] if Path(at) == work.candidate else [])
        twin.data.symlink_to(work.data.absolute())
        yield twin
