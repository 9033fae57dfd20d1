"""`sealift-bundler inspect`: look into a work folder, written volumes or a model file."""

from pathlib import Path
from typing import Annotated

import typer

from bundler.cli import context as shared
from bundler.inspect import inspect_model, inspect_work
from bundler.inspectmedium import inspect_medium, volume_folders
from bundler.workfolder import WorkFolder
from media.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("inspect")
    def command(
        context: typer.Context,
        path: Annotated[
            Path,
            typer.Argument(help="A work folder, a volume or a folder of volumes, or a .gguf or .safetensors file."),
        ],
    ) -> None:
        """Say what is in a release, what volumes say of themselves, or what a model file holds; nothing is loaded."""
        ours = shared.of(context)
        if path.is_file():
            facts = inspect_model(path)
            ours.result(facts, "\n".join(f"{name.replace('_', ' '):<18} {value}" for name, value in facts.items()))
            return
        if not path.is_dir():
            raise UsageError(what=f"there is no {path.name}", fix="name a volume, a work folder or a model file")
        if volume_folders(path):
            medium = inspect_medium(path)
            ours.result(medium.to_json(), medium.to_text())
            return
        found = inspect_work(WorkFolder(root=path))
        ours.result(found.to_json(), found.to_text())
