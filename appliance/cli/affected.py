"""`sealift affected`: the answers that a version, a release, a medium, a signer or an approver touched."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from appliance.actions.auditing.span import moment
from appliance.actions.retention.deeds import Retention
from appliance.actions.retention.reviewstore import ReviewStore
from appliance.actions.tracing import listing
from appliance.actions.tracing.selection import By, Selector, named_person, named_version
from appliance.audit import note, pin
from appliance.audit.client import SocketLedger
from appliance.cli import context as shared
from appliance.cli.context import Context
from appliance.cli.newfile import write_new
from appliance.cli.opened import ledger_of, read_note, records_of
from appliance.keys.opening import open_keys
from media.clock import from_text
from media.errors import UsageError

_SUFFIXES: Final = (".json", ".csv")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("affected")(_affected)


def _affected(
    context: typer.Context,
    version: Annotated[str, typer.Option("--version", help="A digest, its beginning, or NAME:VERSION.")] = "",
    release: Annotated[str, typer.Option("--release", help="A serial, a release's name or its code.")] = "",
    medium: Annotated[str, typer.Option("--medium", help="A volume's id, or the SHA-256 of its tag manifest.")] = "",
    signer: Annotated[
        str, typer.Option("--signer", help="A person's id or name, or a fingerprint, that signed releases.")
    ] = "",
    approver: Annotated[str, typer.Option("--approver", help="The same of who approved versions.")] = "",
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="From this day or time on.")] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="Before this day or time.")] = "",
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="How many requests are listed, the newest.")
    ] = listing.MOST_LISTED,
    out: Annotated[
        list[Path] | None,
        typer.Option("--out", metavar="FILE", help="A new file: .json is signed and checked elsewhere, .csv a table."),
    ] = None,
    printed: Annotated[
        list[Path] | None,
        typer.Option("--printed", help="A checkpoint from outside that the file must be comparable with."),
    ] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Keep samples of these from expiry and erasure.")] = False,
    person: Annotated[str, typer.Option("--as", help="Who holds them, for the record.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why they are held, for the record.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List; write no file, record nothing, hold nothing.")
    ] = False,
) -> None:
    """List what was touched: of whom, when, and each request by its id; never what was asked or answered."""
    own = shared.of(context)
    given = {By.VERSION: version, By.RELEASE: release, By.MEDIUM: medium, By.SIGNER: signer, By.APPROVER: approver}
    selector = _selector(own, given, since, until)
    files = out or []
    for file in files:
        if file.suffix.lower() not in _SUFFIXES or file.exists():
            raise UsageError(
                what=f"{file.name} cannot be written", why="", fix="name a new file that ends in .json or .csv"
            )
    if printed and not any(file.suffix.lower() == ".json" for file in files):
        raise UsageError(
            what="--printed goes with --out",
            why="only a file of signed answers is held against a print",
            fix="add --out FILE.json; or hold the ledger against it: `sealift audit verify --checkpoint FILE`",
        )
    if hold and not (person and reason):
        raise UsageError(what="nobody holds it", why="--hold needs --as and --reason", fix="say who and why")
    if dry_run or not files:
        with ledger_of(own) as ledger:
            found, made = listing.counted(ledger, selector, most=limit), None
    else:
        made = _made(own, selector, [read_note(path) for path in printed or []])
        found = made.found
        for file in files:
            write_new(file, made.content if file.suffix.lower() == ".json" else listing.table(found))
    facts: dict[str, Any] = {**found.to_json(), "requests": found.requests[-limit:], "dry_run": dry_run}
    lines = _lines(found, limit)
    if made is not None:
        facts |= {"record": made.record, "beyond": made.beyond, "files": [file.name for file in files]}
        lines.append(f"recorded as {made.record}" if made.record >= 0 else "NOT recorded: the ledger does not run")
        if made.beyond:
            lines.append(f"NOT in it: the newest {made.beyond} records, which no checkpoint covers; start the ledger")
    if hold and not dry_run:
        number = _held(own, selector, person, reason)
        facts["hold"] = number
        lines.append(f"hold {number} keeps the samples of all answers that this covers, also of later ones")
    own.result(facts, "\n".join(lines))


def _selector(own: Context, given: dict[By, str], since: str, until: str) -> Selector:
    named = [(by, value) for by, value in given.items() if value]
    if len(named) != 1:
        raise UsageError(
            what="name one thing that touched them",
            why=f"{len(named)} of --version, --release, --medium, --signer and --approver are given",
            fix="give exactly one",
        )
    ((by, value),) = named
    if by is By.VERSION:
        with records_of(own) as (ledger, state):
            value = named_version(ledger, state, value)
    if by in {By.SIGNER, By.APPROVER}:
        with ledger_of(own) as ledger:
            value = named_person(ledger, by, value)
    times = {"since": moment(since) if since else "", "until": moment(until) if until else ""}
    if since and until and from_text(times["since"]) >= from_text(times["until"]):
        raise UsageError(
            what="no answer can be of that time",
            why=f"{times['since']} to {times['until']}",
            fix="swap --since and --until",
        )
    return Selector.from_json({"by": str(by), "value": value, **times})


def _made(own: Context, selector: Selector, printed: list[str]) -> listing.Listed:
    with ledger_of(own) as ledger, own.progress() as bar:
        task = bar.add_task("records", total=0)
        key = pin.read_pin(own.config.at) or note.VerifierKey.from_text(str(ledger.leaf(0).body.get("vkey", "")))
        return listing.listed(
            ledger,
            selector,
            site=own.config.site,
            key=key,
            clock=own.clock,
            printed=printed,
            is_recorded=isinstance(ledger, SocketLedger),
            progress=lambda count, of: bar.update(task, completed=count, total=of),
        )


def _lines(found: listing.Found, limit: int) -> list[str]:
    lines = [f"{found.selector}: {found.answers} answers began"]
    if found.answers:
        lines[0] += f", from {found.first} to {found.last}"
        lines += [f"  {name:<32} {count}" for name, count in found.departments.most_common()]
        lines += [f"  {one['request_id']}  {one['at']}  sequence {one['sequence']}" for one in found.requests[-limit:]]
    return lines


def _held(own: Context, selector: Selector, person: str, reason: str) -> int:
    with ledger_of(own) as ledger:
        store = ReviewStore(own.config.at.review, keys=open_keys(own.config), clock=own.clock)
        return Retention(store, ledger, clock=own.clock).hold(selector, person=person, reason=reason).number
