"""`sealift-bundler build`: make a candidate from a recipe, or one for each of its sites."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bundler.build import Candidate, build, folders_of
from bundler.buildplan import plan_build
from bundler.cache import Cache, default_root
from bundler.cli import context as shared
from bundler.cli.bars import download_bar, require_new, write_new
from bundler.recipe import Recipe
from bundler.sources.server import Checkout
from bundler.workfolder import WorkFolder


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("build")
    def command(
        context: typer.Context,
        recipe: Annotated[Path, typer.Argument(help="The recipe, a TOML file.")],
        work: Annotated[
            Path,
            typer.Option("--work", help="Where the release is made, or with [[site]] a folder below it for each site."),
        ],
        cache: Annotated[
            Path | None, typer.Option("--cache", help="Downloads and built wheels.", envvar="SEALIFT_CACHE")
        ] = None,
        checkout: Annotated[
            Path | None, typer.Option("--checkout", help="Sealift's source tree, if this is not run from one.")
        ] = None,
        propose_allow: Annotated[
            Path | None,
            typer.Option("--propose-allow", help="A new file for what the scan refuses, to look at and to allow."),
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Only say what would be fetched and what each site gets.")
        ] = False,
    ) -> None:
        """Gather what the recipe pins, scan it, and write the candidates with their unsigned statements."""
        ours = shared.of(context)
        wanted = Recipe.load(recipe)
        held = Cache(root=cache or default_root())
        if dry_run:
            plan = plan_build(wanted, folders_of(wanted, work), cache=held, checkout=Checkout.find(checkout))
            ours.result(plan.to_json(), str(plan))
            return
        if propose_allow is not None:
            require_new(propose_allow)
        with download_bar(ours) as counted:
            made = build(
                wanted,
                WorkFolder(root=work),
                cache=held,
                clock=ours.clock,
                progress=ours.say,
                counted=counted,
                checkout=checkout,
                refused=None if propose_allow is None else lambda text: write_new(propose_allow, text.encode()),
            )
        ours.result(_facts(made), "\n".join(line for each in made for line in _lines(each)))


def _facts(made: Sequence[Candidate]) -> dict[str, object]:
    """Return one candidate's facts, or those of each site below `releases`."""
    return asdict(made[0]) if len(made) == 1 else {"releases": [asdict(each) for each in made]}


def _lines(made: Candidate) -> list[str]:
    kept = [f"  leaves unchanged: {', '.join(made.unchanged)}"] if made.unchanged else []
    return [
        f"candidate {made.release}, serial {made.serial}, {made.kind}, for {', '.join(made.sites)}",
        f"  {made.files} files, {made.length / 2**20:.1f} MiB, in {made.seconds:.1f} s",
        *kept,
        f"  payload {made.payload_digest}",
        f"  scan passed, {made.findings} findings listed",
        f"next: sealift-bundler rehearse {made.work}",
    ]
