"""`sealift-bundler emergency`: the note by which root people take keys away from every site, by paper if need be."""

from pathlib import Path
from typing import Annotated

import typer

from bundler import emergency as action
from bundler.cli import context as shared
from bundler.cli.bars import (
    NOT_WRITTEN,
    CeremonyFolder,
    DryRun,
    Home,
    KeyPlaces,
    Person,
    SecretFd,
    moment_of,
    own_keys,
    require_new,
)
from bundler.emergency import NoteState
from bundler.signatory import Ceremony
from media.emergency import MOST_ENVELOPE_BYTES, Reason
from media.errors import UsageError

_USES = ("root", "release")
_Note = Annotated[Path, typer.Argument(metavar="NOTE", help="The note, as its last signer left it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Take stolen or lost keys away from every site, before the next medium.")
    app.add_typer(group, name="emergency", no_args_is_help=True)

    @group.command("draft")
    def draft_command(
        context: typer.Context,
        ceremony: CeremonyFolder,
        destination: Annotated[Path, typer.Argument(metavar="NOTE", help="The file to write.")],
        revoke: Annotated[
            list[str], typer.Option("--revoke", metavar="PERSON[:root|release]", help="Whose keys; may be repeated.")
        ],
        number: Annotated[int, typer.Option("--number", min=1, help="One more than the last note of this sender.")],
        since: Annotated[str, typer.Option("--since", metavar="RFC3339", help="From when on they are in doubt.")],
        reason: Annotated[Reason, typer.Option("--reason", help="Why.")] = Reason.STOLEN,
        dry_run: DryRun = False,
    ) -> None:
        """Write a note that nobody has signed yet."""
        ours, held = shared.of(context), Ceremony.load(ceremony)
        note = action.draft(
            held,
            [_named(text) for text in revoke],
            number=number,
            reason=reason,
            since=moment_of(since),
            clock=ours.clock,
        )
        _write(destination, note.to_bytes(), dry_run=dry_run)
        after = NOT_WRITTEN if dry_run else f"next: sealift-bundler emergency sign {destination} SIGNED --person ID"
        ours.result(
            {**note.to_json(), "dry_run": dry_run},
            f"note {note.note} takes {len(note.keys)} keys away; {held.threshold('root')} root people sign it\n{after}",
        )

    @group.command("sign")
    def sign_command(
        context: typer.Context,
        note: _Note,
        destination: Annotated[Path, typer.Argument(metavar="SIGNED", help="The file to write; hand it on.")],
        ceremony: CeremonyFolder,
        person: Person,
        home: Home = None,
        key: KeyPlaces = None,
        secret_fd: SecretFd = None,
        dry_run: DryRun = False,
    ) -> None:
        """Add one root person's signature, on any machine; then hand the small file to the next."""
        ours, held = shared.of(context), Ceremony.load(ceremony)
        if dry_run:
            require_new(destination)
            begun = action.begun(_read(note), held, person)
            told = {**begun.to_json(), "would_sign": person, "dry_run": True}
            ours.result(told, f"{_text(begun)}\n{person} would sign; no key was used, {NOT_WRITTEN}")
            return
        signed = action.sign(_read(note), held, held.signatory(person, own_keys(home, key, secret_fd)))
        action.write(destination, signed)
        found = action.state(signed, held)
        ours.result(found.to_json(), _text(found))

    @group.command("show")
    def show_command(context: typer.Context, note: _Note, ceremony: CeremonyFolder) -> None:
        """Verify a note and tell who signed it so far."""
        found = action.state(_read(note), Ceremony.load(ceremony))
        shared.of(context).result(found.to_json(), _text(found))

    @group.command("print")
    def print_command(
        context: typer.Context,
        note: _Note,
        destination: Annotated[Path, typer.Argument(metavar="PDF", help="The sheet to write.")],
        ceremony: CeremonyFolder,
        dry_run: DryRun = False,
    ) -> None:
        """Print the finished note with its QR code, for sites that nothing else reaches in time."""
        untrusted = _read(note)
        _write(destination, action.sheet(untrusted, Ceremony.load(ceremony)), dry_run=dry_run)
        text = f"{destination.name}: {len(untrusted)} bytes in one code"
        told = {"bytes": len(untrusted), "dry_run": dry_run}
        shared.of(context).result(told, f"{text}; {NOT_WRITTEN}" if dry_run else text)


def _write(file: Path, data: bytes, *, dry_run: bool) -> None:
    if dry_run:
        require_new(file)
    else:
        action.write(file, data)


def _named(text: str) -> tuple[str, tuple[str, ...]]:
    person, _, use = text.partition(":")
    if use and use not in _USES:
        raise UsageError(what=f"{use!r} is no use of keys", why="", fix="write PERSON, PERSON:root or PERSON:release")
    return person, (use,) if use else ()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MOST_ENVELOPE_BYTES + 1).strip()
    except OSError as error:
        raise UsageError(what=f"{path.name} cannot be read", why=error.strerror or "", fix="name the note") from error


def _text(found: NoteState) -> str:
    people = [f"  {person or 'others'}: {', '.join(uses)}" for person, uses in sorted(found.people.items())]
    done = "complete: print it, and send it to every site" if found.complete else "ask the next root person to sign"
    return "\n".join(
        [
            f"note {found.note.note}: keys {found.note.reason}, in doubt since {found.note.to_json()['since']}",
            *people,
            f"  signed by {', '.join(found.signed) or 'nobody'}; {found.needed} needed",
            done,
        ]
    )
