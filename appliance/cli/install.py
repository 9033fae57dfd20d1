"""`sealift install`: environments of a stored release, and on a box the host."""

from contextlib import suppress
from typing import Annotated, Any

import typer

from appliance.actions.databases import checking
from appliance.actions.host import Host, open_host, open_planner
from appliance.actions.install import Installer
from appliance.actions.installfacts import InstallFacts
from appliance.cli import context as shared
from appliance.cli.context import Context
from appliance.cli.opened import jobs_of, ledger_of, promoter_of
from appliance.config import Places
from appliance.errors import WireError
from appliance.install import planunit
from appliance.install.jobclient import JobsClient
from appliance.install.joboutcome import Outcome
from appliance.install.jobs import Kind
from appliance.install.plans import Plan
from appliance.install.releases import InstalledReleases
from appliance.install.trial import NONE, Returned, Trial, Trials
from appliance.store.content import ContentStore, StoredRelease
from appliance.wire import RemoteError
from media import canonical
from media.errors import SealiftError, UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("install")(_install)


def _install(
    context: typer.Context,
    serial: Annotated[int | None, typer.Argument(help="Default: the newest stored release.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Keep what would change on the host, for two people to approve.")
    ] = False,
    person: Annotated[str, typer.Option("--as", help="With --plan: who asks for the approvals, by id.")] = "",
    meaning: Annotated[str, typer.Option("--meaning", help="With --plan: why, in the words people sign.")] = "",
    here: Annotated[bool, typer.Option("--here", hidden=True, help="In this process, not by a job.")] = False,
    settle: Annotated[bool, typer.Option("--settle", help="Take back an install that was cut off.")] = False,
) -> None:
    """Install a stored release. Repeating it changes nothing; a failure leaves what runs running."""
    own = shared.of(context)
    if settle:
        _settle(own, dry_run=dry_run)
        return
    if here:
        if plan:
            _plan_in_this_process(own, _serial(own, serial))
        else:
            _in_this_process(own, serial)
        return
    if dry_run:
        facts = _installer(own).preview(serial)
        own.result(facts.to_json(), _text(facts, is_preview=True))
        return
    with jobs_of(own) as jobs:
        # Before anything is installed there is nothing that could run a job.
        by_job = jobs if _is_installed(own.config.at) else None
        if plan:
            _plan(own, by_job, serial, person=person, meaning=meaning)
        elif by_job is not None:
            _by_job(own, by_job, serial)
        else:
            facts = _installer(own).install(serial)
            own.result(facts.to_json(), _text(facts, is_preview=False))


def _is_installed(places: Places) -> bool:
    """Tell whether a release runs here that can carry jobs out; a first install that was cut off left none."""
    trial = Trials(places).pending()
    return InstalledReleases(places).current() is not None and not (trial is not None and trial.previous == NONE)


def _settle(own: Context, *, dry_run: bool) -> None:
    if dry_run:
        _would_settle(own)
        return
    returned = _installer(own).settle()
    if returned is None:
        own.result({"returned": None}, "no install was cut off: nothing was changed")
        return
    said = f"{_tried(returned)} is taken back: {_back(returned.back_to, 'runs again', 'no release is in use')}"
    own.result({"returned": returned.to_json()}, said)


def _would_settle(own: Context) -> None:
    trials = Trials(own.config.at)
    if (trial := trials.pending()) is None:
        own.result({"dry_run": True, "would_return": None}, "no install was cut off: nothing would be changed")
        return
    with trials.locked():  # else it is not cut off, but runs
        back = _back(trial.previous, "would run again", "no release would be in use")
    facts = {"serial": trial.serial, "release": trial.release, "back_to": trial.previous, "at": trial.at}
    own.result({"dry_run": True, "would_return": facts}, f"{_tried(trial)} would be taken back: {back}")


def _tried(what: Returned | Trial) -> str:
    return "the changed site file" if what.is_of_site_file else f"the install of release {what.release}"


def _back(serial: int, verb: str, nowhere: str) -> str:
    return f"release {serial} {verb}" if serial != NONE else nowhere


def _installer(own: Context) -> Installer:
    return _installer_on(own, open_host(own.config, clock=own.clock))


def _installer_on(own: Context, host: Host | None) -> Installer:
    return Installer(
        config=own.config,
        config_file=own.config_path,
        clock=own.clock,
        progress=own.say,
        host=host,
    )


def _in_this_process(own: Context, serial: int | None) -> None:
    """Carry a job out: what a unit does; its outcome goes to the job service, which waits for it."""
    try:
        facts = _installer(own).install(serial)
        own.result(facts.to_json(), _text(facts, is_preview=False))
    except SealiftError as error:
        _tell(own, Outcome.of_error(error))
        raise
    _tell(own, Outcome(ok=True, changed=facts.changed))


