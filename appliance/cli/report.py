"""`sealift report`: what happened in a quarter; a test appliance's word on a version, and production taking it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.actions.controls.judged import in_report
from appliance.actions.controls.live import Here
from appliance.actions.pinned import plain_bytes
from appliance.actions.reports import making, period
from appliance.actions.reports.sheet import sheet
from appliance.actions.standby import reporting
from appliance.audit import note, pin
from appliance.audit.client import SocketLedger
from appliance.cli import context as shared
from appliance.cli.newfile import write_new
from appliance.cli.opened import ledger_of, records_of
from appliance.keys.opening import open_keys
from appliance.registry import catalog
from appliance.state import projection
from media import durable, limits
from media.errors import UsageError

Peer = Annotated[str, typer.Argument(metavar="BOX", help="Name of the other box, as `sealift standby status` says.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="Reports of a quarter or a time; validation reports of a separate test appliance.")
    commands.callback(invoke_without_command=True)(_of_a_time)
    app.add_typer(commands, name="report")
    commands.command("export")(_export)
    commands.command("accept")(_accept)


def _of_a_time(
    context: typer.Context,
    quarter: Annotated[str, typer.Option("--quarter", help="A quarter such as 2026Q4, or `last`.")] = "",
    since: Annotated[str, typer.Option("--from", metavar="TIME", help="From this day or time on.")] = "",
    until: Annotated[str, typer.Option("--to", metavar="TIME", help="Before this day or time.")] = "",
    out: Annotated[
        list[Path] | None,
        typer.Option("--out", metavar="FILE", help="A new file that ends in .html, .pdf or .json; may be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count and tell; write no file, record nothing.")] = False,
) -> None:
    """Report what happened in a time: volumes, PHI, refusals, production, custody, integrity, access, drills."""
    if context.invoked_subcommand is not None:
        return
    own = shared.of(context)
    about = period.named(quarter, since, until, now=own.clock.now())
    files = [_new(file) for file in out or ()]
    with ledger_of(own) as ledger, own.progress() as bar:
        task = bar.add_task("records", total=0)
        facts = making.counted(
            ledger,
            about,
            site=own.config.site,
            key=pin.read_pin(own.config.at) or note.VerifierKey.from_text(str(ledger.leaf(0).body.get("vkey", ""))),
            clock=own.clock,
            prices=own.config.cost,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
        )
        facts = in_report(facts, Here(config=own.config, ledger=ledger, clock=own.clock))
        sequence = -1
        if files and not dry_run:
            made = making.made(facts)
            sequence = making.record(ledger, made) if isinstance(ledger, SocketLedger) else -1
            for file in files:
                write_new(file, made.files[file.suffix.lower()])
    own.result({**facts, "record": sequence, "dry_run": dry_run}, _told(facts, files, sequence, dry_run=dry_run))


def _told(facts: dict[str, Any], files: list[Path], sequence: int, *, dry_run: bool) -> str:
    form = sheet(facts)
    lines = [form.title, form.result]
    if files and not dry_run:
        said = f"recorded as {sequence}" if sequence >= 0 else "NOT recorded: the ledger does not run"
        lines.append(f"{', '.join(file.name for file in files)}; {said}")
    elif files:
        lines.append(f"would write {', '.join(file.name for file in files)}")
    return "\n".join(lines)


def _new(file: Path) -> Path:
    if file.suffix.lower() not in making.SUFFIXES or file.exists():
        raise UsageError(
            what=f"{file.name} cannot be written", why="", fix="name a new file that ends in .html, .pdf or .json"
        )
    return file


def _export(
    context: typer.Context,
    peer: Peer,
    which: Annotated[str, typer.Argument(metavar="VERSION", help="A digest, the beginning of one, or NAME:VERSION.")],
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where to write the report.")],
) -> None:
    """On the test appliance: write what the gates found of a version, signed, for the production box alone."""
    own = shared.of(context)
    with records_of(own) as (ledger, state):
        with state.connect() as session:
            version = catalog.version(session, which)
        keys = open_keys(own.config)
        made = reporting.make(own.config, peer, version.model_digest, ledger=ledger, keys=keys, clock=own.clock)
    try:
        durable.replace(to, made, mode=0o644)
    except OSError as error:
        raise UsageError(what=f"{to.name} cannot be written", why=error.strerror or "", fix="name another") from error
    facts = {"model_digest": version.model_digest, "peer": peer, "file": to.name, "bytes": len(made)}
    own.result(facts, f"{to.name}: the report on {version.name} {version.version} for {peer}, {len(made)} bytes")


def _accept(
    context: typer.Context,
    peer: Peer,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The report, as it came.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Verify and tell; change nothing.")] = False,
) -> None:
    """On production: take a report of the test appliance as the gates of a version; then promote as usual."""
    own = shared.of(context)
    untrusted = plain_bytes(file, f"the report {file.name}", limit=limits.ENVELOPE_BYTES)
    with ledger_of(own) as ledger:
        done = reporting.accept(own.config, peer, untrusted, ledger=ledger, clock=own.clock, dry_run=dry_run)
    if not dry_run:
        with records_of(own) as (ledger, state):
            projection.catch_up(state, ledger)
    verb, recorded = ("would be accepted", "") if dry_run else ("accepted", f"; record {done.sequence}")
    own.result(
        done.to_json(),
        f"{verb}: version {done.model_digest[:12]}, gates {', '.join(done.gates)}{recorded}\n"
        f"  next: sealift promote {done.model_digest[:12]} --as PERSON",
    )
