"""`sealift review`: what one person did alone, and the second person who looks at it."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli import context as shared
from appliance.cli import passwords
from appliance.cli.opened import is_operator, promoter_of


def register(app: typer.Typer) -> None:
    """Add the commands."""
    review = typer.Typer(help="What one person did alone waits for another's look.", no_args_is_help=True)
    app.add_typer(review, name="review")
    review.command("list")(_list)
    review.command("done")(_done)


def _list(context: typer.Context) -> None:
    """List what waits for a second person's look."""
    own = shared.of(context)
    with promoter_of(own) as promoter:
        found = promoter.reviews()
    lines = [f"{one['sequence']:>6}  {one['at']}  {one['person']} {one['what']}: {one['reason']}" for one in found]
    own.result({"open": list(found)}, "\n".join(lines) or "nothing waits for a review")


def _done(
    context: typer.Context,
    sequence: Annotated[int, typer.Argument(help="The ledger sequence that `sealift review list` shows.")],
    person: Annotated[str, typer.Option("--as", help="Who looked at it, by id; not who did it.")],
    note: Annotated[str, typer.Option("--note", help="What was found, for the record.")],
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="The person's password; asked of operators. - is stdin.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Record that a second person looked at it."""
    own = shared.of(context)
    if dry_run:
        own.result({"dry_run": True, "reviewed": sequence}, "nothing was changed")
        return
    secret = None
    if password_file is not None or is_operator(own.config):
        secret = passwords.read(password_file, prompt=f"Password of {person}")
    with promoter_of(own) as promoter:
        done = promoter.review(sequence, person=person, note=note, password=secret)
    own.result({"reviewed": sequence, "sequence": done}, f"record {sequence} is reviewed; ledger sequence {done}")
