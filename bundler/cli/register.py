"""`sealift-bundler register`: what was sent where, what came back, and what never did."""

from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated

import typer

from bundler import dispatch
from bundler.cli import context as shared
from bundler.cli.bars import RegisterFolder, register_at
from bundler.dispatch import MediumState
from bundler.ledgernote import LedgerKey
from bundler.receipt import MAX_BYTES
from bundler.registertable import history, history_csv, history_text, media_csv
from bundler.siteevidence import known_evidence, record_evidence
from bundler.sitefigures import read_figures
from media.errors import UnreadableError, UsageError

_Ceremony = Annotated[
    Path | None, typer.Option("--ceremony", help="Its register/ is the register.", envvar="SEALIFT_CEREMONY")
]
_Medium = Annotated[str, typer.Argument(help="The medium, as RELEASE/VOLUME/COPY.")]
_Csv = Annotated[bool, typer.Option("--csv", help="As CSV, safe to open in a spreadsheet.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say whether it could be entered.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="What was written, sent and received, and which media never came back.")
    app.add_typer(group, name="register", no_args_is_help=True)

    _add_views(group)
    _add_evidence(group)
    _add_figures(group)

    @group.command("sent")
    def sent_command(
        context: typer.Context,
        medium: _Medium,
        to: Annotated[str, typer.Option("--to", help="Who has it now: a site or a courier.")],
        by: Annotated[str, typer.Option("--by", help="Who gave it.")] = "",
        due: Annotated[str, typer.Option("--due", help="By which day it is expected back, as 2026-12-24.")] = "",
        dry_run: _DryRun = False,
        folder: RegisterFolder = None,
        ceremony: _Ceremony = None,
    ) -> None:
        """Enter that a medium left."""
        ours = shared.of(context)
        book, day = register_at(folder, ceremony), _day(due)
        if dry_run:
            dispatch.sent(book.entries(), medium, to=to, by=by, due=day)
            ours.result({"medium": medium, "entered": False}, f"could be entered: {medium} is with {to}")
            return
        dispatch.record_sent(book, medium, to=to, by=by, clock=ours.clock, due=day)
        ours.result({"medium": medium, "to": to, "due": due, "entered": True}, f"entered: {medium} is with {to}")

    @group.command("returned")
    def returned_command(
        context: typer.Context,
        medium: _Medium,
        by: Annotated[str, typer.Option("--by", help="Who brought it, or destroyed it.")] = "",
        condition: Annotated[str, typer.Option("--condition", help="What was seen, in a sentence.")] = "",
        destroyed: Annotated[bool, typer.Option("--destroyed", help="It was destroyed where it was.")] = False,
        dry_run: _DryRun = False,
        folder: RegisterFolder = None,
        ceremony: _Ceremony = None,
    ) -> None:
        """Enter that a medium came back, or that it was destroyed."""
        ours = shared.of(context)
        place = register_at(folder, ceremony)
        if dry_run:
            dispatch.returned(place.entries(), medium, by=by, condition=condition, destroyed=destroyed)
            ours.result({"medium": medium, "entered": False}, f"could be entered: {medium}")
            return
        dispatch.record_returned(place, medium, by=by, condition=condition, destroyed=destroyed, clock=ours.clock)
        ended = "destroyed" if destroyed else "returned"
        ours.result({"medium": medium, "state": ended, "entered": True}, f"entered: {medium} is {ended}")

    @group.command("site")
    def site_command(
        context: typer.Context,
        site: Annotated[str, typer.Argument(help="The site's name.")],
        key: Annotated[Path, typer.Option("--key", help="The site's ledger.pub, compared by telephone.")],
        replaces: Annotated[bool, typer.Option("--replace", help="The site's ledger has a new key.")] = False,
        dry_run: _DryRun = False,
        folder: RegisterFolder = None,
        ceremony: _Ceremony = None,
    ) -> None:
        """Register the key that signs a site's receipts."""
        ours = shared.of(context)
        known = LedgerKey.from_text(_content(key).decode("utf-8", errors="replace"))
        book = register_at(folder, ceremony)
        if dry_run:
            dispatch.require_key_free(book.entries(), site, known, replaces=replaces)
        else:
            dispatch.record_site(book, site, known, replaces=replaces, clock=ours.clock)
        ours.result(
            {"site": site, "ledger_key": known.to_text(), "entered": not dry_run},
            f"{'could be entered: ' if dry_run else ''}receipts of {site} are signed by {known.to_text()}",
        )

    @group.command("receipt")
    def receipt_command(
        context: typer.Context,
        file: Annotated[Path, typer.Argument(help="The receipt that the site sent back.")],
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only verify it; enter nothing.")] = False,
        folder: RegisterFolder = None,
        ceremony: _Ceremony = None,
    ) -> None:
        """Verify a receipt and enter it."""
        ours = shared.of(context)
        book, untrusted = register_at(folder, ceremony), _content(file)
        if dry_run:
            found, is_new = dispatch.known_receipt(book.entries(), untrusted)
        else:
            found, is_new = dispatch.record_receipt(book, untrusted, clock=ours.clock)
        numbers = [each.number for each in found.volumes]
        custody = "complete" if found.custody_complete else f"with {found.findings} findings"
        lines = [
            f"{found.site}: {found.outcome} {found.release}, serial {found.serial}, at {found.at}",
            f"  volumes {', '.join(map(str, numbers))} as they were sealed; custody {custody}",
            f"  vouched for by the site's ledger key ({' and '.join(found.vouched_by)})",
            *_renewals(len(found.keys.notes)),
            ("  verified; nothing was entered" if dry_run else "  entered") if is_new else "  it was entered before",
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
                "renewals": len(found.keys.notes),
                "is_new": is_new,
            },
            "\n".join(lines),
        )


def _renewals(count: int) -> list[str]:
    return [f"  the ledger's key was renewed {count} times, each time signed by the one before"] if count else []


def _add_evidence(group: typer.Typer) -> None:
    @group.command("evidence")
    def evidence_command(
        context: typer.Context,
        file: Annotated[Path, typer.Argument(help="What the site sent: `sealift export evidence`.")],
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only verify it; enter nothing.")] = False,
        folder: RegisterFolder = None,
        ceremony: _Ceremony = None,
    ) -> None:
        """Verify a site's evidence and enter it: of a receive, or why it refused or rejected a medium."""
        ours = shared.of(context)
        book, untrusted = register_at(folder, ceremony), _content(file)
        if dry_run:
            found, is_new = known_evidence(book.entries(), untrusted)
        else:
            found, is_new = record_evidence(book, untrusted, clock=ours.clock)
        said = found.fields
        why = f" ({said['error']}, exit code {said['exit_code']})" if said["error"] else ""
        failed = [each["check"] for each in said["checks"] if each["result"] == "refused"]
        lines = [
            f"{said['site']}: {said['outcome']}{why} {said['release'] or 'a medium not known by name'} at {said['at']}",
            f"  volumes {', '.join(found.volumes) or 'not known by then'}",
            *([f"  the check that refused it: {failed[0]}"] if failed else []),
            f"  vouched for by the site's ledger key ({' and '.join(found.vouched_by)})",
            *_renewals(len(found.keys.notes)),
            ("  verified; nothing was entered" if dry_run else "  entered") if is_new else "  it was entered before",
        ]
        facts = {**said, "vouched_by": list(found.vouched_by), "is_new": is_new}
        ours.result(facts, "\n".join(lines))


def _add_figures(group: typer.Typer) -> None:
    @group.command("figures")
    def figures_command(
        context: typer.Context,
        file: Annotated[Path, typer.Argument(help="What the site sent: `sealift export figures`.")],
        folder: RegisterFolder = None,
        ceremony: _Ceremony = None,
    ) -> None:
        """Verify a site's figures by its ledger's key and print them; nothing is entered."""
        ours = shared.of(context)
        found = read_figures(register_at(folder, ceremony).entries(), _content(file))
        said = found.fields
        lines = [f"{said['site']}: {said['since']} to {said['until']}, exported at {said['at']}"]
        lines += [
            f"  {group}: " + ", ".join(f"{name} {count}" for name, count in counts.items())
            for group, counts in said["counts"].items()
            if counts
        ]
        lines += [
            f"  {one['name']}{''.join(f' {label}' for label in one['labels'].values())} {one['thousandths'] / 1000:g}"
            for one in said["numbers"]
        ]
        lines.append(f"  vouched for by the site's ledger key ({' and '.join(found.vouched_by)})")
        ours.result({**said, "vouched_by": list(found.vouched_by)}, "\n".join(lines))


def _add_views(group: typer.Typer) -> None:
    @group.command("list")
    def list_command(
        context: typer.Context, as_csv: _Csv = False, folder: RegisterFolder = None, ceremony: _Ceremony = None
    ) -> None:
        """List every medium and where it is."""
        media = dispatch.media_of(register_at(folder, ceremony).entries())
        _show(shared.of(context), media, as_csv=as_csv, none="no medium was written")

    @group.command("missing")
    def missing_command(
        context: typer.Context,
        days: Annotated[int, typer.Option("--days", min=0, help="Only media that are away for so many days.")] = 0,
        overdue: Annotated[bool, typer.Option("--overdue", help="Only media whose day of return is over.")] = False,
        as_csv: _Csv = False,
        folder: RegisterFolder = None,
        ceremony: _Ceremony = None,
    ) -> None:
        """List the media that were sent and never came back."""
        ours = shared.of(context)
        entries = register_at(folder, ceremony).entries()
        media = dispatch.missing(entries, clock=ours.clock, days=days, overdue=overdue)
        _show(ours, media, as_csv=as_csv, none="no medium is overdue" if overdue else "no medium is away")

    @group.command("history")
    def history_command(
        context: typer.Context,
        medium: Annotated[str, typer.Argument(help="One medium, as RELEASE/VOLUME/COPY; all if left out.")] = "",
        as_csv: _Csv = False,
        folder: RegisterFolder = None,
        ceremony: _Ceremony = None,
    ) -> None:
        """Show what happened to media, when, and who is named."""
        entries = register_at(folder, ceremony).entries()
        if medium:
            dispatch.one(entries, medium)
        rows = history(entries, medium)
        text = history_csv(rows) if as_csv else history_text(rows) or "nothing was entered"
        shared.of(context).result({"entries": rows}, text)


def _show(ours: shared.Context, media: tuple[MediumState, ...], *, as_csv: bool, none: str) -> None:
    text = media_csv(media) if as_csv else "\n".join(each.to_text() for each in media) or none
    ours.result({"media": [each.to_json() for each in media]}, text)


def _day(text: str) -> datetime | None:
    """Return the end of a day, in UTC."""
    try:
        return datetime.combine(date.fromisoformat(text), time(23, 59, 59), tzinfo=UTC) if text else None
    except ValueError:
        raise UsageError(what=f"{text[:40]!r} is no day", fix="write it as 2026-12-24") from None


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as source:
            return source.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableError(
            what=f"{file.name} cannot be read", why=error.strerror or "input/output error", fix="name the file"
        ) from error
