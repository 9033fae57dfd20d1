"""`sealift-bundler diff`: what one release changes against another."""

from pathlib import Path
from typing import Annotated

import typer

from bundler.cli import context as shared
from bundler.cli.bars import byte_bar
from bundler.contents import Contents
from bundler.difference import compare

_Side = Annotated[Path, typer.Argument(help="A volume, a folder of volumes, a work folder, or metadata.")]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("diff")
    def command(context: typer.Context, before: _Side, after: _Side) -> None:
        """Show files, packages, licences, scripts that run as root, tensors and settings that differ."""
        ours = shared.of(context)
        with byte_bar(ours) as progress:
            first, second = Contents.open(before, progress=progress), Contents.open(after, progress=progress)
        found = compare(first, second)
        ours.result(found.to_json(), found.to_text())
