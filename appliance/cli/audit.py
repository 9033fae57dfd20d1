"""`sealift audit`: read the ledger, prove it, and hand it over. Works with no service running.

What reads takes `--of`: the mirror of another box's ledger, of which nothing is shown that its signed tree contradicts.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import segno
import typer

from appliance.actions.auditing import making
from appliance.actions.auditing.ofkey import records_of
from appliance.actions.auditing.span import moment
from appliance.actions.tracing import comparing
from appliance.actions.tracing.reading import note_read
from appliance.audit import note, pin, succession, verify
from appliance.audit.client import SocketLedger
from appliance.audit.leaf import Leaf
from appliance.cli import context as shared
from appliance.cli.mirrors import Of, reading
from appliance.cli.opened import read_note
from appliance.errors import LedgerDamagedError
from media.errors import UsageError

_BODY_CHARACTERS = 100
_LAST = 2**53 - 1
_UNSIGNED = "NOT SIGNED YET  "


def register(app: typer.Typer) -> None:
    """Add the commands."""
    audit = typer.Typer(help="The ledger: what happened, and its proof.", no_args_is_help=True)
    app.add_typer(audit, name="audit")
    audit.command("list")(_list)
    audit.command("show")(_show)
    audit.command("verify")(_verify)
    audit.command("checkpoint")(_checkpoint)
    audit.command("export")(_export)
    audit.command("compare")(_compare)


def _list(
    context: typer.Context,
    kind: Annotated[
        str | None, typer.Option("--kind", help="A kind, or a family with its dot: promotion.made, promotion.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many.")] = 50,
    oldest: Annotated[bool, typer.Option("--oldest", help="The oldest first.")] = False,
    request: Annotated[str | None, typer.Option("--request", help="Only what was recorded of one request.")] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY_ID", help="What was asked with one API key, and its own records."),
    ] = None,
    of: Of = "",
) -> None:
    """List records, the newest first; that they were read is recorded where the ledger runs."""
    own = shared.of(context)
    if request is not None and key is not None:
        raise UsageError(what="a request has one key", fix="give --request or --key")
    field = None if request is None else "request_id"
    with reading(own, of) as read:
        ledger = read.ledger
        if key is not None:
            leaves = records_of(ledger, key, kind=kind, limit=limit, newest_first=not oldest)
        else:
            leaves = ledger.find(kind, field=field, value=request, limit=limit, newest_first=not oldest)
        unsigned = {leaf.sequence for leaf in leaves if of and not read.is_signed(leaf)}
        note_read(read.own, "list", leaves, request_id=request if request and leaves else "", of=read.of)
        lines = [
            f"{leaf.sequence:>8}  {leaf.time}  {leaf.kind:<24} {leaf.via.door:<16} "
            f"{_UNSIGNED * (leaf.sequence in unsigned)}{_brief(leaf.body)}"
            for leaf in leaves
        ]
        text = read.said("\n".join(lines) or "no such record")
    facts: dict[str, Any] = {"leaves": [_facts(leaf) for leaf in leaves]}
    if read.copy is not None:
        facts |= {"of": read.of, "box": read.copy.known.box, "signed": read.copy.signed.size, "held": read.copy.held}
    own.result(facts, text)


def _show(
    context: typer.Context,
    sequence: Annotated[int, typer.Argument(min=0, max=_LAST, help="The record's number.")],
    of: Of = "",
) -> None:
    """Show one record and prove that it lies in the signed tree; that it was read is recorded, as with `list`."""
    own = shared.of(context)
    with reading(own, of) as read:
        ledger = read.ledger
        leaf = ledger.leaf(sequence)
        proof = ledger.inclusion(sequence)
        note_read(read.own, "show", [leaf], of=read.of)
        signed = succession.verified(ledger, proof.note, read.key) if proof.note else None
        signer = succession.of_ledger(ledger).in_force(read.key.name)
        reach = read.said("")
    proof.require(leaf.raw)
    if signed is not None and (signed.size, signed.root.hex()) != (proof.size, proof.root):
        raise LedgerDamagedError(what="the proof and its checkpoint differ", fix="run `sealift audit verify`")
    # Escaped, because texts in a body came from outside and this is a terminal.
    body = json.dumps(leaf.body, indent=2, sort_keys=True)
    seal = f"signed by {signer.key_id.hex()}" if signed else "no checkpoint covers it yet"
    text = (
        f"{leaf.sequence}  {leaf.time}  {leaf.kind}  via {leaf.via.door}, user {leaf.via.uid}\n{body}\n"
        f"leaf hash {leaf.hash}\nincluded in the tree of {proof.size} leaves, root {proof.root}; {seal}{reach}"
    )
    own.result({"leaf": _facts(leaf), "raw": leaf.raw.decode(), "proof": asdict(proof)}, text)


def _verify(
    context: typer.Context,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", help="A checkpoint from outside (printed, or from a receipt) it must agree with."),
    ] = None,
    of: Of = "",
) -> None:
    """Recompute the tree and the chain from every record and compare them with the signed checkpoints."""
    own = shared.of(context)
    notes = [read_note(path) for path in checkpoint or []]
    with reading(own, of) as read, own.progress() as bar:
        task = bar.add_task("records", total=0)
        done = verify.verify(
            read.ledger,
            pinned=read.pinned,
            notes=notes,
            progress=lambda count, in_all: bar.update(task, completed=count, total=in_all),
        )
        taken, since = (0, "") if read.proven is None else read.proven.since()
        reach = read.said(since)
    covered = max(done.covered, taken)
    trees = ", ".join(str(size) for size in done.checkpoints) or "none"
    lines = [
        f"{'✓' if done.ok else '✗'} {done.origin}: {done.size} leaves, root {done.root}",
        f"  signed trees compared: {trees}; of the checkpoints that are kept here, {done.kept}",
        *(f"✗ {finding}" for finding in done.findings),
        *(f"! {remark}" for remark in done.remarks),
    ]
    lines += [uncovered(covered, done.size, is_given=bool(notes))] if done.ok else []
    lines += [reach] if reach else []
    own.result({"ok": done.ok, **asdict(done), "covered": covered}, "\n".join(lines))
    if not done.ok:
        raise typer.Exit(LedgerDamagedError.exit_code)


def uncovered(covered: int, size: int, *, is_given: bool) -> str:
    """Return what the checkpoints from outside say of the records, where nothing contradicts them."""
    if not covered and is_given:
        return "not covered: what was given is later than what a restore brought back, or empty: print a checkpoint now"
    if not covered:
        return "not covered: no checkpoint from outside was given, so who holds the key may have rewritten all of it"
    if covered < size:
        return f"not covered: records {covered} to {size - 1} are newer than any checkpoint from outside"
    return "covered: a checkpoint from outside agrees with every record"


def _checkpoint(
    context: typer.Context,
    qr: Annotated[bool, typer.Option("--qr", help="Print it as a QR code too.")] = False,
    of: Of = "",
) -> None:
    """Print a signed checkpoint: keep it outside, and nobody can rewrite what came before it unseen."""
    own = shared.of(context)
    with reading(own, of) as read:
        text = read.ledger.checkpoint()
        signed = succession.verified(read.ledger, text, read.key)
    facts = {"note": text, "origin": signed.origin, "size": signed.size, "root": signed.root.hex()}
    own.result(facts, f"{text}\n{_qr(text)}" if qr else text)


def _export(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist.")],
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="From this day or time on.")] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="Before this day or time.")] = "",
    printed: Annotated[
        list[Path] | None,
        typer.Option("--printed", help="A checkpoint from outside that the proofs must reach; may be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would hold; write and record nothing.")
    ] = False,
    of: Of = "",
) -> None:
    """Write records, proofs, checkpoints and a report as plain files for an auditor, and record that it was done."""
    own = shared.of(context)
    with reading(own, of) as read:
        wanted = making.Wanted(
            site=own.config.site,
            key=read.key,
            since=moment(since) if since else "",
            until=moment(until) if until else "",
            printed=[read_note(path) for path in printed or []],
            recorded=isinstance(read.own, SocketLedger),
            mirror=read.proven,
        )
        if dry_run:
            making.require_new(folder)
            planned = making.plan(read.ledger, wanted)
            count = planned.end - planned.start
            would = read.said(f"would hold {count} of {planned.size} records")
            own.result({**planned.to_json(), "dry_run": True}, would)
            return
        with own.progress() as bar:
            task = bar.add_task("records", total=0)
            made = making.make(
                read.ledger,
                folder,
                wanted,
                clock=own.clock,
                progress=lambda count, in_all: bar.update(task, completed=count, total=in_all),
            )
        said = f"recorded as {made.record}" if made.record >= 0 else "NOT recorded: the ledger does not run"
        text = read.said(f"{made.end - made.start} of {made.size} records, root {made.root}; {said}")
    own.result(made.to_json(), text)


def _compare(
    context: typer.Context,
    list_file: Annotated[Path, typer.Argument(metavar="LIST", help="A list: `sealift affected --out FILE.json`.")],
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="The folder of an export of all records.")],
    key: Annotated[
        str, typer.Option("--key", help="The ledger's verifier key, where this is not its box; else the pinned one.")
    ] = "",
) -> None:
    """Hold a signed list against all records: does it leave anybody out? Needs no service; works elsewhere, too."""
    own = shared.of(context)
    pinned = note.VerifierKey.from_text(key.strip()) if key else pin.read_pin(own.config.at)
    if pinned is None:
        raise UsageError(
            what="no key of the ledger is known here",
            why="nothing is pinned on this machine",
            fix="give it as it was written down at the installation: --key 'NAME+ID+KEY'",
        )
    with own.progress() as bar:
        task = bar.add_task("records", total=0)
        found = comparing.compare(
            list_file,
            export,
            key=pinned,
            clock=own.clock,
            progress=lambda count, of: bar.update(task, completed=count, total=of),
        )
    said = [f"{found.selector}: {found.listed} answers listed, {found.size} records read"]
    for word, differing in (("MISSING", found.missing), ("ADDED", found.added), ("CHANGED", found.changed)):
        said += [f"{word}  record {one.get('sequence')}  {_printable(one.get('request_id'))}" for one in differing]
    if found.is_whole:
        said.append("the list holds exactly what the records yield")
    own.result(found.to_json(), "\n".join(said))
    if not found.is_whole:
        raise typer.Exit(LedgerDamagedError.exit_code)


def _printable(untrusted: object) -> str:
    return ascii(str(untrusted)[:80])[1:-1]


def _facts(leaf: Leaf) -> dict[str, Any]:
    via = {name: value for name, value in asdict(leaf.via).items() if value != ""}
    return {
        "sequence": leaf.sequence,
        "time": leaf.time,
        "kind": leaf.kind,
        "via": via,
        "body": dict(leaf.body),
        "hash": leaf.hash,
    }


def _brief(body: Mapping[str, Any]) -> str:
    plain = {name: value for name, value in body.items() if isinstance(value, str | int | bool)}
    text = json.dumps(plain, sort_keys=True)[1:-1]
    return text if len(text) <= _BODY_CHARACTERS else text[: _BODY_CHARACTERS - 1] + "…"


def _qr(text: str) -> str:
    out = io.StringIO()
    segno.make(text, error="m", micro=False).terminal(out, compact=True)
    return out.getvalue()
