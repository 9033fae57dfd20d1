"""`sealift emergency`: access by one person, for hours, recorded first and looked at by another afterwards."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import breakglass as action
from appliance.cli import context as shared
from appliance.cli import passwords
from appliance.cli.opened import is_operator, promoter_of, records_of
from appliance.errors import PrivilegeError
from appliance.keys.opening import open_keys
from appliance.promote.breakglass import MOST_HOURS, USUAL_HOURS

_Person = Annotated[str, typer.Option("--as", help="Who decides, by id.")]
_Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
_Password = Annotated[
    Path | None, typer.Option("--password-file", help="The person's password; asked of operators. - is stdin.")
]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    emergency = typer.Typer(help="Emergency access: loud, for hours, looked at afterwards.", no_args_is_help=True)
    app.add_typer(emergency, name="emergency")
    emergency.command("begin")(_begin)
    emergency.command("end")(_end)
    emergency.command("list")(_list)


def _begin(
    context: typer.Context,
    department: Annotated[str, typer.Argument(help="Who needs answers now.")],
    person: _Person,
    reason: _Reason,
    hours: Annotated[
        int, typer.Option("--hours", min=1, max=MOST_HOURS, help="After so many hours it ends by itself.")
    ] = USUAL_HOURS,
    password_file: _Password = None,
    dry_run: _DryRun = False,
) -> None:
    """Give a department a key for hours: recorded first, told on every page, and reviewed by another person."""
    own = shared.of(context)
    if dry_run:
        facts = {"dry_run": True, "department": department, "hours": hours}
        own.result(facts, f"would give {department} a key for {hours} hours; nothing was recorded")
        return
    if is_operator(own.config):
        raise PrivilegeError(what="keys are made by root", why="the pepper is root's", fix="run it with sudo")
    secret = None if password_file is None else passwords.read(password_file, prompt=f"Password of {person}")
    with promoter_of(own) as promoter, records_of(own) as (ledger, state):
        begun = promoter.begin_emergency(
            department=department, hours=hours, person=person, reason=reason, password=secret
        )
        access = action.key_for(ledger, state, open_keys(own.config), begun)
    lines = [
        f"emergency access {access.number} of {access.department} until {access.ends}; it is on every page until then",
        f"The key {access.key_id} is shown once:",
        access.text,
        f"End it with: sealift emergency end {access.number} --as YOU --reason ...",
        f"Another person looks at it afterwards: sealift review list, sealift audit list --key {access.key_id}",
    ]
    own.result(access.to_json(), "\n".join(lines))


def _end(
    context: typer.Context,
    number: Annotated[int, typer.Argument(help="As `sealift emergency list` numbers it.")],
    person: _Person,
    reason: _Reason,
    password_file: _Password = None,
    dry_run: _DryRun = False,
) -> None:
    """End emergency access before its time; its key is refused at once."""
    own = shared.of(context)
    if dry_run:
        own.result({"dry_run": True, "number": number}, f"would end emergency access {number}")
        return
    secret = None
    if password_file is not None or is_operator(own.config):
        secret = passwords.read(password_file, prompt=f"Password of {person}")
    with promoter_of(own) as promoter:
        sequence = promoter.end_emergency(number, person=person, reason=reason, password=secret)
    own.result({"number": number, "sequence": sequence}, f"emergency access {number} ended; ledger sequence {sequence}")


def _list(context: typer.Context) -> None:
    """List the emergency access that runs now."""
    own = shared.of(context)
    with promoter_of(own) as promoter:
        found = promoter.emergencies()
    lines = [
        f"{one['number']:>6}  {one['department']} until {one['ends']}, by {one['person']}: {one['reason']}"
        for one in found
    ]
    own.result({"running": list(found)}, "\n".join(lines) or "no emergency access runs")
