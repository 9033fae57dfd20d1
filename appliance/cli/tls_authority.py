"""`sealift tls authority`: the box's own authority, and how another takes its place."""

from typing import Annotated

import typer

from appliance.actions import tls_authority as actions
from appliance.actions.tls_authority import Authorities
from appliance.cli import context as shared
from appliance.cli.context import Context
from appliance.cli.tls_here import DryRun, here_of


def add_to(commands: typer.Typer) -> None:
    """Add the commands below `sealift tls`."""
    authority = typer.Typer(help="The box's own authority, and the one that takes its place.", no_args_is_help=True)
    commands.add_typer(authority, name="authority")
    authority.command("show")(_show)
    authority.command("next")(_next)
    authority.command("switch")(_switch)
    authority.command("finish")(_finish)


def _show(context: typer.Context) -> None:
    """Show which authority signs, which follows or went before, with fingerprints to compare."""
    own = shared.of(context)
    _said(own, actions.shown(own.config))


def _next(context: typer.Context, dry_run: DryRun = False) -> None:
    """Make the authority that follows and give callers both; nothing else changes."""
    own = shared.of(context)
    with here_of(own) as here:
        _said(own, actions.begin(here, dry_run=dry_run), dry_run=dry_run)
    if not dry_run:
        own.say("give callers trust.crt again, which holds both; when all have it: sealift tls authority switch")


def _switch(context: typer.Context, dry_run: DryRun = False) -> None:
    """Let the next authority sign. Callers that were not given it refuse to connect from now on."""
    own = shared.of(context)
    with here_of(own) as here:
        _said(own, actions.switch(here, dry_run=dry_run), dry_run=dry_run)
    if not dry_run:
        own.say("issue callers' certificates again; when all have theirs: sealift tls authority finish")


def _finish(
    context: typer.Context,
    drop_clients: Annotated[
        bool, typer.Option("--drop-clients", help="Although callers hold valid certificates of the former one.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Trust the former authority no more, and destroy its key."""
    own = shared.of(context)
    with here_of(own) as here:
        _said(own, actions.finish(here, drop_clients=drop_clients, dry_run=dry_run), dry_run=dry_run)


def _said(own: Context, shown: Authorities, *, dry_run: bool = False) -> None:
    lines = [f"{use:<7} {one['fingerprint']}  until {one['not_after']}" for use, one in shown.found.items()]
    facts = {**shown.to_json(), "dry_run": True} if dry_run else shown.to_json()
    own.result(facts, "\n".join(lines) or "there is none yet")
