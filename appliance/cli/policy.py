"""`sealift policy`: the thresholds that gates judge by, and the site's own, which take two people."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import policy as action
from appliance.actions.pinned import plain_bytes
from appliance.actions.ways import Way
from appliance.cli import context as shared
from appliance.cli import passwords, signing
from appliance.cli.gathering import gathered
from appliance.cli.opened import ledger_of, promoter_of
from appliance.promote.policy import GatePolicy
from appliance.promote.sitepolicy import MAX_BYTES, SitePolicy
from appliance.promote.strictness import spoken
from media.clock import to_text

_group = typer.Typer(help="The gates' thresholds; a site's own take two people.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(metavar="FILE.toml", help="Thresholds: docs/operator/validating.md.")]
_CLOSED = ("two people bring in another file: `sealift policy import FILE.toml`", "what the site signed:")


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(_group, name="policy")


@_group.command("show")
def _show(context: typer.Context) -> None:
    """Show the policy that holds: every threshold, and what the site changed of the release's."""
    own = shared.of(context)
    with ledger_of(own) as ledger:
        now = action.standing(ledger)
    holds = now.compared
    if now.holds is None:
        facts = {**now.to_json(), "name": None, "digest": None, "file": now.file}
        own.result(facts, "\n".join([f"the gates are closed: {now.closed}", *_CLOSED, *_indented(now.file)]))
        return
    found = action.thresholds(holds)
    changes = () if holds.site is None else holds.site.changes
    lines = [f"{holds.name}  {holds.digest}", *(f"  {key}  {spoken(value)}" for key, value in found.items())]
    lines += ["the site's own:", *(f"  {one.text}" for one in changes)] if changes else ["the release's own, unchanged"]
    lines += [f"not taken over from the other box yet, so the stricter of both holds: {one}" for one in now.held_back]
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}
    own.result({**holds.named(), **now.to_json(), "gates": list(holds.gates), "thresholds": plain}, "\n".join(lines))


@_group.command("diff")
def _diff(context: typer.Context, file: File) -> None:
    """Show what would change if this file held. Nothing is asked for."""
    own = shared.of(context)
    with ledger_of(own) as ledger:
        now = action.standing(ledger)
    after = action.laid(_text(file))
    own.result(_facts(now, after), "\n".join(_lines(now, after)))


@_group.command("import")
def _import(
    context: typer.Context,
    file: File,
    person: Annotated[str, typer.Option("--as", metavar="PERSON", help="Who asks for it, by id.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, in words that people sign.")],
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", help="The person's; asked where who asks does not approve. - is stdin."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and tell; ask nobody.")] = False,
) -> None:
    """Ask two people for thresholds of the site's own. Nothing changes before both have signed."""
    own = shared.of(context)
    text = _text(file)
    with ledger_of(own) as ledger:
        now = action.standing(ledger)
    after = action.laid(text)
    facts = {**_facts(now, after), "asked": not dry_run}
    if dry_run:
        own.result(facts, "\n".join(_lines(now, after)))
        return
    secret = passwords.of_asker(own.config, person, password_file)
    with promoter_of(own) as promoter:
        request = promoter.request_policy(policy=text, meaning=reason, requested_by=person, password=secret)
    digest = request.statement.sha256
    then = f"{digest[:12]}: two people run `sealift policy approve {digest[:12]} --as PERSON`"
    own.result({**facts, "statement": digest}, "\n".join((*_lines(now, after), then)))


@_group.command("list")
def _list(context: typer.Context) -> None:
    """List the policies that wait for approvals."""
    own = shared.of(context)
    with promoter_of(own) as promoter:
        found = promoter.pending_policies()
    rows = [
        {
            "statement": one.statement.sha256,
            "name": SitePolicy.from_bytes(one.statement.policy.encode()).name,
            "meaning": one.statement.meaning,
            "expires": to_text(one.statement.expires),
            "approved_by": [approval.shown for approval in one.approvals],
        }
        for one in found
    ]
    lines = [
        f"{row['statement'][:12]}  {row['name']}  {row['meaning']}"
        f"  approved by {', '.join(row['approved_by']) or 'nobody'}"
        for row in rows
    ]
    own.result({"waiting": rows}, "\n".join(lines) or "no policy waits")


@_group.command("approve")
@gathered("way", signing.way_of)
def _approve(
    context: typer.Context,
    digest: Annotated[str, typer.Argument(help="The statement's digest, or its beginning.")],
    person: signing.Person,
    way: Way,
    yes: signing.Yes = False,
) -> None:
    """Show what would hold, and sign it. With the second person's signature it holds."""
    own = shared.of(context)
    with ledger_of(own) as ledger:
        now = action.standing(ledger)
    with promoter_of(own) as promoter:
        request, is_held = action.approve(
            now,
            promoter,
            digest,
            person=person,
            way=way,
            agrees=lambda text: signing.agrees(own, text, yes=yes),
        )
    names = [one.name for one in request.approvals]
    facts = {"statement": request.statement.sha256, "approved_by": names, "holds": is_held}
    shown = [one.shown for one in request.approvals]
    then = "it holds from now on: validate again what is to be promoted"
    signing.tell(own, facts, shown, max(2, own.config.policy.approvals), then=then)


def _text(file: Path) -> str:
    untrusted = plain_bytes(file, f"the policy {file.name}", limit=MAX_BYTES)
    return SitePolicy.from_bytes(untrusted).text


def _facts(now: action.Standing, after: GatePolicy) -> dict[str, object]:
    moved = action.difference(now.compared, after)
    holds = None if now.holds is None else now.holds.named()
    return {"holds": holds, "would_hold": after.named(), "changes": [one.to_json() for one in moved], **now.to_json()}


def _lines(now: action.Standing, after: GatePolicy) -> list[str]:
    moved = action.difference(now.compared, after)
    return [
        f"{now.named} -> {after.name} {after.digest[:12]}",
        *(f"  {one.text}" for one in moved),
        *(() if moved else ("  no threshold would be another",)),
    ]


def _indented(text: str) -> list[str]:
    return [f"  | {line}" for line in text.splitlines()]
