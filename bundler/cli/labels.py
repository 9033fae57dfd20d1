"""`sealift-bundler labels`: a page of labels for the media of a release."""

from pathlib import Path
from typing import Annotated

import typer

from bundler.cli import context as shared
from bundler.cli.bars import Work
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
    ) -> None:
        """Write one label for each volume: ids, seals, hand-overs, a QR code; nothing of the trust sheet."""
        found = labels(WorkFolder(root=work))
        save(out, label_sheet(found) if out.suffix.lower() == ".pdf" else label_page(found))
        facts = [
            {"number": each.number, "id": each.id, "seals": list(each.seals), "qr": each.scanned} for each in found
        ]
        shared.of(context).result({"file": out.name, "labels": facts}, f"{len(found)} labels in {out.name}")