def _plan_in_this_process(own: Context, serial: int) -> None:
    """Make a plan as the unit of plans does: as a user without rights, who leaves what it found in their folder."""
    try:
        made = _installer_on(own, open_planner(own.config, clock=own.clock)).plan(serial)
    except SealiftError as error:
        planunit.tell(own.config.at, serial, Outcome.of_error(error))
        raise
    own.result({"plan": made.digest}, f"plan {made.digest}")
    planunit.tell(own.config.at, serial, Outcome(ok=True, digest=made.digest, changed=made.changes_host))


def _tell(own: Context, outcome: Outcome) -> None:
    with jobs_of(own) as jobs:
        if jobs is not None:
            with suppress(WireError, RemoteError):  # started by hand, nobody waits for it
                jobs.tell_outcome(outcome)


def _plan(own: Context, jobs: JobsClient | None, serial: int | None, *, person: str, meaning: str) -> None:
    with ledger_of(own) as ledger:
        checking.require_place(own.config, ledger)  # before people are asked to approve what could not be installed
    if jobs is None:
        plan = _installer(own).plan(serial)
    else:
        number = jobs.ask(Kind.PLAN, serial=_serial(own, serial), person=person)
        own.say(f"job {number} makes the plan")
        outcome = jobs.wait(number).require_ok()
        plan = Plan.from_bytes(jobs.text("plan", outcome.digest))
    said = [plan.to_text()]
    facts: dict[str, Any] = {"plan": plan.digest, "serial": plan.serial, "changes_host": plan.changes_host}
    facts |= {"packages": [package.to_json() for package in plan.packages], "difference": plan.difference}
    if person and plan.changes_host:
        text = meaning or f"Install release {plan.release} at {plan.site}"
        with promoter_of(own) as promoter:
            request = promoter.request_host(
                plan_digest=plan.digest, serial=plan.serial, meaning=text, requested_by=person
            )
        facts["statement_sha256"] = request.statement.sha256
        said.append(
            f"requested; different people approve it with\n  sealift host approve {plan.digest[:12]} --as PERSON\n"
            f"then run\n  sealift install {plan.serial}"
        )
    own.result(facts, "\n".join(said))


def _by_job(own: Context, jobs: JobsClient, serial: int | None) -> None:
    wanted, before = _serial(own, serial), InstalledReleases(own.config.at).current()
    number = jobs.ask(Kind.INSTALL, serial=wanted)
    own.say(f"job {number} installs serial {wanted}")
    outcome = jobs.wait(number).require_ok()
    installed = InstalledReleases(own.config.at).require_current()
    facts = {
        "serial": installed.serial,
        "release": installed.release,
        "previous": before.serial if before is not None and before.serial != installed.serial else None,
        "environments": dict(installed.environments),
        "changed": outcome.changed,
        "job": number,
    }
    said = f"installed release {installed.release} (serial {installed.serial}) by job {number}"
    if not outcome.changed:
        said = f"release {installed.release} (serial {installed.serial}) is installed already: nothing was changed"
    own.result(facts, said)


def _serial(own: Context, serial: int | None) -> int:
    if serial is not None:
        return serial
    try:
        held: tuple[StoredRelease, ...] = tuple(ContentStore(own.config.at.store).releases())
    except OSError:
        held = ()
    if not held:
        raise UsageError(what="which release is meant?", why="the store cannot be read by you", fix="give its serial")
    return canonical.integer(held[-1].serial, "serial")


def _text(facts: InstallFacts, *, is_preview: bool) -> str:
    if is_preview:
        verdict = "would change this appliance" if facts.changed else "would change nothing"
        said = f"release {facts.release} (serial {facts.serial}) {verdict}; host: {facts.host}"
        return "\n".join([facts.difference, said, *_kept(facts)]).strip()
    if not facts.changed:
        return f"release {facts.release} (serial {facts.serial}) is installed already: nothing was changed"
    lines = [f"installed release {facts.release} (serial {facts.serial})"]
    lines += [f"  before: serial {facts.previous}"] if facts.previous is not None else []
    lines += [f"  environment {name}: {digest[:12]}" for name, digest in sorted(facts.environments.items())]
    lines += [f"  keys made: {', '.join(facts.keys_made)}"] if facts.keys_made else []
    return "\n".join([*lines, *_kept(facts), f"  host: {facts.host}"])


def _kept(facts: InstallFacts) -> list[str]:
    if facts.base is None:
        return []
    return [f"  {facts.kind}: kept unchanged from release {facts.base}: {', '.join(facts.kept)}"]
