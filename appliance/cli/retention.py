"""`sealift retention`: what is kept how long, legal holds, expiry, and the erasure of a person."""

import codecs
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import typer

from appliance.actions.retention import audityears
from appliance.actions.retention.audityears import KeyYear
from appliance.actions.retention.deeds import Retention
from appliance.actions.retention.expiring import PATIENCE_SECONDS, Asked, Keeper, expire
from appliance.actions.retention.overdue import LIMIT_SECONDS, RAN, age_seconds, ago
from appliance.actions.retention.reviewdesk import OPERATOR_DOOR
from appliance.actions.retention.reviewstore import ReviewStore
from appliance.actions.tracing.holding import EVERYTHING
from appliance.actions.tracing.selection import INTENT
from appliance.audit.facts import Ledger
from appliance.cli import context as shared
from appliance.cli.boxkeys import keyring_of
from appliance.cli.context import Context
from appliance.cli.opened import ledger_of, may_use
from appliance.errors import LegalHoldError
from appliance.keys.opening import open_keys
from appliance.timekeeping.believed import BelievedClock
from appliance.wire import Line
from media.clock import Clock, to_text
from media.errors import UsageError

_IDENTITY: Final = "identity-hmac"

_Person = Annotated[str, typer.Option("--as", help="Who decides, for the record.")]
_Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    retention = typer.Typer(help="What is kept how long, and how it goes.", no_args_is_help=True)
    app.add_typer(retention, name="retention")
    retention.command("status")(_status)
    retention.command("hold")(_hold)
    retention.command("release")(_release)
    retention.command("run")(_run)
    retention.command("erase")(_erase)
    retention.command("show")(_show)


def _status(context: typer.Context) -> None:
    """List the classes, the keys of each year, what is due, and the holds in force."""
    own = shared.of(context)
    years = own.config.policy.audit_retention_years
    with _retention_of(own) as (ledger, retention, store):
        keys = open_keys(own.config)
        found = audityears.key_years(ledger, keys)
        due = audityears.due(ledger, keys, years=years, clock=_clock_of(own))
        holds, samples, age = retention.holds(), store.samples(), age_seconds(ledger, _clock_of(own))
    lines = [
        f"audit    {years} years; records stay, keys of keyed hashes go by year",
        "logs     90 days, by the journal (MaxRetentionSec)",
        f"review   {len(samples)} samples, each until its own time",
        f"last run {ago(age)}{', overdue' if age > LIMIT_SECONDS else ''}",
        *(_line(each, is_due=each in due) for each in found),
        *(f"hold {hold.number}  {hold.about}  {hold.person}" for hold in holds),
    ]
    facts = {
        "audit_years": years,
        "samples": len(samples),
        "last_run_seconds": round(age),
        "keys": [
            {"key": f"{each.name}.v{each.version}", "since": to_text(each.since), "due": each in due} for each in found
        ],
        "holds": [{"hold": hold.number, "about": hold.about, "person": hold.person} for hold in holds],
    }
    own.result(facts, "\n".join(lines))


def _line(each: KeyYear, *, is_due: bool) -> str:
    until = f"until {to_text(each.until)}" if each.until else "on"
    return f"  {each.name}.v{each.version}  from {to_text(each.since)} {until}{', due' if is_due else ''}"


def _hold(
    context: typer.Context,
    about: Annotated[str, typer.Argument(help="`all`, or the id of a request whose sample is held.")],
    person: _Person,
    reason: _Reason,
    dry_run: _DryRun = False,
) -> None:
    """Begin a legal hold: what it covers neither expires nor is erased until it is released."""
    own = shared.of(context)
    with _retention_of(own) as (ledger, retention, store):
        remark = _found(ledger, store, about)
        if dry_run:
            own.result({"dry_run": True, "about": about}, f"would hold {about}{remark}")
            return
        made = retention.hold(about, person=person, reason=reason)
    own.result({"hold": made.number, "about": made.about}, f"hold {made.number} covers {made.about}{remark}")


def _found(ledger: Ledger, store: ReviewStore, about: str) -> str:
    """Return what is to be said of what a hold is about; a word that names nothing would protect nothing.

    Raises:
        UsageError: It is neither all nor a request that was asked here.
    """
    if about == EVERYTHING or any(sample.request_id == about for sample in store.samples()):
        return ""
    if ledger.find(INTENT, field="request_id", value=about, limit=1):
        return "; no sample of it is kept"
    raise UsageError(
        what=f"there is no request {ascii(about)[:80]}",
        why="a hold is about all, or about a request that was answered here",
        fix="give `all` or the x-request-id of an answer; `sealift affected ... --hold` holds what something touched",
    )


def _release(
    context: typer.Context,
    number: Annotated[int, typer.Argument(help="The hold, as `sealift retention status` numbers it.")],
    person: _Person,
    reason: _Reason,
    dry_run: _DryRun = False,
) -> None:
    """End a legal hold."""
    own = shared.of(context)
    with _retention_of(own) as (_, retention, _store):
        if dry_run:
            retention.require_hold(number)
            own.result({"dry_run": True, "hold": number}, f"would release hold {number}")
            return
        retention.release(number, person=person, reason=reason)
    own.result({"released": number}, f"hold {number} is released")


