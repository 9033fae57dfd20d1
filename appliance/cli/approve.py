"""`sealift approve`: one person's yes to a version, signed with the person's own key."""

from typing import Annotated

import typer

from appliance.actions import approve as action
from appliance.actions.ways import Way
from appliance.cli import context as shared
from appliance.cli import signing
from appliance.cli.gathering import gathered
from appliance.cli.opened import production_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("approve")(_approve)


@gathered("way", signing.way_of)
def _approve(
    context: typer.Context,
    which: Annotated[str, typer.Argument(help="A digest, the beginning of one, a name, or NAME:VERSION.")],
    person: signing.Person,
    way: Way,
    yes: signing.Yes = False,
) -> None:
    """Show what would change in production, and sign it."""
    own = shared.of(context)
    with production_of(own) as here:
        facts = action.approve(
            here,
            which,
            person=person,
            way=way,
            agrees=lambda question: signing.agrees(own, question.to_text(), yes=yes),
        )
    signing.tell(own, facts.to_json(), [one.shown for one in facts.request.approvals], facts.needed)
