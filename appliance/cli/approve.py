"""`sealift approve`: one person's yes to a version, signed with the person's own key."""

from typing import Annotated

import typer

from appliance.actions import approve as action
from appliance.cli import context as shared
from appliance.cli import signing
from appliance.cli.opened import production_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("approve")(_approve)


def _approve(
    context: typer.Context,
    which: Annotated[str, typer.Argument(help="A digest, the beginning of one, a name, or NAME:VERSION.")],
    person: signing.Person,
    gnupg_home: signing.GnupgHome = None,
    yes: signing.Yes = False,
) -> None:
    """Show what would change in production, and sign it."""
    own = shared.of(context)
    with production_of(own) as here:
        facts = action.approve(
            here,
            which,
            person=person,
            home=signing.home_of(gnupg_home),
            agrees=lambda question: signing.agrees(own, question.to_text(), yes=yes),
        )
    names = ", ".join(one.name for one in facts.request.approvals)
    own.result(facts.to_json(), f"approved by {names}: {len(facts.request.approvals)} of {facts.needed}")
