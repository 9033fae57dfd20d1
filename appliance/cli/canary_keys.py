"""`sealift canary pin`, `keep-out`, `free` and `keys`: keys that the share does not decide on."""

from typing import Annotated

import typer

from appliance.actions import keyrules
from appliance.cli import context as shared
from appliance.cli.context import Context
from appliance.cli.opened import records_of

Key = Annotated[str, typer.Argument(help="The ten letters after sl-.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def register(canary: typer.Typer) -> None:
    """Add the commands to `sealift canary`."""
    canary.command("pin")(_pin)
    canary.command("keep-out")(_keep_out)
    canary.command("free")(_free)
    canary.command("keys")(_keys)


def _pin(
    context: typer.Context,
    key: Key,
    version: Annotated[str, typer.Option("--version", help="The version that answers it, and no other.")],
    reason: Reason,
    dry_run: DryRun = False,
) -> None:
    """Pin a key to a version; it is told before that version is retired, and refused afterwards."""
    _decide(shared.of(context), key, keyrules.PINNED, version, reason, dry_run=dry_run)


def _keep_out(context: typer.Context, key: Key, reason: Reason, dry_run: DryRun = False) -> None:
    """Keep a key out of canaries: it gets what is in production."""
    _decide(shared.of(context), key, keyrules.KEPT_OUT, "", reason, dry_run=dry_run)


def _free(context: typer.Context, key: Key, reason: Reason, dry_run: DryRun = False) -> None:
    """Let the share decide on a key again."""
    _decide(shared.of(context), key, keyrules.FREE, "", reason, dry_run=dry_run)


def _keys(context: typer.Context) -> None:
    """List the keys that are pinned or kept out, and when the version of a pinned one leaves."""
    own = shared.of(context)
    with records_of(own) as (_, state):
        found = keyrules.rules(state)
    lines = [
        f"{one.key_id}  {one.department:<24} {one.owner:<24} {one.rule:<9} {(one.model_digest or '')[:12]:<12}"
        f"{f'  leaves {one.leaves}' if one.leaves else ''}"
        for one in found
    ]
    own.result({"keys": [one.to_json() for one in found]}, "\n".join(lines) or "the share decides on every key")


def _decide(own: Context, key: str, rule: str, which: str, reason: str, *, dry_run: bool) -> None:
    with records_of(own) as (ledger, state):
        if dry_run:
            keyrules.judged(state, key_id=key, rule=rule, which=which)
        else:
            keyrules.decide(ledger, state, key_id=key, rule=rule, which=which, reason=reason)
    text = "nothing was changed" if dry_run else f"key {key} is {rule}{f' to {which}' if which else ''}"
    own.result({"dry_run": dry_run, "key_id": key, "rule": rule}, text)
