"""`sealift-bundler labels`: a page of labels for the media of a release."""

from pathlib import Path
from typing import Annotated

import typer

from bundler.cli import context as shared
from bundler.cli.bars import NOT_WRITTEN, DryRun, Work, require_new
from bundler.labels import label_page, label_sheet, labels
from bundler.printable import save
from bundler.workfolder import WorkFolder


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("labels")
    def command(
        context: typer.Context,
        work: Work,
        out: Annotated[Path, typer.Option("--out", help="The file to write: .pdf, or .html for any browser.")],
        dry_run: DryRun = False,
    ) -> None:
        """Write one label for each volume: ids, seals, hand-overs, a QR code; nothing of the trust sheet."""
        found = labels(WorkFolder(root=work))
        page = label_sheet(found) if out.suffix.lower() == ".pdf" else label_page(found)
        if dry_run:
            require_new(out)
        else:
            save(out, page)
        facts = [
            {"number": each.number, "id": each.id, "seals": list(each.seals), "qr": each.scanned} for each in found
        ]
        text = f"{len(found)} labels in {out.name}"
        text += "".join(f"\n  volume {each.number}: {each.id}" for each in found) if dry_run else ""
        told = {"file": out.name, "labels": facts, "dry_run": dry_run}
        shared.of(context).result(told, f"{text}\n{NOT_WRITTEN}" if dry_run else text)
