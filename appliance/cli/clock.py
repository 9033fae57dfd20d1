"""`sealift clock`: what this machine's clock shows and whether it is believed; confirming it; correcting it by two."""

from datetime import timedelta
from typing import Annotated

import typer

from appliance.actions import clock as action
from appliance.actions.clocksetter import require_settable
from appliance.actions.ways import Way
from appliance.audit.client import open_ledger
from appliance.audit.rights import ACTIONS
from appliance.cli import context as shared
from appliance.cli import signing
from appliance.cli.gathering import gathered
from appliance.cli.opened import jobs_of, ledger_of, promoter_of
from appliance.errors import UnitError
from appliance.install.jobs import Kind
from media.clock import to_text

_group = typer.Typer(help="This machine's clock: shown, confirmed, corrected by two people.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(_group, name="clock")


@_group.command("show")
def _show(context: typer.Context) -> None:
    """Show the clock, the earliest time that can be, and whether the clock is believed."""
    own = shared.of(context)
    found = action.standing(own.config, clock=own.clock)
    source = f"time servers {', '.join(found.servers)}" if found.servers else "this machine alone"
    lines = [
        f"clock      {to_text(found.shown)} (UTC), {found.verdict or 'watched by nobody'}"
        + (f", {found.jump_seconds:+} seconds from what was believed" if found.jump_seconds else ""),
        f"floor      {to_text(found.floor)}: {found.floor_from}",
        f"decisions  rest on {to_text(found.believed)}",
        f"source     {source}{', which set it' if found.is_synchronised else ''}",
        "hardware   " + ("has no clock" if found.rtc_seconds is None else f"{found.rtc_seconds:+} seconds from it"),
        f"confirmed  by {found.confirmed_by}, {found.confirmed_at}" if found.confirmed_by else "confirmed  by nobody",
    ]
    own.result(found.to_json(), "\n".join(lines))


@_group.command("confirm")
def _confirm(
    context: typer.Context,
    by: Annotated[str, typer.Option("--by", help="Who compared this clock with another one.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Record nothing.")] = False,
) -> None:
    """Say at the install, by name, that the clock is right; later two people say so: `clock set now`."""
    own = shared.of(context)
    ledger = open_ledger(own.config, ACTIONS, spool=True, clock=own.clock)
    try:
        shown = action.confirm(own.config, ledger, untrusted_name=by, clock=own.clock, dry_run=dry_run)
    finally:
        ledger.close()
    said = f"would be confirmed by {by}" if dry_run else f"is confirmed by {by}"
    own.result({"shown": to_text(shown), "confirmed": not dry_run}, f"{to_text(shown)} {said}")


@_group.command("set")
def _set(
    context: typer.Context,
    right: Annotated[str, typer.Argument(help="What time it is, e.g. 2026-11-20T08:00:00Z; now: as it is shown.")],
    person: Annotated[str, typer.Option("--as", help="Who asks, by id.")],
    reason: Annotated[str, typer.Option("--reason", help="Why the clock is wrong, or why it is right.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say by how much it is wrong, and ask nobody.")] = False,
) -> None:
    """Ask two people to say what time it is; nothing is set before both have signed."""
    own = shared.of(context)
    seconds = action.correction_to(right, clock=own.clock)
    if dry_run:
        own.result({"correction_seconds": seconds, "asked": False}, f"the clock would be moved by {seconds:+} seconds")
        return
    with promoter_of(own) as promoter:
        request = promoter.request_clock(correction_seconds=seconds, meaning=reason, requested_by=person)
    digest = request.statement.sha256
    own.result(
        {"statement": digest, "correction_seconds": seconds, "asked": True},
        f"{digest[:12]}: {seconds:+} seconds; two people run `sealift clock approve {digest[:12]}` within four hours",
    )


@_group.command("list")
def _list(context: typer.Context) -> None:
    """List the corrections that wait for approvals, or for being applied."""
    own = shared.of(context)
    with promoter_of(own) as promoter:
        found = promoter.pending_clocks()
    shown = own.clock.now()
    rows = [
        {
            "statement": one.statement.sha256,
            "correction_seconds": one.statement.correction_seconds,
            "would_be": to_text(shown + timedelta(seconds=one.statement.correction_seconds)),
            "meaning": one.statement.meaning,
            "approved_by": [approval.name for approval in one.approvals],
        }
        for one in found
    ]
    lines = [
        f"{one.statement.sha256[:12]}  {one.statement.correction_seconds:+} seconds  {one.statement.meaning}"
        f"  approved by {', '.join(approval.shown for approval in one.approvals) or 'nobody'}"
        for one in found
    ]
    own.result({"waiting": rows}, "\n".join(lines) or "no correction of the clock waits")


@_group.command("approve")
@gathered("way", signing.way_of)
def _approve(
    context: typer.Context,
    digest: Annotated[str, typer.Argument(help="The statement's digest, or its beginning.")],
    person: signing.Person,
    way: Way,
    yes: signing.Yes = False,
) -> None:
    """Compare the corrected time with your own watch, and sign it."""
    own = shared.of(context)
    with promoter_of(own) as promoter:
        request = action.approve(
            own.config,
            promoter,
            digest,
            person=person,
            way=way,
            agrees=lambda text: signing.agrees(own, text, yes=yes),
            clock=own.clock,
        )
    facts = {"statement": request.statement.sha256, "approved_by": [one.name for one in request.approvals]}
    shown = [one.shown for one in request.approvals]
    then = f"now `sealift clock apply {request.statement.sha256[:12]}`"
    signing.tell(own, facts, shown, max(2, own.config.policy.approvals), then=then)


@_group.command("apply")
def _apply(
    context: typer.Context,
    digest: Annotated[str, typer.Argument(help="The statement's digest, or its beginning.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, and set nothing (root).")] = False,
) -> None:
    """Set the clock as two people approved it."""
    own = shared.of(context)
    with promoter_of(own) as promoter:
        request = action.waiting(promoter, digest)
    statement = request.statement
    if dry_run:
        with ledger_of(own) as ledger:
            require_settable(own.config, ledger, statement.sha256, clock=own.clock)
        own.result(
            {"statement": statement.sha256, "set": False}, f"it would move by {statement.correction_seconds:+} s"
        )
        return
    with jobs_of(own) as jobs:
        if jobs is None:
            raise UnitError(
                what="the job service does not answer",
                why="it alone may ask for the clock",
                fix="`systemctl start sealift-jobs`",
            )
        jobs.wait(jobs.ask(Kind.SET_CLOCK, digest=statement.sha256)).require_ok()
    then = action.afterwards(own.config, statement.correction_seconds)
    own.result(
        {"statement": statement.sha256, "set": True, "shows": to_text(own.clock.now()), "then": then},
        "\n".join(filter(None, (f"the clock shows {to_text(own.clock.now())}", then))),
    )
