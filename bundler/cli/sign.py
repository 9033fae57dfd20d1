"""`sealift-bundler sign`: round one, the metadata."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bundler.build import Candidate, build
from bundler.cache import Cache, default_root
from bundler.cli import context as shared
from bundler.cli.bars import (
    CeremonyFolder,
    Home,
    KeyPlaces,
    OfflineRequired,
    Person,
    SecretFd,
    Work,
    byte_bar,
    own_keys,
)
from bundler.contents import Contents
from bundler.difference import compare
from bundler.inspect import scan_of
from bundler.offline import require_offline
from bundler.prepare import Prepared, prepare
from bundler.rebuild import Rebuilt, rebuild
from bundler.recipe import Recipe
from bundler.secondlook import require_second_look
from bundler.sign import sign, summary
from bundler.signatory import Ceremony
from bundler.workfolder import WorkFolder
from media.errors import UsageError

_SHOWN = 20
"""Files of each kind that are listed before a signature; `diff` lists all."""


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("sign")
    def command(
        context: typer.Context,
        work: Work,
        ceremony: CeremonyFolder,
        person: Person,
        home: Home = None,
        key: KeyPlaces = None,
        secret_fd: SecretFd = None,
        previous: Annotated[
            Path | None, typer.Option("--previous", help="The release before: its medium or work folder.")
        ] = None,
        rebuild_from: Annotated[
            Path | None,
            typer.Option("--rebuild", metavar="RECIPE", help="Build it again from this recipe first, and compare."),
        ] = None,
        not_rebuilt: Annotated[
            str,
            typer.Option("--not-rebuilt", metavar="REASON", help="Production: why you sign what you did not build."),
        ] = "",
        accepted: Annotated[
            list[str] | None, typer.Option("--accept-difference", help="Sign in spite of this one difference, by name.")
        ] = None,
        cache: Annotated[
            Path | None, typer.Option("--cache", help="Downloads and built wheels.", envvar="SEALIFT_CACHE")
        ] = None,
        checkout: Annotated[
            Path | None, typer.Option("--checkout", help="Sealift's source tree, if this is not run from one.")
        ] = None,
        offline_required: OfflineRequired = False,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask after showing what is signed.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be signed.")] = False,
    ) -> None:
        """Read every byte again, show what changed, and sign. The last signer also seals."""
        ours = shared.of(context)
        if offline_required:
            require_offline()
        folder, held = WorkFolder(root=work), Ceremony.load(ceremony)
        facts: dict[str, Any] = {}
        prepared = None
        if not folder.is_frozen:
            with byte_bar(ours) as progress:
                prepared = prepare(folder, ceremony=held, progress=progress)
            facts = summary(prepared)
            ours.say(_text(facts))
            for line in scan_of(folder).lines():
                ours.say(f"  scan: {line}")
            if previous is not None:
                changed = compare(Contents.open(previous), Contents.of_work(folder, prepared.payload))
                facts["difference"] = changed.to_json()
                ours.say(changed.to_text(limit=_SHOWN))
            if rebuild_from is not None:
                again = _rebuilt(ours, folder, rebuild_from, prepared, Cache(root=cache or default_root()), checkout)
                facts["rebuilt"] = again.to_json()
                ours.say(again.to_text())
                if not dry_run:
                    again.require_accepted(accepted or ())
        if dry_run:
            ours.result(facts, "nothing was signed")
            return
        if prepared is not None:
            looked = rebuild_from is not None
            ours.say(require_second_look(folder, person, ceremony=held, is_rebuilt=looked, reason=not_rebuilt))
        _confirm(ours, yes=yes)
        done = sign(folder, person, ceremony=held, home=own_keys(home, key, secret_fd), prepared=prepared)
        lines = [f"signed by {', '.join(done.signed)}; {done.threshold} people are needed"]
        if done.frozen:
            lines.append(f"the metadata is frozen; you sealed volumes {', '.join(map(str, done.sealed_volumes))}")
            lines.append(f"next: sealift-bundler seal {work} --person ID, for the others")
        ours.result({**facts, **asdict(done), "not_rebuilt": not_rebuilt}, "\n".join(lines))


def _confirm(ours: shared.Context, *, yes: bool) -> None:
    if sys.stdin.isatty() and not yes and not ours.as_json and not typer.confirm("Sign this release?", err=True):
        raise UsageError(
            what="nothing was signed", why="the answer was no", fix="sign it once all of it is as it should be"
        )


def _rebuilt(
    ours: shared.Context, work: WorkFolder, recipe: Path, prepared: Prepared, cache: Cache, checkout: Path | None
) -> Rebuilt:
    def made(wanted: Recipe, place: WorkFolder) -> Sequence[Candidate]:
        return build(wanted, place, cache=cache, clock=ours.clock, progress=ours.say, checkout=checkout)

    return rebuild(work, Recipe.load(recipe), made, payload=prepared.payload, cache=cache, told=ours.say)


def _text(facts: dict[str, Any]) -> str:
    statements = ", ".join(name.removeprefix("attest/").removesuffix(".dsse.json") for name in facts["attestations"])
    lines = [
        f"{facts['release']}, serial {facts['serial']}, for {', '.join(facts['sites'])}",
        f"  {facts['files']} files, {facts['bytes']:,} bytes, payload {facts['payload_digest']}",
        f"  stale after {facts['stale_after']}; statements: {statements}",
    ]
    return "\n".join([*lines, *(f"  signs {role:<10} {digest}" for role, digest in facts["signs"].items())])
