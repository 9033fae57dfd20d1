"""`sealift-bundler scan`: look for what may not travel, in a candidate or in anything else."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bundler.cache import Cache, default_root
from bundler.cli import context as shared
from bundler.errors import ScanError
from bundler.plan import ReleasePlan
from bundler.recipe import Recipe
from bundler.scan import Antivirus, Judged, Loading, judge
from bundler.scanning.candidate import of_candidate, of_folder
from bundler.workfolder import WorkFolder


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("scan")
    def command(
        context: typer.Context,
        path: Annotated[Path, typer.Argument(help="A work folder, any other folder, or one file.")],
        recipe: Annotated[
            Path | None, typer.Option("--recipe", help="Findings and licences that it allows are not refused.")
        ] = None,
        cache: Annotated[
            Path | None, typer.Option("--cache", help="Engines, and what they loaded.", envvar="SEALIFT_CACHE")
        ] = None,
        load: Annotated[bool, typer.Option("--load/--no-load", help="Load the models of a candidate.")] = True,
        clamav: Annotated[bool, typer.Option("--clamav", help="Ask ClamAV too.")] = False,
        max_age_days: Annotated[int, typer.Option("--max-age-days", min=0, help="Of ClamAV's signatures.")] = 7,
    ) -> None:
        """Find what may not travel; ends with 63 where there is something. Changes nothing."""
        ours = shared.of(context)
        work = WorkFolder(root=path)
        is_candidate = work.plan.is_file()
        wanted = None if recipe is None else Recipe.load(recipe)
        python = str(ReleasePlan.load(work.plan).targets[0].get("python", "")) if is_candidate else ""
        found = judge(
            of_candidate(work) if is_candidate else of_folder(path),
            allowed=() if wanted is None else wanted.scan.allowed,
            accepted=() if wanted is None else wanted.accept_licences,
            clamav=Antivirus(max_age_days=max_age_days, clock=ours.clock) if clamav else None,
            loading=Loading(python=python, cache=Cache(root=cache or default_root()), clock=ours.clock)
            if load and is_candidate
            else None,
            # Outside a candidate nobody has stated a licence yet.
            without=() if is_candidate else ("license-unknown",),
            progress=ours.say,
        )
        ours.result(_facts(found), "\n".join(_lines(found)))
        if found.refused:
            ours.say(f"{len(found.refused)} findings may not travel")
            raise typer.Exit(ScanError.exit_code)


def _facts(found: Judged) -> dict[str, Any]:
    return {**found.report.predicate(), "result": "refused" if found.refused else "passed", "refused": [
        {"path": each.path, "rule": each.rule, "detail": each.detail} for each in found.refused
    ]}  # fmt: skip


def _lines(found: Judged) -> list[str]:
    rows = [("REFUSED", each) for each in found.refused]
    rows += [("listed" if each.reason.startswith("listed") else "allowed", each) for each in found.report.findings]
    width = max((len(each.rule) for _, each in rows), default=0)
    lines = [f"{verdict:<8} {each.rule:<{width}}  {each.path}: {each.detail}" for verdict, each in rows]
    for load in found.report.loads:
        where = f"by {load.engine} in a sandbox: {load.sandbox}" if load.loaded else f"not: {load.reason}"
        lines.append(f"loaded   {load.model} {where}")
    lines.append(f"{found.report.files} files, {len(found.refused)} findings refused, {len(rows)} in all")
    return lines
