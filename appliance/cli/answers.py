"""`sealift answers`: people judge sampled answers without knowing whose they are."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.actions import reviewing
from appliance.actions.pinned import plain_bytes
from appliance.cli import context as shared
from appliance.cli.opened import records_of
from appliance.promote import sheet as sheets
from media import durable
from media.errors import UsageError

Which = Annotated[str, typer.Argument(help="A digest, the beginning of one, a name, or NAME:VERSION.")]
Person = Annotated[str, typer.Option("--as", metavar="PERSON", help="Who judges, by id.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check and tell; record nothing.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    answers = typer.Typer(help="Judge answers of a version, blinded, before it is approved.", no_args_is_help=True)
    app.add_typer(answers, name="answers")
    answers.command("form")(_form)
    answers.command("take")(_take)
    answers.command("judge")(_judge)


def _form(
    context: typer.Context,
    which: Which,
    to: Annotated[Path, typer.Option("--to", metavar="FILE.json", help="Where to write the form.")],
) -> None:
    """Write the form of a version's sampled answers. It holds prompts and answers: it stays inside."""
    own = shared.of(context)
    with records_of(own) as (_, state):
        opened = reviewing.open_sheet(own.config.at, state, which)
    if to.exists():
        raise UsageError(what=f"{to.name} exists", why="a form may be filled in already", fix="name another file")
    content = json.dumps(opened.form(), ensure_ascii=False, indent=2).encode() + b"\n"
    try:
        durable.replace(to, content, mode=0o600)
    except OSError as error:
        raise UsageError(what=f"{to.name} cannot be written", why=error.strerror or "", fix="name another") from error
    entries = len(opened.sheet.entries)
    facts = {"model_digest": opened.version.model_digest, "sheet": opened.sheet.sha256, "entries": entries}
    own.result({**facts, "file": to.name}, f"{to.name}: {entries} entries to judge; then `sealift answers take`")


def _take(
    context: typer.Context,
    which: Which,
    file: Annotated[Path, typer.Argument(metavar="FILE.json", help="The form, filled in.")],
    person: Person,
    dry_run: DryRun = False,
) -> None:
    """Record what a filled-in form says. Validate again afterwards, so that evidence holds it."""
    own = shared.of(context)
    untrusted = plain_bytes(file, f"the form {file.name}", limit=sheets.MAX_BYTES)
    _record(own, which, untrusted, person, dry_run=dry_run)


def _judge(context: typer.Context, which: Which, person: Person, dry_run: DryRun = False) -> None:
    """Judge the entries one after another: each is shown, each answer is one line on standard input."""
    own = shared.of(context)
    with records_of(own) as (_, state):
        form = reviewing.open_sheet(own.config.at, state, which).form()
    for entry in form["entries"]:
        own.talk.print(_shown(entry, len(form["entries"])), markup=False)
        entry["choice"] = _line(f"{' / '.join(entry['choices'])}? ", own)
        if "criteria" in entry:
            entry["points"] = [int(_line(f"  {one}: 0 / 1? ", own) == "1") for one in entry["criteria"]]
    _record(own, which, json.dumps(form).encode(), person, dry_run=dry_run)


def _record(own: shared.Context, which: str, untrusted: bytes, person: str, *, dry_run: bool) -> None:
    with records_of(own) as (ledger, state):
        opened = reviewing.open_sheet(own.config.at, state, which)
        told = reviewing.take(own.config.at, ledger, opened, untrusted, person=person, dry_run=dry_run)
    counts = {name: getattr(told, name) for name in reviewing.COUNTS}
    facts = {"model_digest": opened.version.model_digest, "sheet": opened.sheet.sha256, "person": person, **counts}
    said = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items() if count)
    verb = "would be recorded" if dry_run else "recorded"
    text = f"{verb} for {person}: {said}\n  next: sealift validate {opened.version.model_digest[:12]}"
    own.result({**facts, "dry_run": dry_run}, text)


def _shown(entry: Mapping[str, Any], of: int) -> str:
    names = [name for name in ("answer", "first", "second") if name in entry]
    parts = [f"--- {name.upper()}\n{_safe(str(entry[name]))}" for name in names]
    return "\n".join([f"===== {entry['number']} of {of}", _safe(str(entry["prompt"])), *parts])


def _safe(text: str) -> str:
    """Spell what a terminal would obey: an answer may hold any character."""
    return "".join(one if one.isprintable() or one == "\n" else f"<U+{ord(one):04X}>" for one in text)


def _line(prompt: str, own: shared.Context) -> str:
    own.talk.print(prompt, end="", markup=False)
    line = sys.stdin.readline()
    if not line:
        raise UsageError(what="the review was broken off", why="nothing was recorded", fix="begin again")
    return line.strip().lower()
