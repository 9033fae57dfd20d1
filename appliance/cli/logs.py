"""`sealift logs`: what the units wrote into the journal."""

from typing import Annotated

import typer

from appliance.actions import journal
from appliance.cli import context as shared
from media.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("logs")
    def logs(
        context: typer.Context,
        units: Annotated[
            list[str] | None,
            typer.Argument(metavar="[UNIT...]", help="Such as gateway, engine-test@* or nginx.service; else all ours."),
        ] = None,
        follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
        lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=10_000, help="The newest so many.")] = 100,
        since: Annotated[
            str, typer.Option("--since", metavar="TIME", help="From then on, as journalctl reads it: -1h, today.")
        ] = "",
    ) -> None:
        """Show what the units wrote: no prompt, answer or name is ever in it."""
        own = shared.of(context)
        asked = journal.Asked.of(units or (), lines=lines, since=since)
        if follow and own.as_json:
            raise UsageError(what="--follow has no end, and JSON is one document", why="", fix="leave one out")
        if follow:
            journal.follow(asked)
        elif own.as_json:
            own.result({"units": list(asked.units), "lines": journal.records(asked)}, "")
        else:
            own.result({}, journal.text(asked))
