"""The disk of backups in `sealift setup`: which ones are there, which is chosen, its name typed, and how it went."""

from collections.abc import Sequence

import typer

from appliance.actions import setup
from appliance.actions.backups.offered import Devices, Offered
from appliance.actions.backups.seconddisk import DiskFacts, SecondDisk, State
from appliance.cli import context as shared
from appliance.cli.backup_disk import is_typed, line_of, text_of
from appliance.config import SMALLEST_PROFILE, Config
from appliance.errors import ConflictError
from appliance.install import questions
from appliance.install.questions import Prompt, Values
from media.clock import Clock
from media.errors import SealiftError, UsageError

FOLDER, KEY = "backup.folder", "backup.disk"
PLACE = "/media/sealift-backup"
_LATER, _AGAIN = "later", "again"
_RECIPIENT = "  `sealift backup recipient` has said who can open backups: until then the timer makes none"


def of(config: Config, clock: Clock, chosen: str) -> SecondDisk:
    """Return the disk of backups of a site that is being set up."""
    return SecondDisk(config=config, clock=clock, chosen=chosen, devices=_devices(config))


def _devices(config: Config) -> Devices | None:
    return Devices() if config.places.root == "/" else None


def propose(own: shared.Context, values: Values, base: Config | None) -> None:
    """Answer where backups go for whom nobody has asked yet: on a USB disk that is here, at the smallest sites.

    Whoever chose none before, or was set up without, keeps none.
    """
    if questions.get(values, FOLDER) is not None:
        return
    is_set_up = base is not None and (base.at.state / setup.FOLDER / setup.SUMMARY).exists()
    is_small = questions.get(values, "profile") == SMALLEST_PROFILE
    questions.put(values, FOLDER, PLACE if is_small and not is_set_up and _is_any(own, base) else "")


def _is_any(own: shared.Context, base: Config | None) -> bool:
    """Tell whether a disk is here that could be prepared for backups, or was."""
    second = of(_going_to(base, PLACE), own.clock, "")
    try:
        return not second.unneeded() and any(one.refusal is None for one in second.offers())
    except SealiftError:
        return False


def _going_to(base: Config | None, folder: str) -> Config:
    site = base or Config(site="x")
    return site.model_copy(update={"backup": site.backup.model_copy(update={"folder": folder})})


def ask(own: shared.Context, prompt: Prompt, values: Values, base: Config | None) -> None:
    """Show the disks of this machine and let a person choose one, or say later; where none is needed, ask nothing."""
    second = of(_going_to(base, questions.get(values, FOLDER)), own.clock, "")
    before = questions.get(values, KEY) or ""
    prompt.leave_out(values)
    if not prompt.applies(values):
        return
    if none := second.unneeded():
        own.say(f"  no disk is prepared: {none}")
        return
    while True:
        try:
            found = second.offers()
        except SealiftError as error:
            own.say(f"  no disk can be prepared: {error.what}: {error.why}\n  what helps: {error.fix}")
            return
        own.say("\n".join(f"  {line}" for line in _listed(found)))
        own.say(f"  {prompt.help}")
        if before and not any(before in one.names for one in found):
            own.say(f"  the disk of before, {before}, is not plugged in")
        is_here = any(before in one.names for one in found if before and one.refusal is None)
        typed = str(typer.prompt(f"  {prompt.text}", default=before if is_here else _LATER, err=True)).strip()
        if typed.lower() == _AGAIN:
            continue
        try:
            questions.put(values, KEY, _chosen(found, typed))
        except SealiftError as error:
            own.say(f"  that does not hold: {error.what}: {error.why}")
        else:
            return


def _listed(found: Sequence[Offered]) -> list[str]:
    lines = []
    for number, one in enumerate(found, 1):
        if one.refusal is not None:
            lines.append(f"  - {line_of(one.disk)}; cannot be used: {one.refusal.why}")
            if isinstance(one.refusal, ConflictError):
                lines.append(f"    what helps: {one.refusal.fix}")
        else:
            kept = "; prepared for backups already, nothing on it is lost" if one.is_prepared else ""
            lines.append(f"{number:>3} {line_of(one.disk)}{kept}")
    if all(one.refusal is not None for one in found):
        lines.append("no disk that could be used is plugged in; setup goes on without one")
    return lines


def _chosen(found: Sequence[Offered], typed: str) -> str:
    """Return the lasting name of the disk that a person means by its number or a name; nothing for later."""
    if typed.lower() in {_LATER, "none", "-", "no"}:
        return ""
    numbered = {str(number): one for number, one in enumerate(found, 1)}
    these = [numbered[typed]] if typed in numbered else [one for one in found if typed in (one.disk.name, *one.names)]
    if len(these) != 1:
        raise UsageError(what=f"{typed} is none of these disks", why="a number, again or later is typed", fix="")
    if these[0].refusal is not None:
        raise these[0].refusal
    return these[0].names[0]


def agreed(own: shared.Context, planned: DiskFacts) -> DiskFacts:
    """Ask for the name of the disk that would be erased; without it the disk is left, and setup goes on."""
    if planned.made is None or is_typed(planned.made):
        return planned
    own.say("the disk is left as it is; setup goes on without it")
    return planned.left("its name was not typed")


def plan_lines(facts: DiskFacts) -> list[str]:
    """Return what will become of the disk of backups."""
    if facts.state is State.NONE:
        return [f"backups: no disk is prepared, {facts.why}"]
    if facts.made is not None:
        return ["backups: once the release is in place, this disk is prepared", *text_of(facts.made).splitlines()]
    if facts.disk is not None and facts.state is State.STANDS:
        return [f"backups: {line_of(facts.disk)}; prepared already, nothing on it is lost"]
    return _finding(facts)


def summary_lines(facts: DiskFacts, folder: str, *, is_chosen: bool = False) -> list[str]:
    """Return what became of it, and what backups still need.

    Args:
        facts: Of the disk.
        folder: Where backups go.
        is_chosen: Whether it was said before who can open them, as on a box that is installed anew.
    """
    if not folder:
        return ["Backups have no place yet: `sealift doctor` reminds you."]
    is_ready = facts.state in {State.PREPARED, State.STANDS}
    is_open = not is_ready and facts.state is not State.NONE
    needs = ["  its USB disk is prepared: any other is never written to"] if is_open else []
    needs += [] if is_chosen else [_RECIPIENT]
    if is_ready and facts.disk is not None:
        record = f", record {facts.sequence}" if facts.sequence is not None else ""
        said = [f"The disk of backups: {line_of(facts.disk)}; it is mounted at {folder}{record}"]
    else:
        said = _finding(facts) if is_open else [f"No disk is prepared for backups: {facts.why}"]
    once = {0: "", 1: " once one thing is done", 2: " once two things are done"}[len(needs)]
    return [*said, f"Backups go to {folder}{once} (docs/operator/backup.md){':' if needs else ''}", *needs]


def _finding(facts: DiskFacts) -> list[str]:
    said = f"NO DISK FOR BACKUPS: {facts.what}: {facts.why}" if facts.what else f"No disk for backups: {facts.why}"
    return [said, f"  what helps: {facts.fix}"]
