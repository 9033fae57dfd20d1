"""`sealift people`: who may approve, go back and stop at this site."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import people as actions
from appliance.cli import context as shared
from appliance.cli import passwords
from appliance.cli.opened import promoter_of
from media.errors import UsageError

PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="File with the password; - is standard input.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    people = typer.Typer(help="The site's people: one-time codes, enrolment, revocation.", no_args_is_help=True)
    app.add_typer(people, name="people")
    people.command("codes")(_codes)
    people.command("enrol")(_enrol)
    people.command("list")(_list)
    people.command("invite")(_invite)
    people.command("revoke")(_revoke)


def _codes(
    context: typer.Context,
    count: Annotated[int, typer.Option("--count", help="How many people will enrol: 2 to 8.")] = 2,
) -> None:
    """Print the first one-time codes, while nobody is enrolled. Hand each to another person."""
    own = shared.of(context)
    with promoter_of(own) as promoter:
        codes = promoter.codes(count)
    own.say("each code enrols one person once; they are not kept and not shown again")
    own.result({"codes": list(codes)}, "\n".join(codes))


def _enrol(
    context: typer.Context,
    code: Annotated[str, typer.Option("--code", help="The one-time code.")],
    name: Annotated[str, typer.Option("--name", help="The name as it is printed on evidence.")],
    person: Annotated[str, typer.Option("--id", help="The id; made from the name when absent.")] = "",
    certificate: Annotated[Path | None, typer.Option("--certificate", help="Binary OpenPGP certificate.")] = None,
    gnupg_home: Annotated[Path | None, typer.Option("--gnupg-home", help="Take it from this GnuPG folder.")] = None,
    fingerprint: Annotated[str, typer.Option("--fingerprint", help="Which key of the folder.")] = "",
    password_file: PasswordFile = None,
) -> None:
    """Enrol a person with a one-time code and an OpenPGP certificate of their own."""
    own = shared.of(context)
    if (certificate is None) == (gnupg_home is None):
        raise UsageError(
            what="one certificate is needed",
            why="give a file or a GnuPG folder",
            fix="--certificate FILE, or --gnupg-home FOLDER",
        )
    if certificate is not None:
        content = actions.read_certificate(certificate)
    else:
        content = actions.certificate_from_home(gnupg_home or Path(), fingerprint)
    password = passwords.read(password_file, prompt=f"New password of {name}", confirm=True)
    with promoter_of(own) as promoter:
        enrolled = actions.enrol(promoter, code=code, name=name, certificate=content, password=password, person=person)
    own.result(enrolled.to_json(), f"{enrolled.name} is enrolled as {enrolled.person} with key {enrolled.fingerprint}")


def _list(context: typer.Context) -> None:
    """List everyone who was ever enrolled."""
    own = shared.of(context)
    with promoter_of(own) as promoter:
        people = promoter.people()
    lines = [
        f"{one['person']:<24} {one['name']:<32} {one['fingerprint']}{'  revoked' if one['revoked'] else ''}"
        for one in people
    ]
    own.result({"people": list(people)}, "\n".join(lines) or "nobody is enrolled: `sealift people codes`")


def _invite(
    context: typer.Context,
    by: Annotated[list[str], typer.Option("--by", help="An enrolled person; twice, two different ones.")],
    password_file: Annotated[
        list[Path] | None, typer.Option("--password-file", help="Their password files, in the same order.")
    ] = None,
) -> None:
    """Print one more code, by the passwords of two different people."""
    own = shared.of(context)
    files: list[Path | None] = list(password_file or [])
    files += [None] * (len(by) - len(files))
    vouchers = [
        (person, passwords.read(path, prompt=f"Password of {person}")) for person, path in zip(by, files, strict=False)
    ]
    with promoter_of(own) as promoter:
        code = promoter.invite(vouchers)
    own.result({"code": code}, code)


def _revoke(
    context: typer.Context,
    person: Annotated[str, typer.Argument(help="Who loses all rights.")],
    by: Annotated[str, typer.Option("--as", help="Who decides.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")],
    password_file: PasswordFile = None,
) -> None:
    """Take a person's rights away. What the person approved before keeps its force."""
    own = shared.of(context)
    password = passwords.read(password_file, prompt=f"Password of {by}")
    with promoter_of(own) as promoter:
        promoter.revoke(person=person, by=by, password=password, reason=reason)
    own.result({"revoked": person}, f"{person} no longer counts at this site")
