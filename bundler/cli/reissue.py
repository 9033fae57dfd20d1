"""`sealift-bundler reissue`: prepare a sealed release for being signed again with a later date."""

from pathlib import Path
from typing import Annotated

import typer

from bundler.cli import context as shared
from bundler.cli.bars import DryRun, Work
from bundler.reissue import reissue, reissued
from bundler.workfolder import WorkFolder


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("reissue")
    def command(
        context: typer.Context,
        work: Work,
        destination: Annotated[Path, typer.Argument(help="A new work folder; it shares the payload by hard links.")],
        stale_after: Annotated[str, typer.Option("--stale-after", help="The new date, as 2027-11-20T08:00:00Z.")],
        dry_run: DryRun = False,
    ) -> None:
        """Lay down the same serial and the same bytes, to be signed again with a later date."""
        lay_down = reissued if dry_run else reissue
        plan = lay_down(WorkFolder(root=work), WorkFolder(root=destination), stale_after=stale_after)
        facts = {"release": plan.release, "serial": plan.serial, "issue": plan.issue, "stale_after": plan.stale_after}
        text = f"{plan.release}, serial {plan.serial}, issue {plan.issue}: stale after {plan.stale_after}"
        after = "nothing was written" if dry_run else f"next: sealift-bundler sign {destination} --person ID"
        shared.of(context).result({**facts, "dry_run": dry_run}, f"{text}\n{after}")
