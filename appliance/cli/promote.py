"""`sealift promote`: bring a version into production, as far as its approvals allow."""

from typing import Annotated

import typer

from appliance.actions import promote as action
from appliance.actions.promote import PromoteFacts, Step
from appliance.cli import context as shared
from appliance.cli.opened import production_of
from appliance.cli.versions import fit_lines
from appliance.errors import NotEnoughApprovalsError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("promote")(_promote)


def _promote(
    context: typer.Context,
    which: Annotated[str, typer.Argument(help="A digest, the beginning of one, a name, or NAME:VERSION.")],
    person: Annotated[str, typer.Option("--as", help="Who requests it, by id.")] = "",
    meaning: Annotated[str, typer.Option("--meaning", help="Why, in the words people sign.")] = "",
    keep_warm: Annotated[bool, typer.Option("--keep-warm", help="Leave the version before loaded.")] = False,
) -> None:
    """Request a promotion, or finish one that two different people have approved. Repeat it until it serves."""
    own = shared.of(context)
    with production_of(own) as here:
        facts = action.promote(here, which, person=person, meaning=meaning, keep_warm=keep_warm)
    if facts.step is Step.WAITING:
        names = ", ".join(facts.approved_by) or "nobody"
        raise NotEnoughApprovalsError(
            what=f"{facts.version.name} {facts.version.version} waits for approvals",
            why=f"{len(facts.approved_by)} of {facts.needed}: {names}",
            fix=f"let another person run `sealift approve {facts.version.model_digest[:12]} --as PERSON`",
        )
    own.result(facts.to_json(), _text(facts))


def _text(facts: PromoteFacts) -> str:
    version = f"{facts.version.name} {facts.version.version}"
    if facts.step is Step.REQUESTED:
        digest = facts.version.model_digest[:12]
        plan = "" if facts.fit is None else "\n".join(("", *fit_lines(facts.fit)))
        return (
            f"requested {version} for production; {facts.needed} different people approve it with\n"
            f"  sealift approve {digest} --as PERSON\nthen run\n  sealift promote {digest}{plan}"
        )
    served = facts.served
    seconds = "" if served is None else f" after {served.seconds:.1f} s"
    if facts.promotion is None:
        return f"{version} is in production and serves{seconds}"
    names = " and ".join(facts.approved_by)
    return f"{version} serves production{seconds}; approved by {names}; ledger sequence {facts.promotion.sequence}"
