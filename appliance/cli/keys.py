"""`sealift keys`: the API keys of departments."""

from dataclasses import replace
from typing import Annotated

import typer

from appliance.actions import keys as actions
from appliance.cli import context as shared
from appliance.cli.opened import records_of
from appliance.keys.opening import open_keys
from appliance.timekeeping.believed import BelievedClock


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keys = typer.Typer(help="API keys of departments.", no_args_is_help=True)
    app.add_typer(keys, name="keys")
    keys.command("create")(_create)
    keys.command("list")(_list)
    keys.command("revoke")(_revoke)


def _create(
    context: typer.Context,
    department: Annotated[str, typer.Option("--department", help="Who uses it.")],
    owner: Annotated[str, typer.Option("--owner", help="Who answers for it.")],
    phi: Annotated[str, typer.Option("--phi", help="Identifiers: tokenise, pass or block.")] = "tokenise",
    tier: Annotated[str, typer.Option("--tier", help="basic, standard or premium; standard, for test basic.")] = "",
    stage: Annotated[
        str,
        typer.Option(
            "--stage", help="production, or test: for application developers; each stage refuses the other's."
        ),
    ] = actions.PRODUCTION,
    days: Annotated[
        int, typer.Option("--days", help="How long it works; 0 for no end, or 30 days for test.", min=0)
    ] = 0,
    purpose: Annotated[
        str, typer.Option("--purpose", help="What its answers are for, in one word: care, billing, research.")
    ] = "",
) -> None:
    """Make a key and print it once."""
    own = shared.of(context)
    validity = actions.Validity.of(stage, days, BelievedClock(own.config.at, own.clock))
    with records_of(own) as (ledger, state):
        made = actions.create(
            ledger,
            state,
            open_keys(own.config),
            department=department,
            owner=owner,
            phi_mode=phi,
            tier=tier,
            validity=replace(validity, purpose=purpose),
        )
    own.say(f"key {made.facts.key_id} of {made.facts.department}; it is shown once and kept nowhere")
    own.result({**made.facts.to_json(), "key": made.text}, made.text)


def _list(context: typer.Context) -> None:
    """List all keys, without their secrets."""
    own = shared.of(context)
    with records_of(own) as (ledger, state):
        known = actions.purposes(ledger)
        found = [replace(one, purpose=known.get(one.key_id, "")) for one in actions.list_keys(state)]
    lines = [
        f"{one.key_id}  {one.department:<24} {one.owner:<24} {one.phi_mode:<9} {one.tier:<9} {one.created_at}"
        f"  {one.purpose or 'no purpose named'}"
        f"{'  for test' if one.stage == actions.TEST else ''}{f'  ends {one.expires_at}' if one.expires_at else ''}"
        f"{f'  revoked {one.revoked_at}' if one.revoked_at else ''}"
        for one in found
    ]
    own.result({"keys": [one.to_json() for one in found]}, "\n".join(lines) or "there is no key")


def _revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(help="The ten letters after sl-.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")],
) -> None:
    """End a key."""
    own = shared.of(context)
    with records_of(own) as (ledger, state):
        facts = actions.revoke(ledger, state, key_id=key_id, reason=reason)
    own.result(facts.to_json(), f"key {facts.key_id} of {facts.department} was ended at {facts.revoked_at}")