def _run(context: typer.Context, dry_run: _DryRun = False) -> None:
    """Destroy what is due: samples whose time is over, and keys of years that the audit class no longer keeps."""
    own = shared.of(context)
    years, node = own.config.policy.audit_retention_years, own.config.database.node
    with _retention_of(own) as (ledger, retention, store):
        keys = open_keys(own.config)
        if dry_run:
            due = audityears.due(ledger, keys, years=years, clock=_clock_of(own))
            over = store.samples(expired_at=to_text(_clock_of(own).now()))
            names = [f"{each.name}.v{each.version}" for each in due]
            own.result({"dry_run": True, "keys": names, "samples": len(over)}, f"due: {len(over)} samples, {names}")
            return
        with _keeper_of(own, retention) as keeper:
            samples, held = expire(keeper, ledger, clock=_clock_of(own), node=node), ""
        waits: list[str] = []
        with keyring_of(own) as keyring:
            try:
                clock = _clock_of(own)
                gone = audityears.run(
                    ledger, keys, keyring, retention, years=years, clock=clock, say=waits.append, node=node
                )
            except LegalHoldError as error:  # the hold is what people want: no failure of this run
                gone, held = (), error.why
        names = [f"{each.name}.v{each.version}" for each in gone]
        ledger.append(RAN, {"samples": samples, "keys": names, "held": bool(held)})
    text = f"destroyed: {samples} samples, {', '.join(names) or 'no key'}{f'; on hold: {held}' if held else ''}"
    own.result({"keys": names, "samples": samples, "held": held, "unnoted": waits}, "\n  ".join((text, *waits)))


def _erase(context: typer.Context, person: _Person, reason: _Reason, dry_run: _DryRun = False) -> None:
    """Erase a person: one line of standard input is the name that the application gives them; it is never recorded."""
    own = shared.of(context)
    subject = _named()
    with _retention_of(own) as (_, retention, store):
        if dry_run:
            count = len(store.of_subject(subject))
            own.result({"dry_run": True, "samples": count}, f"would erase {count} samples and the person's keys")
            return
        keys, name = open_keys(own.config), subject.encode(errors="surrogatepass")
        former = [keys.hmac(_IDENTITY, name, version=version).hex() for version in keys.versions(_IDENTITY)]
        hashed = keys.hmac(_IDENTITY, name).hex()
        count = retention.erase(subject, subject_hash=hashed, former=former, person=person, reason=reason)
    own.result({"samples": count}, f"erased: {count} samples and the person's keys")


def _named() -> str:
    """Return the person whom the line of standard input names, exactly: a name that is read otherwise erases nobody."""
    untrusted = sys.stdin.buffer.readline().removeprefix(codecs.BOM_UTF8)
    try:
        subject = untrusted.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UsageError(
            what="nobody was erased: the name does not read",
            why="standard input is not UTF-8",
            fix="save the file as UTF-8, or type the name",
        ) from error
    if not subject.strip():
        raise UsageError(what="nobody is named", why="standard input is empty", fix="type the name, or pipe it")
    if not sys.stdin.isatty() and sys.stdin.buffer.read().strip():
        raise UsageError(
            what="nobody was erased: there is more than one line",
            why="each person is erased by a command of its own",
            fix="give one name at a time",
        )
    return subject


def _show(
    context: typer.Context,
    request_id: Annotated[str, typer.Argument(help="The request whose sample is looked at.")],
    person: _Person,
    reason: _Reason,
) -> None:
    """Show a kept prompt and answer; who looked and why is recorded first."""
    own = shared.of(context)
    with _retention_of(own) as (_, retention, _store):
        content = retention.read(request_id, person=person, reason=reason)
    text = content.decode(errors="replace")
    shown = "".join(each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in text)
    own.result({"request_id": request_id, "content": text}, shown)


@contextmanager
def _retention_of(own: Context) -> Iterator[tuple[Ledger, Retention, ReviewStore]]:
    with ledger_of(own) as ledger:
        clock = _clock_of(own)
        store = ReviewStore(own.config.at.review, keys=open_keys(own.config), clock=clock)
        yield ledger, Retention(store, ledger, clock=clock, node=own.config.database.node), store


@contextmanager
def _keeper_of(own: Context, retention: Retention) -> Iterator[Keeper]:
    """Yield the process that owns the samples, or this one where none listens."""
    if not may_use(own.config, OPERATOR_DOOR):
        yield retention
        return
    line = Line(own.config.at.socket(OPERATOR_DOOR), timeout_seconds=PATIENCE_SECONDS)
    try:
        yield Asked(line.call)
    finally:
        line.close()


def _clock_of(own: Context) -> Clock:
    # What is destroyed does not come back: a clock that jumped ahead ends nothing.
    return BelievedClock(own.config.at, own.clock)
