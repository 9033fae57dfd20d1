"""`sealift report`: a separate test appliance's word on a version, and production taking it."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.actions.pinned import plain_bytes
from appliance.actions.standby import reporting
from appliance.cli import context as shared
from appliance.cli.opened import ledger_of, records_of
from appliance.keys.opening import open_keys
from appliance.registry import catalog
from appliance.state import projection
from media import durable, limits
from media.errors import UsageError

Peer = Annotated[str, typer.Argument(metavar="BOX", help="Name of the other box, as `sealift standby status` says.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="Validation reports of a separate test appliance.", no_args_is_help=True)
    app.add_typer(commands, name="report")
    commands.command("export")(_export)
    commands.command("accept")(_accept)


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
    verb = "would be accepted" if dry_run else "accepted"
    own.result(
        done.to_json(),
        f"{verb}: version {done.model_digest[:12]}, gates {', '.join(done.gates)}; record {done.sequence}\n"
        f"  next: sealift promote {done.model_digest[:12]} --as PERSON",
    )
