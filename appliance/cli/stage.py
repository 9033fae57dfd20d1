"""`sealift stage`: versions that application developers may try in the test stage, with test keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from appliance.actions import teststage as actions
from appliance.actions.teststage import StageFacts
from appliance.actions.validate import Surroundings
from appliance.cli import context as shared
from appliance.cli.context import Context
from appliance.cli.opened import jobs_of, records_of, require_enrolled
from appliance.install.engines import open_linked
from appliance.install.jobclient import JobsSupervisor

_Which = Annotated[str, typer.Argument(help="A digest, the beginning of one, a name, or NAME:VERSION.")]
_Person = Annotated[str, typer.Option("--as", help="Who asks, by id.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    stage = typer.Typer(help="Versions that application developers try in the test stage.", no_args_is_help=True)
    app.add_typer(stage, name="stage")
    stage.command("load")(_load)
    stage.command("unload")(_unload)
    stage.command("show")(_show)


def _load(
    context: typer.Context,
    which: _Which,
    person: _Person,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check gates and memory; start nothing.")] = False,
) -> None:
    """Start a validated version for holders of test keys. Production is untouched."""
    own = shared.of(context)
    require_enrolled(own, person)
    with _here(own) as here:
        if not dry_run:
            own.say("gates and memory are looked at, then its engine starts; a large model takes minutes")
        found = actions.load(here, which, person=person, dry_run=dry_run)
    name = f"{found.version.name} {found.version.version}"
    own.result(
        found.to_json(), f"{name} could be loaded in the test stage" if dry_run else f"test keys now reach {name}"
    )


def _unload(context: typer.Context, which: _Which, person: _Person) -> None:
    """Take a version away from holders of test keys and stop its engine."""
    own = shared.of(context)
    require_enrolled(own, person)
    with _here(own) as here:
        found = actions.unload(here, which, person=person)
    own.result(found.to_json(), f"{found.version.name} {found.version.version} is no longer in the test stage")


def _show(context: typer.Context) -> None:
    """Show what is loaded in the test stage, and whether it runs."""
    own = shared.of(context)
    with _here(own) as here:
        found = actions.loaded(here.state, here.supervisor)
    own.result({"loaded": [one.to_json() for one in found]}, "\n".join(map(_line, found)) or "nothing is loaded")


def _line(one: StageFacts) -> str:
    by = "" if one.load is None else f"  {one.load.person} at {one.load.at}"
    version = one.version
    down = "" if one.runs else f"; load it again: sealift stage load {version.model_digest[:12]} --as PERSON"
    return f"{version.model_digest[:12]}  {version.name} {version.version}{by}  engine {one.engine}{down}"


@contextmanager
def _here(own: Context) -> Iterator[Surroundings]:
    """Yield what the actions work with: engines by typed jobs where the job service runs, else by this process."""
    with records_of(own) as (ledger, state), jobs_of(own) as jobs:
        yield Surroundings(
            config=own.config,
            ledger=ledger,
            state=state,
            supervisor=open_linked(own.config) if jobs is None else JobsSupervisor(jobs),
            clock=own.clock,
        )
