"""`sealift export`: what may leave the facility, shown in full first."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import export_inventory
from appliance.actions.export_inventory import Listed
from appliance.cli import context as shared
from appliance.cli.context import Context
from media.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="What may leave the facility: shown in full, recorded, signed.", no_args_is_help=True)
    app.add_typer(commands, name="export")

    @commands.command("inventory")
    def inventory(
        context: typer.Context,
        to: Annotated[Path | None, typer.Option("--to", help="Folder for the file; else where receipts lie.")] = None,
        quick: Annotated[bool, typer.Option("--quick", help="Look at lengths only; the inventory says so.")] = False,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask after showing it.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show it; record and write nothing.")] = False,
    ) -> None:
        """List what the store holds, so that the sender carries only the rest."""
        own = shared.of(context)
        if not (yes or dry_run or sys.stdin.isatty()):
            raise UsageError(
                what="nobody is here to look at what leaves",
                why="it is shown in full before it is written",
                fix="add --yes when it was looked at with --dry-run",
            )
        with own.progress(in_bytes=True) as bar:
            task = bar.add_task("hashing", total=None)
            listed, written = export_inventory.export(
                own.config,
                to or own.config.at.receipts,
                clock=own.clock,
                agrees=lambda found, text: _agrees(own, found, text, ask=not yes, dry_run=dry_run),
                progress=lambda done, total, _: bar.update(task, completed=done, total=total),
                quick=quick,
            )
        facts = {
            "files": len(listed.inventory.files),
            "releases": [each.serial for each in listed.inventory.releases],
            "damaged": list(listed.damaged),
            "written": written is not None,
        }
        if written is None:
            own.result(facts, "nothing was written")
            return
        own.result(
            {**facts, "file": written.file.name, "sha256": written.sha256, "sequence": written.sequence},
            f"{written.file.name}: {written.bytes} bytes, sha256 {written.sha256}, record {written.sequence}",
        )


def _agrees(own: Context, listed: Listed, text: str, *, ask: bool, dry_run: bool) -> bool:
    sys.stderr.write(f"{text}\n")
    for path in listed.damaged:
        own.say(f"left out, the disk does not give it back: {path}")
    if dry_run:
        return False
    return not ask or typer.confirm("May this leave?", err=True)
