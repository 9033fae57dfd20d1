"""`sealift capacity`: how many notes an hour this machine can write."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import capacity as action
from appliance.actions.capacity import CapacityFacts
from appliance.actions.capacity_plot import svg
from appliance.cli import context as shared
from appliance.cli.opened import bench_of, ledger_of
from appliance.errors import NotInstalledError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("capacity")(_capacity)


def _capacity(
    context: typer.Context,
    which: Annotated[str, typer.Option("--version", help="Measure this version in the test stage instead.")] = "",
    seconds: Annotated[int, typer.Option("--seconds", min=5, max=3600, help="About how long it may take.")] = (
        action.DEFAULT_SECONDS
    ),
    last: Annotated[bool, typer.Option("--last", help="Measure nothing; show the last figure on record.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.svg", help="Draw it into this file.")] = None,
) -> None:
    """Measure the engine in production with a standard note, record the figures, and show them.

    Of several models in production it is the first line's. Callers share the machine with it: measure when few work.
    """
    own = shared.of(context)
    if last:
        with ledger_of(own) as ledger:
            found = action.latest(ledger)
        if found is None:
            raise NotInstalledError(
                what="nothing was measured here yet", why="the ledger holds no figure", fix="run `sealift capacity`"
            )
        facts = found
    else:
        facts = measured(own, which, seconds)
    if plot is not None:
        plot.write_text(svg(facts), encoding="utf-8")
        own.say(f"drawn into {plot.name}")
    own.result(facts.to_json(), "\n".join(lines_of(facts)))


def measured(own: shared.Context, which: str, seconds: int) -> CapacityFacts:
    """Measure with a progress bar on stderr."""
    with bench_of(own) as here, own.progress() as bar:
        task = bar.add_task("measuring", total=1)

        def show(words: str, done: int, of: int) -> None:
            bar.update(task, description=words, completed=done, total=of)

        return action.measure(here, which, seconds=seconds, progress=show)


def lines_of(facts: CapacityFacts) -> list[str]:
    """Return a measurement as lines for people, the requirements' numbers beside it."""
    figures = facts.figures
    best = figures["best_callers"]
    lines = [
        (
            f"about {facts.notes_per_hour} notes per hour ({facts.model}, {best} at once;"
            f" a note is {figures['note_tokens']} tokens in, {figures['answer_tokens']} out)"
        ),
        f"  reading  {figures['prefill_tokens_per_second']} tokens/s",
    ]
    lines += [_level(one) for one in figures["levels"]]
    lines += [f"  {callers:>2} at once  not measured: it would take too long here" for callers in figures["left_out"]]
    reached = facts.reached
    whose = "this machine" if facts.is_of_this_machine else "another machine than this one"
    lines.append(
        f"  {whose}: {facts.cores} cores, {facts.memory_mib / 1024:.0f} GiB; "
        + (f"as large as {reached.id} asks ({reached.use})" if reached else "smaller than B23 asks")
    )
    for reference in action.REFERENCES:
        low, high = reference.tokens_per_second
        lines.append(
            f"  {reference.id} {reference.name}: 7B Q4, {reference.cores} cores, {reference.memory_gib} GiB,"
            f" {low}-{high} tokens/s, {reference.use}"
        )
    return lines


def _level(one: Mapping[str, int]) -> str:
    return (
        f"  {one['callers']:>2} at once  {one['tokens_per_second_millis'] / 1000:.1f} tokens/s,"
        f" first token {one['first_token_millis'] / 1000:.1f} s,"
        f" a note {one['seconds_per_note_millis'] / 1000:.0f} s, {one['notes_per_hour']} notes/h"
    )
