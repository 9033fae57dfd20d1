"""`sealift host`: changes of the host that wait, what they would change, and one person's yes to one of them."""

from typing import Annotated

import typer

from appliance.actions import hostapproval as action
from appliance.actions.ways import Way
from appliance.cli import context as shared
from appliance.cli import signing
from appliance.cli.gathering import gathered
from appliance.cli.opened import is_operator, jobs_of, promoter_of
from media.clock import to_text

_group = typer.Typer(help="Changes of the host, which take two people.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(_group, name="host")


@_group.command("list")
def _list(context: typer.Context) -> None:
    """List the changes that wait for approvals or for their install."""
    own = shared.of(context)
    with promoter_of(own) as promoter:
        waiting = promoter.pending_hosts()
    rows = [
        {
            "plan": one.statement.plan_digest,
            "serial": one.statement.serial,
            "meaning": one.statement.meaning,
            "expires": to_text(one.statement.expires),
            "approved_by": [approval.shown for approval in one.approvals],
        }
        for one in waiting
    ]
    lines = [
        f"{row['plan'][:12]}  serial {row['serial']}  {row['meaning']}"  # type: ignore[index]
        f"  approved by {', '.join(row['approved_by']) or 'nobody'}"  # type: ignore[arg-type]
        for row in rows
    ]
    own.result({"waiting": rows}, "\n".join(lines) or "no change of the host waits")


@_group.command("approve")
@gathered("way", signing.way_of)
def _approve(
    context: typer.Context,
    plan: Annotated[str, typer.Argument(help="The plan's digest, or its beginning.")],
    person: signing.Person,
    way: Way,
    yes: signing.Yes = False,
) -> None:
    """Show what would change on the host, and sign it."""
    own = shared.of(context)
    with promoter_of(own) as promoter, jobs_of(own) as jobs:
        source = jobs if jobs is not None and is_operator(own.config) else None
        request = action.approve(
            own.config,
            promoter,
            plan,
            person=person,
            way=way,
            agrees=lambda text: signing.agrees(own, text, yes=yes),
            source=source,
        )
    names = [one.name for one in request.approvals]
    facts = {"plan": request.statement.plan_digest, "serial": request.statement.serial, "approved_by": names}
    shown = [one.shown for one in request.approvals]
    signing.tell(own, facts, shown, max(2, own.config.policy.approvals))
