"""`sealift canary`: a share of the callers gets the new version first."""

from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.actions import canary as action
from appliance.actions.canary import CanaryFacts
from appliance.cli import canary_keys, passwords
from appliance.cli import context as shared
from appliance.cli.context import Context
from appliance.cli.opened import is_operator, production_of, promoter_of, records_of
from appliance.errors import NotPromotedError
from appliance.promote.terms import HOURS, PERCENT, WATCH_HOURS

Version = Annotated[str, typer.Argument(help="A digest, the beginning of one, a name, or NAME:VERSION.")]
Person = Annotated[str, typer.Option("--as", help="Who decides, by id.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="The person's password; asked of operators. - is stdin.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    canary = typer.Typer(help="Let a share of the callers try a version first.", no_args_is_help=True)
    app.add_typer(canary, name="canary")
    canary.command("start")(_start)
    canary.command("status")(_status)
    canary.command("hold")(_hold)
    canary.command("resume")(_resume)
    canary.command("abort")(_abort)
    canary.command("cutover")(_cut_over)
    canary.command("judge")(_judge)
    canary.command("keep")(_keep)
    canary_keys.register(canary)


def _start(
    context: typer.Context,
    which: Version,
    percent: Annotated[int, typer.Option("--percent", help="The share of callers.")] = PERCENT,
    hours: Annotated[int, typer.Option("--hours", help="How long it runs.")] = HOURS,
    watch_hours: Annotated[
        int, typer.Option("--watch-hours", help="How long the version before stays loaded afterwards.")
    ] = WATCH_HOURS,
    dry_run: DryRun = False,
) -> None:
    """Start a canary of a version that two people approved."""
    own = shared.of(context)
    with production_of(own) as here:
        seen = action.outlook(here, which, percent=percent, hours=hours)
        own.say(seen.text)
        if dry_run:
            own.result({"dry_run": True, "outlook": seen.to_json()}, "nothing was changed")
            return
        facts = action.start(here, which, percent=percent, hours=hours, watch_hours=watch_hours)
    own.result(facts.to_json(), f"{_name(facts)} answers for {percent} % of the callers for {hours} h; {_place(facts)}")


def _status(context: typer.Context) -> None:
    """Show the canary that runs, its figures, and what is missing for the cut-over."""
    own = shared.of(context)
    with promoter_of(own) as promoter:
        found = promoter.canary()
    own.result(found, _text(found))


def _hold(
    context: typer.Context, person: Person, reason: Reason, password_file: PasswordFile = None, dry_run: DryRun = False
) -> None:
    """Add no caller for now; conversations that began stay."""
    _step(shared.of(context), "hold", person, reason, password_file, dry_run=dry_run)


def _resume(
    context: typer.Context, person: Person, reason: Reason, password_file: PasswordFile = None, dry_run: DryRun = False
) -> None:
    """Let a canary that is on hold go on."""
    _step(shared.of(context), "resume", person, reason, password_file, dry_run=dry_run)


def _abort(
    context: typer.Context, person: Person, reason: Reason, password_file: PasswordFile = None, dry_run: DryRun = False
) -> None:
    """End the canary: every caller is production's again."""
    _step(shared.of(context), "abort", person, reason, password_file, dry_run=dry_run)


def _cut_over(
    context: typer.Context, person: Person, reason: Reason, password_file: PasswordFile = None, dry_run: DryRun = False
) -> None:
    """Make the canary's version the one in production."""
    own = shared.of(context)
    if dry_run:
        _show(own, needs_canary=True)
        return
    secret = _secret(own, person, password_file)
    with production_of(own) as here:
        facts = action.cut_over(here, person=person, reason=reason, password=secret)
    own.result(facts.to_json(), f"{_name(facts)} is in production; {_place(facts)}")


def _judge(context: typer.Context, dry_run: DryRun = False) -> None:
    """Let the judge look at what is new, as the timer does."""
    own = shared.of(context)
    if dry_run:
        _show(own)
        return
    with production_of(own) as here:
        found = action.judge(here)
    changed = found["changed"]
    own.result(found, _text(found) if changed is None else f"{changed['kind']}: {changed['reason']}")


def _keep(
    context: typer.Context,
    person: Person,
    reason: Reason,
    password_file: PasswordFile = None,
    line: Annotated[
        str, typer.Option("--line", help="The line that serves this model, by name; asked where several watches ask.")
    ] = "",
    dry_run: DryRun = False,
) -> None:
    """Keep the version in production in spite of what the watch after the cut-over found."""
    own = shared.of(context)
    if dry_run:
        _show(own)
        return
    secret = _secret(own, person, password_file)
    with promoter_of(own) as promoter:
        sequence = promoter.keep_watched(person=person, reason=reason, line=line, password=secret)
    own.result({"sequence": sequence, "person": person}, f"it stays; a second person reviews that; sequence {sequence}")


def _step(own: Context, what: str, person: str, reason: str, password_file: Path | None, *, dry_run: bool) -> None:
    if dry_run:
        _show(own, needs_canary=True)
        return
    secret = _secret(own, person, password_file)
    with production_of(own) as here:
        facts = action.step(here, what, person=person, reason=reason, password=secret)
    own.result(facts.to_json(), f"{facts.promotion.kind}: {_name(facts)}; {_place(facts)}")


def _show(own: Context, *, needs_canary: bool = False) -> None:
    with records_of(own), promoter_of(own) as promoter:
        found = promoter.canary()
    if needs_canary and found["canary"] is None:
        raise NotPromotedError(
            what="no canary runs", why="it ended, or was never started", fix="see `sealift canary status`"
        )
    own.result({"dry_run": True, **found}, f"{_text(found)}\nnothing was changed")


def _secret(own: Context, person: str, password_file: Path | None) -> str | None:
    if password_file is not None or is_operator(own.config):
        return passwords.read(password_file, prompt=f"Password of {person}")
    return None


def _name(facts: CanaryFacts) -> str:
    return (facts.promotion.terms.version if facts.promotion.terms else "")[:12]


def _place(facts: CanaryFacts) -> str:
    return f"ledger sequence {facts.promotion.sequence}"


def _text(found: dict[str, Any]) -> str:
    """Return the canary, or that none runs; then what each line keeps beside and watches, the first one's at once."""
    canary, kept = found["canary"], _kept(found["beside"])
    lines = (
        [f"no canary runs{kept}"] if canary is None else [_canary_text(canary), *([f"line 1{kept}"] if kept else [])]
    )
    lines += _watch_lines(found.get("watch"))
    for one in found.get("lines", ()):
        if one["beside"] is not None:
            lines.append(f"line {one['line']}{_kept(one['beside'])}")
        lines += _watch_lines(one["watch"])
    return "\n".join(lines)


def _kept(beside: dict[str, Any] | None) -> str:
    return "" if beside is None else f"; {beside['version'][:12]} stays loaded until {beside['until']}"


def _canary_text(canary: dict[str, Any]) -> str:
    verdict = canary["verdict"]
    line = f" of line {canary['line']}" if "line" in canary else ""
    where = f"{canary['percent']} % of the callers{line} beside {canary['production'][:12]}"
    held = ", on hold" if canary["held"] else ""
    left = f"{canary['left_seconds'] / 3600:.1f} of {canary['hours']} h are left"
    lines = [
        f"{canary['version'][:12]} answers for {where}{held}; {left}",
        f"verdict: {verdict['state']} ({verdict['why']})",
    ]
    for one in verdict["streams"]:
        rates = [f"{one[arm]['faults']} of {one[arm]['requests']}" for arm in ("canary", "production")]
        share = min(one["evidence_millis"] / one["limit_millis"], 1)
        lines.append(
            f"{one['stream']:<12} canary {rates[0]}, production {rates[1]}; {share:.0%} of the way to an alarm"
        )
    lines.append(f"missing for the cut-over by one person: {canary['missing'] or 'nothing'}")
    return "\n".join(lines)


def _watch_lines(watch: dict[str, Any] | None) -> list[str]:
    if watch is None:
        return []
    verdict = watch["verdict"]
    left = f"{watch['left_seconds'] / 3600:.1f} h are left"
    lines = [
        f"the watch holds {watch['version'][:12]} against {watch['before'][:12]} before it; {left}",
        f"verdict: {verdict['state']} ({verdict['why']})",
    ]
    for one in verdict["streams"]:
        if one["compared"]:
            rates = [f"{one[which]['faults']} of {one[which]['requests']}" for which in ("now", "before")]
            share = min(one["evidence_millis"] / one["limit_millis"], 1)
            lines.append(f"{one['stream']:<12} now {rates[0]}, before {rates[1]}; {share:.0%} of the way to an alarm")
    if watch["kept_by"]:
        lines.append(f"{watch['kept_by']} keeps it all the same")
    elif watch["asks"]:
        lines.append("go back: `sealift rollback`; or keep it: `sealift canary keep`")
    return lines
