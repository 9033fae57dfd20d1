"""`sealift evals`: a site's own task sets, imported inside the facility."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.actions.pinned import plain_bytes
from appliance.cli import context as shared
from appliance.cli.opened import ledger_of
from appliance.promote import sitesets
from appliance.promote.folder import PromoterFolder
from appliance.promote.taskset import MAX_BYTES

Person = Annotated[str, typer.Option("--as", metavar="PERSON", help="Who does it, by id.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check and tell; change nothing.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    evals = typer.Typer(help="Task sets of this site, which count in every validation.", no_args_is_help=True)
    app.add_typer(evals, name="evals")
    evals.command("import")(_import)
    evals.command("list")(_list)
    evals.command("remove")(_remove)


def _import(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The set: JSON Lines, see docs/operator/validating.md.")],
    person: Person,
    dry_run: DryRun = False,
) -> None:
    """Keep a task set on this box. It may hold patient data: it never leaves, and no record holds a task."""
    own = shared.of(context)
    untrusted = plain_bytes(file, f"the task set {file.name}", limit=MAX_BYTES)
    tasks, kinds = sitesets.parsed(untrusted)
    PromoterFolder(own.config.at.promoter).people().require_active(person)
    if not dry_run:
        with ledger_of(own) as ledger:
            sitesets.add(own.config.at, ledger, untrusted, person=person)
    facts = {"name": tasks.name, "sha256": tasks.sha256, "items": len(tasks.items), "kinds": kinds, "dry_run": dry_run}
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    own.result(facts, f"{'would import' if dry_run else 'imported'} {tasks.name}: {counts}; {tasks.sha256}")


def _list(context: typer.Context) -> None:
    """List the sets that count."""
    own = shared.of(context)
    with ledger_of(own) as ledger:
        found = sitesets.active(ledger)
    lines = [f"{one.sha256[:12]}  {one.name}  {one.items} items  by {one.person}" for one in found]
    own.result({"sets": [one.to_json() for one in found]}, "\n".join(lines) or "no task set is imported")


def _remove(
    context: typer.Context,
    which: Annotated[str, typer.Argument(help="The set's name, or six or more digits of its digest.")],
    person: Person,
    reason: Annotated[str, typer.Option("--reason", help="Why it no longer counts.")],
    dry_run: DryRun = False,
) -> None:
    """Take a set out of all validations to come, and its file off this box."""
    own = shared.of(context)
    PromoterFolder(own.config.at.promoter).people().require_active(person)
    with ledger_of(own) as ledger:
        if dry_run:
            found = sitesets.find(ledger, which)
        else:
            found = sitesets.remove(own.config.at, ledger, which, person=person, reason=reason)
    own.result({**found.to_json(), "dry_run": dry_run}, f"{'would remove' if dry_run else 'removed'} {found.name}")
