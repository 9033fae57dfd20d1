"""`sealift trust`: what this box believes, how it began, and how two people mend it."""

import codecs
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import affected, emergency, replacing
from appliance.actions import trust as action
from appliance.actions.auditing.span import moment
from appliance.actions.pinned import plain_bytes
from appliance.actions.trust import TrustFacts
from appliance.cli import context as shared
from appliance.cli.context import Context
from appliance.cli.opened import ledger_of, read_note
from media.clock import from_text
from media.emergency import MOST_ENVELOPE_BYTES
from media.errors import MalformedError

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
        note = read_note(checkpoint) if checkpoint is not None else ""
        facts = action.recover(own.config, code or _ask(), by, checkpoint=note, clock=own.clock, roots=root or ())
        _show(own, facts, "recovered")

    @commands.command("replace")
    def replace_command(
        context: typer.Context,
        root: Annotated[Path, typer.Option("--root", metavar="FILE", help="metadata/1.root.json of the new sender.")],
        by: Annotated[list[str], typer.Option("--by", metavar="NAME", help="Who you are; give it twice.")],
        reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why the old root is given up.")],
        code: Annotated[
            list[str] | None,
            typer.Option("--code", metavar="CODE", help="The code from the new trust sheet, once for each."),
        ] = None,
    ) -> None:
        """Give up a root whose people lost their threshold: two people pin a new first root by hand."""
        own = shared.of(context)
        facts = replacing.replace_root(own.config, root, code or _ask(), by, reason=reason, clock=own.clock)
        _show(own, facts, "replaced")

    @commands.command("note")
    def note(
        context: typer.Context,
        file: Annotated[
            Path, typer.Argument(metavar="FILE", help="The emergency note; - reads what a scanner or keyboard types.")
        ],
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Verify and tell; change nothing.")] = False,
    ) -> None:
        """Take an emergency note of the sender: the keys that it names count no more, from now on."""
        own = shared.of(context)
        try:
            facts = emergency.accept(own.config, _note_bytes(file), clock=own.clock, dry_run=dry_run)
        except MalformedError as error:
            if str(file) != "-":
                raise
            raise MalformedError(
                what="what was scanned or typed is no emergency note",
                why=error.why,
                fix="scan the code again, then Ctrl-D; when that is refused, too, bring the note as a file",
            ) from error
        own.result(facts.to_json(), _note_text(facts))

    @commands.command("affected")
    def affected_by(
        context: typer.Context,
        note_number: Annotated[
            int | None, typer.Option("--note", metavar="N", help="What an accepted note doubts; the newest by default.")
        ] = None,
        person: Annotated[
            str | None, typer.Option("--person", metavar="ID", help="Every key that a root gave this person.")
        ] = None,
        key: Annotated[
            list[str] | None, typer.Option("--key", metavar="ID", help="A fingerprint or key id; may be repeated.")
        ] = None,
        since: Annotated[
            str | None,
            typer.Option("--since", metavar="TIME", help="From this time on; with --person or --key."),
        ] = None,
    ) -> None:
        """List what keys in doubt touched here: releases, the versions they brought, the answers those gave."""
        own = shared.of(context)
        doubt = _doubt(own, note_number, person=person, keys=key or [], since=since)
        with ledger_of(own) as ledger:
            found = affected.affected(own.config, ledger, doubt)
        own.result({"keys": sorted(doubt.keys), "releases": [each.to_json() for each in found]}, _affected_text(found))


def _note_bytes(file: Path) -> bytes:
    if str(file) == "-":
        typed = sys.stdin.buffer.read(2 * MOST_ENVELOPE_BYTES + 1).removeprefix(codecs.BOM_UTF8)
        # A trigger that was pulled twice types the same line twice.
        lines = {line.strip() for line in typed.splitlines()} - {b""}
        return lines.pop() if len(lines) == 1 else typed
    return plain_bytes(file, f"the note {file.name}", limit=MOST_ENVELOPE_BYTES)


def _doubt(
    own: Context, number: int | None, *, person: str | None, keys: Sequence[str], since: str | None
) -> affected.Doubt:
    since_then = from_text(moment(since)) if since else None
    if person:
        return affected.by_person(own.config, person, since_then)
    if keys:
        return affected.Doubt(keys=frozenset("".join(key.split()).lower() for key in keys), since=since_then)
    return affected.by_note(own.config, number)


def _note_text(facts: emergency.NoteFacts) -> str:
    whose = [
        f"  {person or 'nobody in the trusted root'}: {', '.join(uses)}"
        for person, uses in sorted(facts.people.items())
    ]
    missing = [f"  earlier notes never came here: {', '.join(map(str, facts.missing))}; ask the sender for them"]
    return "\n".join(
        [
            f"{facts.outcome}: note {facts.note}, keys {facts.reason}, in doubt since {facts.since}",
            f"  signed by {', '.join(facts.signers)}",
            *whose,
            *(missing if facts.missing else []),
            *_doubted_text(facts),
            f"  next: {'the same without --dry-run' if facts.outcome == emergency.WOULD else 'sealift trust affected'}",
        ]
    )


def _doubted_text(facts: emergency.NoteFacts) -> list[str]:
    if facts.outcome == emergency.WOULD:
        return []
    if facts.doubted is None:
        return ["  which versions are in doubt could not be judged: see `sealift status`, then give the note again"]
    named = ", ".join(digest[:12] for digest in facts.doubted)
    return [f"  versions in doubt, which nobody brings into production any more: {named}"] if named else []


def _affected_text(found: Sequence[affected.AffectedRelease]) -> str:
    lines = [] if found else ["nothing in the store was signed with these keys"]
    for release in found:
        lines.append(f"{release.release} (serial {release.serial}): {release.verdict}")
        lines.append(f"  received {release.received_at or 'at a time that no record tells'}; {release.why}")
        lines.append(f"  keys in doubt of {', '.join(release.doubted) or 'nobody who could be read'}")
        for version in release.versions:
            state = "in production" if version["in_production"] else "not in production"
            span = f", {version['first']} to {version['last']}" if version["answers"] else ""
            name = f"{version['name']} {version['version']} ({version['model_digest'][:12]})"
            lines.append(f"  {name}: {state}, {version['answers']} requests{span}")
    return "\n".join(lines)


def _ask() -> list[str]:
    return [typer.prompt(prompt, hide_input=True) for prompt in _PROMPTS]


def _show(own: Context, facts: TrustFacts, outcome: str) -> None:
    lines = [
        f"{outcome}: root {facts.root_version}, for {facts.environment}, first root sha256 {facts.root_sha256[:12]}",
        f"  signature policy {facts.policy}",
        f"  release {facts.thresholds['release']} people, root {facts.thresholds['root']} people",
        *(f"  {person['name']} ({', '.join(person['roles'])}) {person['fingerprint']}" for person in facts.people),
        *(
            f"  taken away by emergency note {one['note']}: {' and '.join(one['keys'])} key of {one['person']}"
            for one in facts.taken
        ),
        f"  accepted serial {facts.serial}" if facts.serial else "  nothing accepted yet",
        *(f"  the stored record of serial {serial} is damaged: receive it again" for serial in facts.damaged),
    ]
    own.result({"outcome": outcome, **facts.to_json()}, "\n".join(lines))
