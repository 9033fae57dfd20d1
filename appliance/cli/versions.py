"""`sealift models`: the versions this site knows."""

from typing import Annotated, Any

import typer

from appliance.actions import versions as actions
from appliance.actions.versions import VersionFacts
from appliance.cli import context as shared
from appliance.cli.opened import records_of


def register(app: typer.Typer) -> None:
    """Add the commands."""
    models = typer.Typer(help="The model versions this site knows.", no_args_is_help=True)
    app.add_typer(models, name="models")
    models.command("list")(_list)
    models.command("show")(_show)


def _list(context: typer.Context) -> None:
    """List all versions with their stage."""
    own = shared.of(context)
    with records_of(own) as (_, state):
        found = actions.list_versions(state)
    lines = [
        f"{one.version.model_digest[:12]}  {one.version.name} {one.version.version}  {one.stage}"
        f"  release serial {one.version.serial}"
        for one in found
    ]
    own.result({"versions": [one.to_json() for one in found]}, "\n".join(lines) or "no version is registered")


def _show(
    context: typer.Context,
    which: Annotated[str, typer.Argument(help="A digest, the beginning of one, a name, or NAME:VERSION.")],
) -> None:
    """Show one version: digests, origin, gates."""
    own = shared.of(context)
    with records_of(own) as (_, state):
        found = actions.show(state, which)
    own.result(found.to_json(), _text(found))


def _text(facts: VersionFacts) -> str:
    version = facts.version
    rows: list[tuple[str, Any]] = [
        ("Version", f"{version.name} {version.version}"),
        ("Stage", facts.stage),
        ("Model digest", version.model_digest),
        ("Weights digest", version.weights_digest),
        ("Release serial", version.serial),
        ("Engine", version.descriptor.get("engine")),
        ("Quantization", version.descriptor.get("quantization")),
        ("License", version.descriptor.get("license")),
        ("Registered", f"sequence {version.sequence}"),
    ]
    lines = [f"{label:<16}{value}" for label, value in rows]
    for gate in facts.gates:
        mark = "✓" if gate.passed else "✗"
        lines.append(
            f"Gate            {mark} {gate.gate}, sequence {gate.sequence}, evidence {gate.evidence_digest[:12]}"
        )
    return "\n".join(lines)
