"""`sealift models compare` and `accept-level`: versions side by side, and a person's word for a level."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.actions import accepting, comparing
from appliance.actions.comparing import Compared
from appliance.actions.comparing_plot import svg
from appliance.cli import context as shared
from appliance.cli.opened import records_of

Which = Annotated[str, typer.Argument(help="A digest, the beginning of one, a name, or NAME:VERSION.")]


def register(models: typer.Typer) -> None:
    """Add the commands to those of `sealift models`."""
    models.command("compare")(_compare)
    models.command("accept-level")(_accept)


def _compare(
    context: typer.Context,
    first: Which,
    second: Which,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.svg", help="Draw it into this file.")] = None,
) -> None:
    """Show two validated versions side by side: quality, speed at 1 and 16 callers, memory. Nothing is started."""
    own = shared.of(context)
    with records_of(own) as (ledger, state):
        found = comparing.compare(own.config, state, ledger, first, second)
    if plot is not None:
        plot.write_text(svg(found), encoding="utf-8")
        own.say(f"drawn into {plot.name}")
    own.result(found.to_json(), "\n".join(_lines(found)))


def _accept(
    context: typer.Context,
    which: Which,
    person: Annotated[str, typer.Option("--as", metavar="PERSON", help="Whose word it is, by id.")],
    reason: Annotated[str, typer.Option("--reason", help="Why this version is to serve in spite of its level.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and tell; record nothing.")] = False,
) -> None:
    """Accept, by name, a level that is not recommended, for one version. Validate again; approvers see who and why."""
    own = shared.of(context)
    with records_of(own) as (ledger, state):
        found = accepting.accept_level(
            own.config.at, state, ledger, which, person=person, reason=reason, dry_run=dry_run
        )
    verb = "would be accepted" if dry_run else "is accepted"
    text = (
        f"{found.level} {verb} for {found.name} by {found.person}\n  next: sealift validate {found.model_digest[:12]}"
    )
    own.result(found.to_json(), text)


def _lines(found: Compared) -> list[str]:
    lines = []
    for number, side in enumerate((found.first, found.second), start=1):
        refused = f"  NOT for production: {side.refused} is not recommended" if side.refused else ""
        lines.append(f"{number}  {side.label}  {side.known.quantization}  {side.version.model_digest[:12]}{refused}")
    for one in found.sets:
        lines.append(
            f"{one['name']}: {comparing.accuracy(one['first'])} and {comparing.accuracy(one['second'])}{_change(one)}"
        )
        if one["first"]["word_perplexity_millis"] and one["second"]["word_perplexity_millis"]:
            values = [one[side]["word_perplexity_millis"] / 1000 for side in ("first", "second")]
            lines.append(f"  perplexity by word {values[0]:.2f} and {values[1]:.2f}")
    if not found.sets:
        lines.append("no task set that both did")
    for level in found.speeds:
        sides = (level["first"], level["second"])
        speeds = " and ".join(f"{side['tokens_per_second_millis'] / 1000:.1f}" for side in sides)
        firsts = " and ".join(str(side["first_token_p50_millis"]) for side in sides)
        lines.append(f"{level['callers']} at once: {speeds} tokens/s, first token {firsts} ms")
    if not found.speeds:
        lines.append("no speed that both were asked for in the same way")
    lines.append("the second is worse in" if found.worse else "the second is worse in nothing that both have")
    return [*lines, *(f"  {one}" for one in found.worse)]


def _change(one: Mapping[str, Any]) -> str:
    told = comparing.change(one)
    return f"; the second {told}" if told else ""
