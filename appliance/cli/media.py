"""`sealift media`: what is plugged in, what it claims to be, and what may be done with it."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from appliance.actions.exporting import RECORDED, preview
from appliance.cli import context as shared
from appliance.cli.opened import jobs_of, ledger_of
from appliance.errors import NotInstalledError
from appliance.install import arrivals
from appliance.install.arrivals import Shown
from appliance.install.jobclient import JobsClient
from appliance.install.jobs import Kind
from media import canonical
from media.errors import UsageError

_MOST_LISTED = 50
_NOT_BELIEVED = "NOT VERIFIED. This is what media say of themselves; only `sealift media receive` decides."
_Name = Annotated[str, typer.Argument(metavar="NAME", help="The medium's name, e.g. sdb1.")]
_As = Annotated[str, typer.Option("--as", help="Who asks, by id; for the record.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    media = typer.Typer(help="Media that are plugged in: look, receive, take out.", no_args_is_help=True)
    app.add_typer(media, name="media")
    media.command("list")(_list)
    media.command("show")(_show)
    media.command("receive")(_receive)
    media.command("eject")(_eject)
    media.command("exports")(_exports)
    media.command("export")(_export)


def _list(context: typer.Context) -> None:
    """List what is plugged in, and what to do next."""
    own = shared.of(context)
    found = arrivals.all_shown(own.config.at)
    lines = [_line(one) for one in found] or ["nothing is plugged in"]
    if any(one.claims for one in found):
        lines = [_NOT_BELIEVED, *lines]
    own.result({"verified": False, "media": [one.to_json() for one in found]}, "\n".join(lines))


def _show(context: typer.Context, name: _Name) -> None:
    """Show one medium with all that it claims. Nothing is verified."""
    own = shared.of(context)
    found = arrivals.shown(own.config.at, name)
    lines = [_NOT_BELIEVED, _line(found)]
    lines += [f"  {key.replace('_', ' ')}: {value}" for key, value in _claims(found).items()]
    own.result({"verified": False, **found.to_json()}, "\n".join(lines))


def _receive(context: typer.Context, name: _Name, person: _As = "") -> None:
    """Verify the release on a medium and bring it into the store, by a job; of several volumes, one after another."""
    own = shared.of(context)
    with jobs_of(own) as jobs:
        number = _required(jobs).ask(Kind.RECEIVE, medium=name, person=person)
        own.say(f"job {number} receives from {name}")
        with own.progress(in_bytes=True) as bar:
            task = bar.add_task("verifying", total=None)
            outcome = _required(jobs).wait(
                number, seen=lambda step, done, total: bar.update(task, completed=done, total=total, description=step)
            )
        outcome.require_ok()
    said = "received; next: `sealift install`" if outcome.changed else "nothing new: it was stored already"
    own.result({"job": number, "medium": name, "changed": outcome.changed}, said)


def _eject(context: typer.Context, name: _Name, person: _As = "") -> None:
    """Take a medium out of use, so that it can be pulled out."""
    own = shared.of(context)
    with jobs_of(own) as jobs:
        number = _required(jobs).ask(Kind.EJECT, medium=name, person=person)
    own.result({"job": number, "medium": name}, f"{name} may be pulled out")


def _exports(context: typer.Context) -> None:
    """List the EXPORTs that were made here and may be carried by a marked medium, the newest first."""
    own = shared.of(context)
    with ledger_of(own) as ledger:
        made = [
            {"record": leaf.sequence, "at": leaf.time, "type": leaf.body["type"], "sha256": leaf.body["sha256"]}
            for leaf in ledger.find(kind=RECORDED, limit=_MOST_LISTED)
        ]
    lines = [f"{one['at']}  {one['type']}  {one['sha256']}  record {one['record']}" for one in made]
    own.result({"exports": made}, "\n".join(lines or ["no EXPORT was made here yet"]))


def _export(
    context: typer.Context,
    name: _Name,
    digest: Annotated[str, typer.Argument(metavar="SHA256", help="The EXPORT's, as `sealift media exports` lists it.")],
    person: _As = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask after showing it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show it; write nothing.")] = False,
) -> None:
    """Write one EXPORT to a medium that is marked for that, by a job; it is shown in full first."""
    own = shared.of(context)
    if not (yes or dry_run or sys.stdin.isatty()):
        raise UsageError(
            what="nobody is here to look at what leaves",
            why="it is shown in full before it is written",
            fix="add --yes when it was looked at with --dry-run",
        )
    with jobs_of(own) as untrusted_jobs:
        jobs = _required(untrusted_jobs)
        content = jobs.text("export", canonical.sha256_hex(digest, "SHA256"))
        sys.stderr.write(f"{preview(content)}\n")
        if dry_run or not (yes or typer.confirm(f"May this leave on {name}?", err=True)):
            own.result({"written": False}, "nothing was written")
            return
        number = jobs.ask(Kind.CARRY_EXPORT, medium=name, digest=digest, person=person)
        own.say(f"job {number} writes it to {name}")
        jobs.wait(number).require_ok()
    said = f"written to {name}; next: `sealift media eject {name}`"
    own.result({"written": True, "job": number, "medium": name, "sha256": digest}, said)


def _required(jobs: JobsClient | None) -> JobsClient:
    if jobs is None:
        raise NotInstalledError(
            what="nobody carries jobs out here",
            why="the job service does not run, or you are not of the group sealift-operators",
            fix="see docs/operator/arriving.md",
        )
    return jobs


def next_step(found: Shown) -> str:
    """Return what a person does next with a medium, as a command or a sentence."""
    name = found.arrival.name
    if not found.arrival.is_mounted:
        return f"take it out: {found.arrival.why}"
    if not found.is_read:
        return "wait: it is being read"
    if found.claims is not None and not found.problem:
        return f"`sealift media receive {name}`"
    if found.may_take_exports:
        return f"`sealift media export {name} SHA256`, or `sealift media eject {name}`"
    return f"`sealift media eject {name}`"


def _line(found: Shown) -> str:
    one = found.arrival
    facts = [one.filesystem or "no file system", f"{one.bytes} bytes", f"label {one.label or 'none'}", one.state]
    said = found.problem if found.is_read else ""
    if found.claims is not None and not said:
        claims = _claims(found)
        said = f"claims release {claims.get('release', 'unknown')}, volume {claims.get('volume', 'unknown')}"
    lines = [f"{one.name}: {', '.join(facts)}", f"  {said}", f"  next: {next_step(found)}"]
    return "\n".join(line for line in lines if line.strip())


def _claims(found: Shown) -> Mapping[str, Any]:
    named = (found.claims or {}).items()
    return {key.removeprefix("untrusted_"): value for key, value in named if key.startswith("untrusted_")}
