"""`sealift-bundler rehearse`: install a candidate without a network and let it answer."""

from pathlib import Path
from typing import Annotated

import typer

from bundler.cache import Cache, default_root
from bundler.cli import context as shared
from bundler.rehearse import Rehearsal, rehearse
from bundler.workfolder import WorkFolder


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("rehearse")
    def command(
        context: typer.Context,
        work: Annotated[Path, typer.Argument(help="The work folder with an unsigned candidate.")],
        cache: Annotated[
            Path | None, typer.Option("--cache", help="Where rehearsals are remembered.", envvar="SEALIFT_CACHE")
        ] = None,
        base: Annotated[
            Path | None,
            typer.Option("--base", help="Work folder of the release below, for one that does not bring everything."),
        ] = None,
        system: Annotated[
            Path | None,
            typer.Option(
                "--system", metavar="FOLDER", help="Boot a copy of this root file system instead; needs root."
            ),
        ] = None,
        fresh: Annotated[bool, typer.Option("--fresh", help="Rehearse again, whatever is remembered.")] = False,
        keep: Annotated[bool, typer.Option("--keep", help="Leave the throwaway folder behind.")] = False,
    ) -> None:
        """Receive and install the candidate without a network, ask its models, and state what was seen."""
        ours = shared.of(context)
        found = rehearse(
            WorkFolder(root=work),
            cache=Cache(root=cache or default_root()),
            clock=ours.clock,
            base=None if base is None else WorkFolder(root=base),
            system=system,
            progress=ours.say,
            is_fresh=fresh,
            keep=keep,
        )
        ours.result(found.predicate(), _text(found))


def _text(found: Rehearsal) -> str:
    lines = [f"rehearsed: {found.level}, at {found.at}" + (" (remembered)" if found.was_remembered else "")]
    lines += [f"  {model.name} {model.model_digest[:12]} answered" for model in found.models]
    where = f"on {found.system}, booted, by the trust sheet's commands; " if found.system else ""
    lines += [f"  {where}with no network; the statement is attest/rehearsal.json"]
    return "\n".join(lines)
