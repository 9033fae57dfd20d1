"""`sealift promote`: bring a version into production, as far as its approvals allow."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import promote as action
from appliance.actions import window as windows
from appliance.actions import window_plan
from appliance.actions.promote import PromoteFacts, Step
from appliance.actions.window import WindowFacts
from appliance.cli import context as shared
from appliance.cli import passwords
from appliance.cli.context import Context
from appliance.cli.opened import is_operator, production_of
from appliance.cli.versions import fit_lines
from appliance.cli.windowed import Minutes, broken_off_by_signals, of_version, require_named
from appliance.errors import NotEnoughApprovalsError
from appliance.promote.destination import Said
from appliance.registry.windows import MINUTES, Asked, Purpose
from media.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("promote")(_promote)


def _promote(
    context: typer.Context,
    which: Annotated[str, typer.Argument(help="A digest, the beginning of one, a name, or NAME:VERSION.")],
    person: Annotated[str, typer.Option("--as", help="Who requests it, by id.")] = "",
    meaning: Annotated[str, typer.Option("--meaning", help="Why, in the words people sign.")] = "",
    beside: Annotated[
        bool, typer.Option("--beside", help="As one more model: nothing of what is in production goes away.")
    ] = False,
    replaces: Annotated[
        str, typer.Option("--replaces", help="In the place of the model of this name, which goes away.")
    ] = "",
    keep_warm: Annotated[bool, typer.Option("--keep-warm", help="Leave the version before loaded.")] = False,
    window: Annotated[
        bool, typer.Option("--window", help="Stop what it replaces, test, cut over: where memory holds one version.")
    ] = False,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Nobody is to approve it any more: take the request back.")
    ] = False,
    reason: Annotated[
        str, typer.Option("--reason", help="Why the window is opened, or the request withdrawn, for the record.")
    ] = "",
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="The person's password, where it is asked. - is stdin.")
    ] = None,
    minutes: Minutes = MINUTES,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --window or --withdraw: only say what it would do.")
    ] = False,
) -> None:
    """Request a promotion, or finish one that two different people have approved. Repeat it until it serves."""
    own = shared.of(context)
    said = Said(beside=beside, replaces=replaces)
    if withdraw:
        if window or meaning or keep_warm:
            raise UsageError(
                what="--withdraw goes with --as, --reason, --beside and --replaces alone",
                why="it takes a request back, and brings nothing into production",
                fix="leave the other options out",
            )
        _withdraw(own, which, said, person=person, reason=reason, password_file=password_file, dry_run=dry_run)
        return
    if window and said != Said():
        raise UsageError(
            what="--beside and --replaces are said when approval is asked for",
            why="a window carries out what people approved",
            fix=f"run `sealift promote {which[:40]}` with them first, and with --window when it is approved",
        )
    if window:
        asked = Asked(purpose=Purpose.CUT_OVER, model_digest=which, person=person, reason=reason, minutes=minutes)
        _window(own, asked, password_file=password_file, dry_run=dry_run)
        return
    if dry_run or reason:
        raise UsageError(
            what="--reason and --dry-run belong to --window and --withdraw",
            why="a promotion without a window stops nothing by itself",
            fix="see `sealift models fit` for what it would do, or give --window",
        )
    with production_of(own) as here:
        facts = action.promote(
            here,
            which,
            person=person,
            meaning=meaning,
            keep_warm=keep_warm,
            said=said,
            password=lambda: passwords.of_asker(own.config, person, password_file),
        )
    if facts.step is Step.WAITING:
        names = ", ".join(facts.approved_by) or "nobody"
        raise NotEnoughApprovalsError(
            what=f"{facts.version.name} {facts.version.version} waits for approvals",
            why=f"{len(facts.approved_by)} of {facts.needed}: {names}" + (f"; it {facts.goes}" if facts.goes else ""),
            fix=f"let another person run `sealift approve {facts.version.model_digest[:12]} --as PERSON`",
        )
    own.result(facts.to_json(), _text(facts))


def _withdraw(
    own: Context, which: str, said: Said, *, person: str, reason: str, password_file: Path | None, dry_run: bool
) -> None:
    secret = None
    if not dry_run and not (person and reason):
        raise UsageError(
            what="a withdrawal is recorded", why="by whom, and why", fix="give --as PERSON and --reason TEXT"
        )
    if not dry_run and (password_file is not None or is_operator(own.config)):
        secret = passwords.read(password_file, prompt=f"Password of {person}")
    with production_of(own) as here:
        facts = action.withdraw(here, which, person=person, reason=reason, said=said, password=secret, dry_run=dry_run)
    name, verb = f"{facts.version.name} {facts.version.version}", "would be" if dry_run else "is"
    text = "; ".join(f"{one.statement.meaning} ({len(one.approvals)} had approved)" for one in facts.requests)
    own.result({"dry_run": dry_run, **facts.to_json()}, f"the request for {name} {verb} withdrawn: {text}")


def _window(own: Context, asked: Asked, *, password_file: Path | None, dry_run: bool) -> None:
    with production_of(own) as here:
        if dry_run:
            planned = window_plan.plan(here, asked.model_digest)
            approved = f"{len(planned.approved_by)} of {planned.needed} have approved"
            said = "\n".join((*planned.lines, approved, "nothing was changed"))
            own.result({"dry_run": True, **planned.to_json()}, said)
            return
        require_named(asked)
        secret = None if password_file is None else passwords.read(password_file, prompt=f"Password of {asked.person}")
        with broken_off_by_signals():
            facts = windows.cut_over(here, of_version(here.state, asked), password=secret)
    own.result(facts.to_json(), _window_text(facts))


def _window_text(facts: WindowFacts) -> str:
    back, before = facts.plan.fit.return_seconds, facts.plan.fit.production
    was = "the version before" if before is None else f"{before.name} {before.version}"
    loads = "its loading was never measured here" if back is None else f"loading it took {back:.1f} s here"
    return (
        f"{facts.plan.fit.version.name} {facts.plan.fit.version.version} serves production; callers got no answers for"
        f" {facts.silent_seconds:.1f} s, {facts.tested_seconds:.1f} s of them for the test\n"
        f"it is watched against {was} for 48 hours (`sealift canary status`); going back is `sealift rollback`: {loads}"
    )


def _text(facts: PromoteFacts) -> str:
    version = f"{facts.version.name} {facts.version.version}"
    if facts.step is Step.REQUESTED:
        digest = facts.version.model_digest[:12]
        plan = "" if facts.fit is None else "\n".join(("", *fit_lines(facts.fit)))
        return (
            f"requested {version} for production; {facts.needed} different people approve it with\n"
            f"  sealift approve {digest} --as PERSON\nthen run\n  sealift promote {digest}{plan}"
        )
    served = facts.served
    seconds = "" if served is None else f" after {served.seconds:.1f} s"
    if facts.promotion is None:
        return f"{version} is in production and serves{seconds}"
    names = " and ".join(facts.approved_by)
    return f"{version} serves production{seconds}; approved by {names}; ledger sequence {facts.promotion.sequence}"
