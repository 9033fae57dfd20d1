"""`sealift setup`: from a received release to a machine that people can enrol at, by eight questions or one file."""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from appliance import config as configuration
from appliance.actions import setup as actions
from appliance.actions.capacity import CapacityFacts
from appliance.actions.host import open_host
from appliance.actions.install import Installer
from appliance.actions.setup import Plan, Setup, SetupFacts
from appliance.cli import capacity, setup_disk
from appliance.cli import context as shared
from appliance.config import Config
from appliance.install import answers, questions, sitefile, watching
from appliance.install.answers import Answers
from appliance.install.questions import Prompt, Values
from appliance.install.watching import Watching
from appliance.verify.freshness import BUILT
from media import durable
from media.clock import to_text
from media.errors import UsageError

_KEPT = "answers.toml"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("setup")(_setup)


def _setup(
    context: typer.Context,
    answers_file: Annotated[
        Path | None,
        typer.Option("--answers", metavar="FILE.toml", help="Take all answers from this file; ask nothing."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether to go on.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")] = False,
) -> None:
    """Ask about eight questions, show what will be done, do it, and print what people need to begin.

    A run that failed is repeated: it keeps the answers, and finds done what was done.
    """
    own = shared.of(context)
    base, is_asked = _site_file(own), answers_file is None
    if answers_file is not None:
        given = answers.load(answers_file)
    elif own.as_json:
        raise UsageError(what="--json asks no questions", why="stdout holds one document", fix="give --answers FILE")
    else:
        given = _ask_all(own, base, keep=not dry_run)
    config, watch = watching.decided(given, given.config(base), is_asked=is_asked)
    with _progress(own) as step:
        setup = _setup_of(own, given, config, watch, step, is_asked=is_asked)
        plan = setup.plan()
    if dry_run:
        own.result({"plan": plan.to_json()}, _plan_text(plan))
        return
    own.say(_plan_text(plan))
    if is_asked and not yes and not typer.confirm("Do all this now?", err=True, default=True):
        own.result({"done": False}, "nothing was changed; your answers are kept for the next time")
        return
    agreed = setup_disk.agreed(own, plan.disk) if is_asked else plan.disk
    with _progress(own) as step:
        facts = _setup_of(own, given, config, watch, step, is_asked=is_asked).run(agreed)
    own.result(facts.to_json(), _summary(facts, given, is_chosen=config.at.backup_recipient.exists()))


def _setup_of(
    own: shared.Context, given: Answers, config: Config, watch: Watching, step: actions.Progress, *, is_asked: bool
) -> Setup:
    # What runs from here on has the answers' values, as the site file will have them.
    inner = shared.Context(
        config_path=config.at.config_file, as_json=own.as_json, clock=own.clock, talk=own.talk, _config=config
    )

    def measure(which: str, seconds: int) -> CapacityFacts:
        return capacity.measured(inner, which, seconds)

    installer = Installer(
        config=config,
        config_file=config.at.config_file,
        clock=own.clock,
        progress=own.say,
        host=open_host(config, clock=own.clock),
    )
    return Setup(
        answers=given,
        is_asked=is_asked,
        config=config,
        watching=watch,
        disk=setup_disk.of(config, own.clock, given.backup.disk),
        clock=own.clock,
        installer=installer,
        measure=measure,
        progress=step,
        tell=own.say,
    )


@contextmanager
def _progress(own: shared.Context) -> Iterator[actions.Progress]:
    """Say each step as it begins; a bar would hide what the steps themselves say."""

    def show(number: int, name: str) -> None:
        if number < len(actions.STEPS):
            own.say(f"[{number + 1}/{len(actions.STEPS)}] {name}")

    yield show


def _site_file(own: shared.Context) -> Config | None:
    return configuration.load(own.config_path) if own.config_path.exists() else None


def _ask_all(own: shared.Context, base: Config | None, *, keep: bool) -> Answers:
    values = questions.starting_values(base, _earlier(base))
    place = actions.folder_of(base) / _KEPT if base is not None and keep else None
    if base is None and not questions.get(values, "site.name"):
        values["site"]["name"] = typer.prompt("Name of this site, as releases are made for it", err=True)
    total = len(questions.QUESTIONS)
    for number, question in enumerate(questions.QUESTIONS, 1):
        own.say(f"\n{number}/{total} {question.title}")
        for prompt in question.prompts:
            if prompt.key == "time.confirmed_by":
                own.say(f"  this machine says {to_text(own.clock.now())} (UTC); it cannot be before {to_text(BUILT)}")
            if prompt.key == setup_disk.FOLDER:
                setup_disk.propose(own, values, base)
            if prompt.key == setup_disk.KEY:
                setup_disk.ask(own, prompt, values, base)
            elif prompt.applies(values):
                _ask(own, prompt, values)
            else:
                prompt.leave_out(values)
            if place is not None:
                durable.replace(place, sitefile.toml(values).encode(), mode=0o600)
    return answers.from_values(values)


def _ask(own: shared.Context, prompt: Prompt, values: Values) -> None:
    own.say(f"  {prompt.help}")
    while True:
        now = prompt.shown(values)
        typed = typer.prompt(f"  {prompt.text}", default=now, show_default=bool(now), err=True)
        before = questions.get(values, prompt.key)
        questions.put(values, prompt.key, prompt.read(typed))
        wrong = questions.fault_of(values, prompt)
        if not wrong:
            return
        own.say(f"  that does not hold: {wrong if typed.strip() else 'an answer is needed'}")
        if before is not None or prompt.follows:
            questions.put(values, prompt.key, before)


def _earlier(base: Config | None) -> dict[str, Any] | None:
    if base is None:
        return None
    try:
        return tomllib.loads((base.at.state / actions.FOLDER / _KEPT).read_text())
    except (OSError, ValueError):
        return None  # nothing was answered, or not by this program: the defaults are asked


def _plan_text(plan: Plan) -> str:
    lines = ["What will be done:"]
    lines += (
        ["  the site file changes:", *(f"    {line}" for line in plan.site_file.splitlines())]
        if plan.site_file
        else ["  the site file stays as it is"]
    )
    install = plan.install
    lines.append(
        f"  release {install.release} (serial {install.serial}): "
        + ("is put into place" if install.changed else "is in place")
        + f"; host: {install.host}"
    )
    lines += [f"    {line}" for line in install.difference.splitlines() if line.startswith(("TASK", "changed:"))]
    if plan.absent:
        lines.append(
            f"  NOT ON THIS MACHINE: {', '.join(plan.absent)}. The packet filter drops what comes for any address"
        )
        lines.append("    that network.addresses does not name, ssh included: correct it, or plug the network in first")
    clock = f"stays unconfirmed, since {plan.clock_missing}" if plan.clock_missing else f"{plan.clock} (UTC)"
    lines += [f"  {line}" for line in (f"clock: {clock}", *setup_disk.plan_lines(plan.disk), *plan.watching.lines)]
    return "\n".join([*lines, f"  steps: {', '.join(plan.steps)}"])


def _summary(facts: SetupFacts, given: Answers, *, is_chosen: bool) -> str:
    lines = [f"{facts.site} is set up: release {facts.release} (serial {facts.serial})", ""]
    lines += [f"  {name:<8} {address}" for name, address in facts.urls.items()]
    lines.append(f"  CA SHA-256 {facts.ca_fingerprint or 'there is no certificate yet'}")
    lines.append("")
    if facts.codes:
        lines.append("  One-time codes. Hand each to that person alone; they are kept nowhere and not shown again:")
        lines += [f"    {name:<32} {code}" for name, code in facts.codes.items()]
    else:
        lines.append(f"  {facts.enrolled} people are enrolled; no new codes were made")
    lines.append("")
    if facts.capacity is not None:
        lines += [f"  {line}" for line in capacity.lines_of(facts.capacity)]
    else:
        lines.append(f"  capacity: not measured ({facts.capacity_missing}); `sealift capacity` measures it")
    if facts.clock_missing:
        lines += ["", f"  The clock is not confirmed: {facts.clock_missing}"]
    lines += ["", *(f"  {line}" for line in facts.watching.lines)]
    if facts.watching.is_on:
        lines.append("  `sealift alerts try` sends one to try it")
    begin = "each person runs `sealift people enrol` with the code, then `sealift validate` a model."
    go_on = "`sealift status` says whether what was in production runs; else `sealift validate` a model."
    lines += ["", f"Next: {begin if facts.codes else go_on}"]
    return "\n".join([*lines, *setup_disk.summary_lines(facts.disk, given.backup.folder, is_chosen=is_chosen)])
