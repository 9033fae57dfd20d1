"""`sealift-bundler build`: make a candidate from a recipe."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bundler.build import build
from bundler.cache import Cache, default_root
from bundler.cli import context as shared
from bundler.cli.bars import download_bar
from bundler.recipe import Recipe
from bundler.workfolder import WorkFolder


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("build")
    def command(
        context: typer.Context,
        recipe: Annotated[Path, typer.Argument(help="The recipe, a TOML file.")],
        work: Annotated[Path, typer.Option("--work", help="Where the release is made; new, or an unsigned candidate.")],
        cache: Annotated[
            Path | None, typer.Option("--cache", help="Downloads and built wheels.", envvar="SEALIFT_CACHE")
        ] = None,
        checkout: Annotated[
            Path | None, typer.Option("--checkout", help="Sealift's source tree, if this is not run from one.")
        ] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only read and check the recipe.")] = False,
    ) -> None:
        """Gather what the recipe pins, scan it, and write the candidate with its unsigned statements."""
        ours = shared.of(context)
        wanted = Recipe.load(recipe)
        if dry_run:
            facts = {"release": wanted.release.name, "serial": wanted.release.serial, "recipe_sha256": wanted.sha256}
            ours.result(facts, f"the recipe of {wanted.release.name}, serial {wanted.release.serial}, is in order")
            return
        with download_bar(ours) as counted:
            made = build(
                wanted,
                WorkFolder(root=work),
                cache=Cache(root=cache or default_root()),
                clock=ours.clock,
                progress=ours.say,
                counted=counted,
                checkout=checkout,
            )
        lines = (
            f"candidate {made.release}, serial {made.serial}",
            f"  {made.files} files, {made.length / 2**20:.1f} MiB, in {made.seconds:.1f} s",
            f"  payload {made.payload_digest}",
            f"  scan passed, {made.findings} findings listed",
            f"next: sealift-bundler rehearse {work}",
        )
        ours.result(asdict(made), "\n".join(lines))
