"""`sealift-bundler probe`: the program for the machine, the blank form, and what came back of either."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from bundler.cli import context as shared
from bundler.cli.bars import NOT_WRITTEN, DryRun, require_new
from bundler.errors import NotEmptyError, ProbeError
from bundler.probe import form
from bundler.probe.facts import MOST_BYTES, Probe
from bundler.probe.questions import FLAGS, QUESTIONS, parse_form, probe_of
from bundler.probesummary import summary
from media.digest import sha256_hex
from media.errors import UsageError

PROGRAM = "sealift-probe.sh"

_Out = Annotated[Path | None, typer.Option("--out", "-o", help="Write to this new file instead of stdout.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="What a machine says of itself before a release is made for it.")
    app.add_typer(group, name="probe")

    @group.command("file")
    def file(context: typer.Context, out: _Out = None, dry_run: DryRun = False) -> None:
        """Write out the stand-alone program that a bare machine runs: POSIX sh, no root, no network."""
        content = files("bundler.probe").joinpath(PROGRAM).read_bytes()
        _give(shared.of(context), content, out, what="the program", dry_run=dry_run)

    @group.command("form")
    def blank(context: typer.Context, out: _Out = None, dry_run: DryRun = False) -> None:
        """Write the blank form for hand entry: text, or PDF when the file's name ends in .pdf."""
        ours = shared.of(context)
        if out is not None and out.suffix.lower() == ".pdf":
            _give(ours, form.as_pdf(at=ours.clock.now()), out, what="the form", dry_run=dry_run)
        else:
            _give(ours, form.as_text().encode(), out, what="the form", dry_run=dry_run)

    @group.command("enter")
    def enter(
        context: typer.Context,
        filled: Annotated[
            Path | None, typer.Argument(help="A filled text form. Without it, each question is asked.")
        ] = None,
        out: _Out = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the probe and write nothing.")] = False,
    ) -> None:
        """Make a probe file of the answers on a form."""
        ours = shared.of(context)
        found = probe_of(_asked(ours) if filled is None else parse_form(_text(filled)))
        ours.say(summary(found))
        if not dry_run:
            _give(ours, found.to_bytes(), out, what="the probe")

    @group.command("show")
    def show(context: typer.Context, file: Annotated[Path, typer.Argument(help="A probe file.")]) -> None:
        """Say what a probe file holds, and what follows for wheels and packages."""
        found = Probe.load(file)
        shared.of(context).result(found.to_json(), summary(found))


def _asked(ours: shared.Context) -> dict[str, str]:
    if ours.as_json:
        raise UsageError(
            what="questions cannot be asked with --json", why="stdout has one document", fix="name a filled form"
        )
    answers: dict[str, str] = {}
    for question in QUESTIONS:
        ours.say(f"{question.asked}; read it from: {question.where}; such as: {question.example}")
        if question.key == "cpu_flags":
            ours.say(f"  {' '.join(FLAGS)}")
        answers[question.key] = typer.prompt(question.key, default="", show_default=False, err=True)
    return answers


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ProbeError(
            what=f"the form {path.name} cannot be read",
            why=getattr(error, "strerror", "") or "it is not UTF-8 text",
            fix="name a form that `sealift-bundler probe form` wrote",
        ) from error


def _give(ours: shared.Context, content: bytes, out: Path | None, *, what: str, dry_run: bool = False) -> None:
    """Print, or write a file that is not there yet; a dry run of the second only asks whether it could be new."""
    digest = sha256_hex(content)
    facts = {"bytes": len(content), "sha256": digest, "file": out.name if out else "", "dry_run": dry_run}
    if out is None:
        ours.result({**facts, "content": content.decode()}, content.decode())
        return
    if dry_run:
        require_new(out)
        ours.result(facts, f"{what} has {len(content)} bytes, sha256 {digest[:16]}; {NOT_WRITTEN}")
        return
    try:
        with out.open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise NotEmptyError(what=f"{out.name} exists", why="nothing is written over", fix="choose a new name") from None
    except OSError as error:
        raise ProbeError(
            what=f"{out.name} cannot be written", why=error.strerror or "", fix="choose another folder"
        ) from error
    ours.result(facts, f"wrote {what} to {out.name} ({len(content)} bytes, sha256 {digest[:16]})")
