"""`sealift-bundler inspect`: look into a work folder or a model file."""

from pathlib import Path
from typing import Annotated

import typer

from bundler.cli import context as shared
from bundler.inspect import inspect_model, inspect_work
from bundler.workfolder import WorkFolder
from media import layout
from media.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("inspect")
    def command(
        context: typer.Context,
        path: Annotated[Path, typer.Argument(help="A work folder, or a .gguf or .safetensors file.")],
    ) -> None:
        """Say what is in a release before it is signed, or in a model file before anything loads it."""
        ours = shared.of(context)
        if path.is_file():
            facts = inspect_model(path)
            ours.result(facts, "\n".join(f"{name.replace('_', ' '):<18} {value}" for name, value in facts.items()))
            return
        if (path / layout.RELEASE).is_dir():
            raise UsageError(
                what=f"{path.name} is a volume",
                why="a volume is verified, not looked at",
                fix="run: sealift-bundler check",
            )
        found = inspect_work(WorkFolder(root=path))
        ours.result(found.to_json(), found.to_text())
