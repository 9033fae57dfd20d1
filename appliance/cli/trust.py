"""`sealift trust`: what this box believes, how it began, and how two people mend it."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import trust as action
from appliance.actions.trust import TrustFacts
from appliance.cli import context as shared
from appliance.cli.context import Context

_PROMPTS = ("First person, type the code", "Second person, type the code")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="What this box believes.", no_args_is_help=True)
    app.add_typer(commands, name="trust")

    @commands.command("pin")
    def pin(
        context: typer.Context,
        root: Annotated[Path, typer.Option("--root", metavar="FILE", help="metadata/1.root.json of volume 1.")],
        code: Annotated[
            list[str] | None,
            typer.Option("--code", metavar="CODE", help="The code from the trust sheet, once for each of two people."),
        ] = None,
    ) -> None:
        """Pin the first root of this box, once. Two people type the code from the trust sheet."""
        own = shared.of(context)
        _show(own, action.pin(own.config, root, code or _ask(), clock=own.clock), "pinned")

    @commands.command("show")
    def show(context: typer.Context) -> None:
        """Say whom this box believes, and since which release."""
        own = shared.of(context)
        _show(own, action.show(own.config), "believed")

    @commands.command("recover")
    def recover(
        context: typer.Context,
        by: Annotated[list[str], typer.Option("--by", metavar="NAME", help="Who you are; give it twice.")],
        code: Annotated[
            list[str] | None, typer.Option("--code", metavar="CODE", help="The running release's code, once for each.")
        ] = None,
        checkpoint: Annotated[
            Path | None, typer.Option("--checkpoint", metavar="FILE", help="The last printed checkpoint, as text.")
        ] = None,
        root: Annotated[
            list[Path] | None,
            typer.Option("--root", metavar="FILE", help="A later root, metadata/N.root.json, that this box has lost."),
        ] = None,
    ) -> None:
        """Write a lost or damaged trust record anew: two people, the running release's code, the last checkpoint."""
        own = shared.of(context)
        note = checkpoint.read_text(encoding="utf-8") if checkpoint is not None else ""
        facts = action.recover(own.config, code or _ask(), by, checkpoint=note, clock=own.clock, roots=root or ())
        _show(own, facts, "recovered")


def _ask() -> list[str]:
    return [typer.prompt(prompt, hide_input=True) for prompt in _PROMPTS]


def _show(own: Context, facts: TrustFacts, outcome: str) -> None:
    lines = [
        f"{outcome}: root {facts.root_version}, for {facts.environment}, first root sha256 {facts.root_sha256[:12]}",
        f"  signature policy {facts.policy}",
        f"  release {facts.thresholds['release']} people, root {facts.thresholds['root']} people",
        *(f"  {person['name']} ({', '.join(person['roles'])}) {person['fingerprint']}" for person in facts.people),
        f"  accepted serial {facts.serial}" if facts.serial else "  nothing accepted yet",
        *(f"  the stored record of serial {serial} is damaged: receive it again" for serial in facts.damaged),
    ]
    own.result({"outcome": outcome, **facts.to_json()}, "\n".join(lines))
