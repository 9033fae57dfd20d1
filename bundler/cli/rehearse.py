"""`sealift-bundler rehearse`: install a candidate without a network and let it answer."""

from pathlib import Path
from typing import Annotated

import typer

from bundler.cache import Cache, default_root
from bundler.cli import context as shared
from bundler.cli.bars import DryRun
from bundler.rehearse import Rehearsal, before_rehearsing, is_signed, rehearse
from bundler.rehearsing.answers import models_of
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
        dry_run: DryRun = False,
    ) -> None:
        """Receive and install the candidate without a network, ask its models, and state what was seen."""
        ours = shared.of(context)
        candidate, memory = WorkFolder(root=work), Cache(root=cache or default_root())
        below = None if base is None else WorkFolder(root=base)
        if dry_run:
            digest, remembered = before_rehearsing(
                candidate, cache=memory, clock=ours.clock, base=below, on_system=system is not None, is_fresh=fresh
            )
            facts = {"payload_digest": digest, "models": models_of(candidate), "remembered": remembered is not None}
            told = _preview(digest, models_of(candidate), remembered, system, is_kept=is_signed(candidate))
            ours.result({**facts, "dry_run": True}, told)
            return
        found = rehearse(
            candidate,
            cache=memory,
            clock=ours.clock,
            base=below,
            system=system,
            progress=ours.say,
            is_fresh=fresh,
            keep=keep,
        )
        ours.result(found.predicate(), _text(found, is_kept=is_signed(candidate)))


def _preview(
    digest: str, models: tuple[str, ...], remembered: Rehearsal | None, system: Path | None, *, is_kept: bool
) -> str:
    if remembered is not None:
        again = "a statement is signed, and would stay" if is_kept else "that would be stated again"
        return f"rehearsed at {remembered.at}: {remembered.level}; {again}\nnothing was rehearsed"
    where = "an empty network namespace" if system is None else f"a booted copy of {system.name}"
    asked = f"{', '.join(models)} would be asked" if models else "no model here can answer on a CPU"
    return f"payload {digest[:16]} would be received and installed in {where}; {asked}\nnothing was rehearsed"


def _text(found: Rehearsal, *, is_kept: bool) -> str:
    lines = [f"rehearsed: {found.level}, at {found.at}" + (" (remembered)" if found.was_remembered else "")]
    lines += [f"  {model.name} {model.model_digest[:12]} answered" for model in found.models]
    where = f"on {found.system}, booted, by the trust sheet's commands; " if found.system else ""
    stated = "a statement of before is signed, and stays" if is_kept else "the statement is attest/rehearsal.json"
    lines += [f"  {where}with no network; {stated}"]
    return "\n".join(lines)
