"""`sealift export`: what may leave the facility, shown in full first."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import export_evidence, export_figures, export_inventory, export_probe
from appliance.actions import receipt as receipts
from appliance.actions.export_inventory import Listed
from appliance.actions.export_types import TYPES
from appliance.actions.exporting import Written, preview
from appliance.actions.reports import period
from appliance.cli import context as shared
from appliance.cli import kubernetes
from appliance.cli.context import Context
from appliance.cli.opened import is_operator, jobs_of, ledger_of
from appliance.install.jobs import Kind
from appliance.install.supervisor import open_supervisor
from media.digest import sha256_hex
from media.errors import UsageError

_To = Annotated[Path | None, typer.Option("--to", help="Folder for the file; else where receipts lie.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do not ask after showing it.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show it; record and write nothing.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="What may leave the facility: shown in full, recorded, signed.", no_args_is_help=True)
    app.add_typer(commands, name="export")

    @commands.command("inventory")
    def inventory(
        context: typer.Context,
        to: _To = None,
        quick: Annotated[bool, typer.Option("--quick", help="Look at lengths only; the inventory says so.")] = False,
        yes: _Yes = False,
        dry_run: _DryRun = False,
    ) -> None:
        """List what the store holds, so that the sender carries only the rest."""
        own = shared.of(context)
        _require_a_person(yes, dry_run)
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

    _add_small(commands)
    kubernetes.register(commands)


def _add_small(commands: typer.Typer) -> None:
    @commands.command("list")
    def list_command(context: typer.Context) -> None:
        """Say what may leave at all: each type, its cap, its fields, and which of them hold what people typed."""
        lines = []
        for kind, facts in TYPES.items():
            typed = ", ".join(f"{name} (at most {most})" for name, most in facts.free_text.items()) or "none"
            lines += [
                f"{kind}: {facts.says}",
                f"  at most {facts.most_bytes} bytes; free text: {typed}",
                f"  fields: {', '.join(sorted(facts.fields))}",
            ]
        known = {
            str(kind): {
                "says": facts.says,
                "most_bytes": facts.most_bytes,
                "fields": sorted(facts.fields),
                "free_text": dict(facts.free_text),
            }
            for kind, facts in TYPES.items()
        }
        shared.of(context).result({"types": known}, "\n".join(lines))

    @commands.command("receipt")
    def receipt(
        context: typer.Context,
        serial: Annotated[int, typer.Argument(help="Serial of a stored release.")],
        to: _To = None,
        yes: _Yes = False,
        dry_run: _DryRun = False,
    ) -> None:
        """Tell the sender that a release arrived, and how."""
        own = shared.of(context)
        _require_a_person(yes, dry_run)
        folder = to or own.config.at.receipts
        shows = _shows(ask=not yes, dry_run=dry_run)
        _said(own, receipts.export(own.config, serial, folder, clock=own.clock, agrees=shows))

    @commands.command("evidence")
    def evidence(
        context: typer.Context,
        serial: Annotated[int | None, typer.Argument(help="Serial of a release that was received.")] = None,
        record: Annotated[
            int | None, typer.Option("--record", help="Sequence of a receive, a refusal or a rejection instead.")
        ] = None,
        to: _To = None,
        yes: _Yes = False,
        dry_run: _DryRun = False,
    ) -> None:
        """Tell the sender which checks were made, or why a medium was refused; without names of this site's people."""
        own = shared.of(context)
        _require_a_person(yes, dry_run)
        if to is None and is_operator(own.config):
            _evidence_by_job(own, serial, record, agrees=_shows(ask=not yes, dry_run=dry_run))
            return
        written = export_evidence.export(
            own.config,
            to or own.config.at.receipts,
            serial=serial,
            sequence=record,
            clock=own.clock,
            agrees=_shows(ask=not yes, dry_run=dry_run),
        )
        _said(own, written)

    @commands.command("figures")
    def figures(
        context: typer.Context,
        quarter: Annotated[str, typer.Option("--quarter", help="A quarter such as 2026Q4, or `last`.")] = "",
        since: Annotated[str, typer.Option("--from", metavar="TIME", help="From this day or time on.")] = "",
        until: Annotated[str, typer.Option("--until", metavar="TIME", help="Before this day or time.")] = "",
        to: _To = None,
        yes: _Yes = False,
        dry_run: _DryRun = False,
    ) -> None:
        """Tell whoever looks after the box from outside what was counted in a time, and how it stands; no names."""
        own = shared.of(context)
        _require_a_person(yes, dry_run)
        written = export_figures.export(
            own.config,
            to or own.config.at.receipts,
            period=period.named(quarter, since, until, now=own.clock.now()),
            supervisor=open_supervisor(own.config),
            clock=own.clock,
            agrees=_shows(ask=not yes, dry_run=dry_run),
        )
        _said(own, written)

    @commands.command("probe")
    def probe(
        context: typer.Context,
        file: Annotated[Path, typer.Argument(help="What sealift-probe.sh wrote on this machine.")],
        to: _To = None,
        yes: _Yes = False,
        dry_run: _DryRun = False,
    ) -> None:
        """Tell the sender what kind of machine this is."""
        own = shared.of(context)
        _require_a_person(yes, dry_run)
        folder = to or own.config.at.receipts
        shows = _shows(ask=not yes, dry_run=dry_run)
        _said(own, export_probe.export(own.config, file, folder, clock=own.clock, agrees=shows))


def _evidence_by_job(own: Context, serial: int | None, record: int | None, *, agrees: Callable[[str], bool]) -> None:
    """Show the evidence to somebody who is not root, and let a job make exactly that."""
    with ledger_of(own) as ledger, jobs_of(own) as jobs:
        sequence, out = export_evidence.drafted(own.config, ledger, serial=serial, sequence=record)
        content = out.draft.to_payload(ledger=None)
        if jobs is None or not agrees(preview(content)):
            own.result({"written": False}, "nothing was written")
            return
        digest = sha256_hex(content)
        number = jobs.ask(Kind.MAKE_EVIDENCE, record=sequence, digest=digest)
        jobs.wait(number).require_ok()
    said = f"made; next: `sealift media export NAME {digest}`"
    own.result({"written": True, "job": number, "sha256": digest}, said)


def _require_a_person(yes: bool, dry_run: bool) -> None:
    if not (yes or dry_run or sys.stdin.isatty()):
        raise UsageError(
            what="nobody is here to look at what leaves",
            why="it is shown in full before it is written",
            fix="add --yes when it was looked at with --dry-run",
        )


def _shows(*, ask: bool, dry_run: bool) -> Callable[[str], bool]:
    def agrees(text: str) -> bool:
        sys.stderr.write(f"{text}\n")
        return not dry_run and (not ask or typer.confirm("May this leave?", err=True))

    return agrees


def _said(own: Context, written: Written | None) -> None:
    if written is None:
        own.result({"written": False}, "nothing was written")
        return
    own.result(
        {"written": True, "file": written.file.name, "sha256": written.sha256, "sequence": written.sequence},
        f"{written.file.name}: {written.bytes} bytes, sha256 {written.sha256}, record {written.sequence}",
    )


def _agrees(own: Context, listed: Listed, text: str, *, ask: bool, dry_run: bool) -> bool:
    sys.stderr.write(f"{text}\n")
    for path in listed.damaged:
        own.say(f"left out, the disk does not give it back: {path}")
    if dry_run:
        return False
    return not ask or typer.confirm("May this leave?", err=True)
