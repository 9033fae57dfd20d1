"""`sealift inspect`: what a volume claims to be."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.cli import context as shared
from appliance.verify.inspect import inspect as inspect_medium
from appliance.verify.medium import Medium

_HEAD = "NOT VERIFIED. This is what the volume says of itself; only `sealift receive` decides."


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("inspect")
    def inspect(
        context: typer.Context,
        volumes: Annotated[list[Path], typer.Argument(metavar="VOLUME...", help="Folders of mounted volumes.")],
    ) -> None:
        """Say what volumes claim to be, before any trust. Nothing is verified and nothing is stored."""
        own = shared.of(context)
        found = []
        for number, folder in enumerate(volumes, start=1):
            with Medium.open(folder, label=f"volume folder {number}") as medium:
                found.append(inspect_medium(medium))
        own.result({"verified": False, "volumes": found}, "\n\n".join([_HEAD, *map(_text, found)]))


def _text(facts: Mapping[str, Any]) -> str:
    lines = [str(facts["volume"])]
    for name, value in facts.items():
        if name.startswith("untrusted_"):
            lines.append(f"  claims {name.removeprefix('untrusted_').replace('_', ' ')}: {_value(value)}")
    lines += [f"  litter, not opened: {_value(facts['litter'])}"] if facts["litter"] else []
    lines += [f"  problem: {problem}" for problem in facts["problems"]]
    return "\n".join(lines)


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
