"""`sealift evidence`: the form that people sign after a receive, printed again from the records."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import evidence as action
from appliance.cli import context as shared


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("evidence")
    def evidence(
        context: typer.Context,
        out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write it; .pdf or .html.")],
        serial: Annotated[int | None, typer.Argument(help="Serial of a release that was received.")] = None,
        record: Annotated[
            int | None, typer.Option("--record", help="Sequence of a record instead: a refused or repeated receive.")
        ] = None,
    ) -> None:
        """Print each check of a receive with its time and result, for people to sign."""
        own = shared.of(context)
        found = action.write_again(own.config, out, serial=serial, sequence=record, clock=own.clock)
        own.result({"file": out.name, "kind": found.kind, "sequence": found.sequence}, f"the form is in {out.name}")
