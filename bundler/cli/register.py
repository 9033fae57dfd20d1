"""`sealift-bundler register`: what was sent where, what came back, and what never did."""

from pathlib import Path
from typing import Annotated

import typer

from bundler import dispatch
from bundler.cli import context as shared
from bundler.cli.bars import RegisterFolder, register_at
from bundler.dispatch import MediumState
from bundler.ledgernote import LedgerKey
from bundler.receipt import MAX_BYTES
from media.errors import UnreadableError

_Ceremony = Annotated[
    Path | None, typer.Option("--ceremony", help="Its register/ is the register.", envvar="SEALIFT_CEREMONY")
]
_Medium = Annotated[str, typer.Argument(help="The medium, as RELEASE/VOLUME/COPY.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="What was written, sent and received, and which media never came back.")
    app.add_typer(group, name="register", no_args_is_help=True)

    @group.command("list")
    def list_command(context: typer.Context, folder: RegisterFolder = None, ceremony: _Ceremony = None) -> None:
        """List every medium and where it is."""
        media = dispatch.media_of(register_at(folder, ceremony).entries())
        shared.of(context).result({"media": [each.to_json() for each in media]}, _text(media, "no medium was written"))

    @group.command("missing")
    def missing_command(
        context: typer.Context,
        days: Annotated[int, typer.Option("--days", min=0, help="Only media that are away for so many days.")] = 0,
        folder: RegisterFolder = None,
        ceremony: _Ceremony = None,
    ) -> None:
        """List the media that were sent and never came back."""
        ours = shared.of(context)
        media = dispatch.missing(register_at(folder, ceremony).entries(), clock=ours.clock, days=days)
        ours.result({"media": [each.to_json() for each in media]}, _text(media, "no medium is away"))

    @group.command("sent")
    def sent_command(
        context: typer.Context,
        medium: _Medium,
        to: Annotated[str, typer.Option("--to", help="Who has it now: a site or a courier.")],
        by: Annotated[str, typer.Option("--by", help="Who gave it.")] = "",
        folder: RegisterFolder = None,
        ceremony: _Ceremony = None,
    ) -> None:
        """Enter that a medium left."""
        ours = shared.of(context)
        dispatch.record_sent(register_at(folder, ceremony), medium, to=to, by=by, clock=ours.clock)
        ours.result({"medium": medium, "to": to}, f"entered: {medium} is with {to}")

    @group.command("returned")
    def returned_command(
        context: typer.Context,
        medium: _Medium,
        by: Annotated[str, typer.Option("--by", help="Who brought it, or destroyed it.")] = "",
        condition: Annotated[str, typer.Option("--condition", help="What was seen, in a sentence.")] = "",
        destroyed: Annotated[bool, typer.Option("--destroyed", help="It was destroyed where it was.")] = False,
        folder: RegisterFolder = None,
        ceremony: _Ceremony = None,
    ) -> None:
        """Enter that a medium came back, or that it was destroyed."""
        ours = shared.of(context)
        place = register_at(folder, ceremony)
        dispatch.record_returned(place, medium, by=by, condition=condition, destroyed=destroyed, clock=ours.clock)
        ended = "destroyed" if destroyed else "returned"
        ours.result({"medium": medium, "state": ended}, f"entered: {medium} is {ended}")

    @group.command("site")
    def site_command(
        context: typer.Context,
        site: Annotated[str, typer.Argument(help="The site's name.")],
        key: Annotated[Path, typer.Option("--key", help="The site's ledger.pub, compared by telephone.")],
        replaces: Annotated[bool, typer.Option("--replace", help="The site's ledger has a new key.")] = False,
        folder: RegisterFolder = None,
        ceremony: _Ceremony = None,
    ) -> None:
        """Register the key that signs a site's receipts."""
        ours = shared.of(context)
        known = LedgerKey.from_text(_content(key).decode("utf-8", errors="replace"))
        dispatch.record_site(register_at(folder, ceremony), site, known, replaces=replaces, clock=ours.clock)
        ours.result(
            {"site": site, "ledger_key": known.to_text()}, f"receipts of {site} are signed by {known.to_text()}"
        )

    @group.command("receipt")
    def receipt_command(
        context: typer.Context,
        file: Annotated[Path, typer.Argument(help="The receipt that the site sent back.")],
        folder: RegisterFolder = None,
        ceremony: _Ceremony = None,
    ) -> None:
        """Verify a receipt and enter it."""
        ours = shared.of(context)
        found, is_new = dispatch.record_receipt(register_at(folder, ceremony), _content(file), clock=ours.clock)
        numbers = [each.number for each in found.volumes]
        custody = "complete" if found.custody_complete else f"with {found.findings} findings"
        lines = [
            f"{found.site}: {found.outcome} {found.release}, serial {found.serial}, at {found.at}",
            f"  volumes {', '.join(map(str, numbers))} as they were sealed; custody {custody}",
            f"  vouched for by the site's ledger key ({' and '.join(found.vouched_by)})",
            "  entered" if is_new else "  it was entered before",
        ]
        ours.result(
            {
                "site": found.site,
                "outcome": found.outcome,
                "release": found.release,
                "serial": found.serial,
                "code": found.code,
                "at": found.at,
                "volumes": numbers,
                "custody_complete": found.custody_complete,
                "findings": found.findings,
                "vouched_by": list(found.vouched_by),
                "is_new": is_new,
            },
            "\n".join(lines),
        )


def _text(media: tuple[MediumState, ...], none: str) -> str:
    return "\n".join(each.to_text() for each in media) or none


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as source:
            return source.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableError(
            what=f"{file.name} cannot be read", why=error.strerror or "input/output error", fix="name the file"
        ) from error
