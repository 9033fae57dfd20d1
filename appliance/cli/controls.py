"""`sealift controls`: what laws and standards ask, what is done for it, and what this box shows now."""

from typing import Annotated

import typer

from appliance.actions.controls import judged as actions
from appliance.actions.controls.live import Here, State, seen
from appliance.actions.controls.mapping import packaged
from appliance.cli import context as shared
from appliance.cli.opened import ledger_of

_MARKS = {State.GREEN: "✓", State.RED: "✗", State.NOT_HERE: "-"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("controls")(_controls)


def _controls(
    context: typer.Context,
    framework: Annotated[
        str, typer.Option("--framework", help="hipaa, gdpr, soc2, part11, 800-53, 800-171 or 800-88; all without it.")
    ] = "",
    page: Annotated[
        bool, typer.Option("--page", help="Print the whole map as docs/controls.md; asks nothing.")
    ] = False,
) -> None:
    """List controls with this box's evidence: green, red, or not here. Changes nothing; asks the ledger and the box."""
    own, known = shared.of(context), packaged()
    if page:
        text = actions.page(known)
        own.result({"page": text}, text)
        return
    with ledger_of(own) as ledger:
        evidence = seen(Here(config=own.config, ledger=ledger, clock=own.clock))
    found = actions.judged(known, evidence, framework=framework)
    lines = []
    for one in found:
        control = one.control
        lines.append(f"{_MARKS[one.state]} {control.framework:<8} {control.id:<22} {control.title}")
        lines += [f"      {each.name}: {each.text}" for each in one.evidence if each.state is State.RED]
    counts = {state: sum(one.state is state for one in found) for state in State}
    lines.append(", ".join(f"{count} {state}" for state, count in counts.items()))
    lines.append("no program meets a framework alone: docs/controls.md says what people have to do")
    facts = {
        "controls": [one.to_json() for one in found],
        "counts": {str(state): count for state, count in counts.items()},
        "frameworks": {
            one.id: {"name": one.name, "version": one.version, "alone": one.alone} for one in known.frameworks.values()
        },
    }
    own.result(facts, "\n".join(lines))
