"""`sealift people`: who may approve, go back and stop at this site."""

from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.actions import people as actions
from appliance.actions.ways import ByToken, Way
from appliance.cli import context as shared
from appliance.cli import passwords, signing
from appliance.cli.gathering import gathered
from appliance.cli.newfile import write_new
from appliance.cli.opened import promoter_of
from appliance.promote.classes import NAMES
from media.errors import UsageError

PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="File with the password; - is standard input.")
]

By = Annotated[list[str], typer.Option("--by", help="An enrolled person who says so; twice, two different ones.")]
PasswordFiles = Annotated[
    list[Path] | None, typer.Option("--password-file", help="Their password files, in the same order.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    people = typer.Typer(
        help="The site's people: one-time codes, enrolment, roles, resets, revocation.", no_args_is_help=True
    )
    app.add_typer(people, name="people")
    people.command("codes")(_codes)
    people.command("enrol")(_enrol)
    people.command("list")(_list)
    people.command("invite")(_invite)
    people.command("revoke")(_revoke)
    people.command("reset")(_reset)
    people.command("roles")(_roles)
    people.command("password")(_password)


def _codes(
    context: typer.Context,
    count: Annotated[int, typer.Option("--count", help="How many people will enrol: 2 to 8.")] = 2,
    admins: Annotated[int, typer.Option("--admins", help="How many admins besides, who never approve.")] = 0,
    by: Annotated[
        str, typer.Option("--by", help="The only one who is enrolled: replaces the codes that are left.")
    ] = "",
    password_file: PasswordFile = None,
) -> None:
    """Print the first one-time codes, while nobody is enrolled. Hand each to another person.

    Where a code was lost after one person had enrolled, that person names themselves with --by: the codes that were not
    used end, and new ones are printed in their place. Once a second person was enrolled, two people invite others.
    """
    own = shared.of(context)
    password = passwords.read(password_file, prompt=f"Password of {by}") if by else ""
    with promoter_of(own) as promoter:
        if by:
            codes, admins = promoter.replace_codes(by, password)
        else:
            codes = promoter.codes(count, admins=admins)
    own.say("each code enrols one person once; they are not kept and not shown again")
    first = len(codes) - admins
    lines = [*codes[:first], *(f"{code}  (an admin)" for code in codes[first:])]
    own.result({"codes": list(codes), "admins": admins}, "\n".join(lines))


def _enrol(
    context: typer.Context,
    code: Annotated[str, typer.Option("--code", help="The one-time code.")],
    name: Annotated[str, typer.Option("--name", help="The name as it is printed on evidence.")],
    person: Annotated[str, typer.Option("--id", help="The id; made from the name when absent.")] = "",
    certificate: Annotated[Path | None, typer.Option("--certificate", help="Binary OpenPGP certificate.")] = None,
    gnupg_home: Annotated[Path | None, typer.Option("--gnupg-home", help="Take it from this GnuPG folder.")] = None,
    fingerprint: Annotated[str, typer.Option("--fingerprint", help="Which key of the folder.")] = "",
    token_public_key: Annotated[
        Path | None, typer.Option("--token-public-key", help="Public key of a PKCS#11 token, PEM or DER.")
    ] = None,
    token: signing.Token = "",
    token_key_label: signing.TokenKeyLabel = "",
    token_module: signing.TokenModule = "",
    pin_file: signing.PinFile = None,
    one_time_code: Annotated[
        bool, typer.Option("--one-time-code", help="Approve by password and one-time code too: the lower class.")
    ] = False,
    password_file: PasswordFile = None,
) -> None:
    """Enrol a person with a one-time code and keys of their own, or give a person who was reset new keys.

    A security key is enrolled on the page, since a browser speaks to it.
    """
    own = shared.of(context)
    if certificate is not None and gnupg_home is not None:
        raise UsageError(
            what="one certificate is needed",
            why="give a file or a GnuPG folder",
            fix="--certificate FILE, or --gnupg-home FOLDER",
        )
    content = b""
    if certificate is not None:
        content = actions.read_certificate(certificate)
    elif gnupg_home is not None:
        content = actions.certificate_from_home(gnupg_home, fingerprint)
    token_key = b"" if token_public_key is None else actions.read_public_key(token_public_key)
    if token:
        way = signing.way_of(token=token, token_key=token_key_label, token_module=token_module, pin_file=pin_file)
        token_key = way.public_key() if isinstance(way, ByToken) else b""
    password = passwords.read(password_file, prompt=f"New password of {name}", confirm=True)
    with promoter_of(own) as promoter:
        enrolled = actions.enrol(
            promoter,
            code=code,
            name=name,
            certificate=content,
            token_key=token_key,
            totp=one_time_code,
            password=password,
            person=person,
        )
    lines = [f"{enrolled.name} is enrolled as {enrolled.person}"]
    lines += [f"  {NAMES[kind]} {key}" for kind, key in enrolled.credentials]
    if enrolled.totp_address:
        lines.append(f"  for the app that shows one-time codes, shown once: {enrolled.totp_address}")
    if enrolled.printed_code:
        lines.append(f"  print and seal, for a reset, shown once: {enrolled.printed_code}")
    own.result(enrolled.to_json(), "\n".join(lines))


def _list(context: typer.Context) -> None:
    """List everyone who was ever enrolled."""
    own = shared.of(context)
    with promoter_of(own) as promoter:
        found = promoter.site_people()
    lines = [line for one in found["people"] for line in _lines(one)]
    if lines and not found["separates_roles"]:
        lines.append("lower class: at this site approvers are admins too (profile single-cpu)")
    elif lines and len(found["admins"]) < 2:
        lines.append("fewer than two admins are enrolled: any two people vouch; `sealift people invite --role admin`")
    own.result(found, "\n".join(lines) or "nobody is enrolled: `sealift people codes`")


def _lines(one: dict[str, Any]) -> list[str]:
    is_void = f"  approvals count from {one['counts_from']}" if one["counts_from"] else ""
    head = f"{one['person']:<24} {one['name']:<32} {', '.join(one['roles'])}"
    keys = [f"    {NAMES[key['class']]:<28} {key['fingerprint']}" for key in one["credentials"]]
    return [f"{head}{'  revoked' if one['revoked'] else is_void}", *keys]


def _invite(
    context: typer.Context,
    by: By,
    password_file: PasswordFiles = None,
    role: Annotated[str, typer.Option("--role", help="approver, operator or admin; else the profile's own.")] = "",
) -> None:
    """Print one more code, by the passwords of two different people."""
    own = shared.of(context)
    vouchers = _vouchers(by, password_file)
    with promoter_of(own) as promoter:
        code = promoter.invite(vouchers, role=role)
    own.result({"code": code}, code)


def _reset(
    context: typer.Context,
    person: Annotated[str, typer.Argument(help="Whose keys and password end.")],
    by: By,
    password_file: PasswordFiles = None,
    printed_code: Annotated[
        str, typer.Option("--printed-code", help="Of that person; then one other is enough (profile single-cpu).")
    ] = "",
) -> None:
    """End a person's keys and password by two others, and print the code for new ones.

    What the person approved and waits is void, and for 24 hours nothing the person approves counts.
    """
    own = shared.of(context)
    vouchers = _vouchers(by, password_file)
    with promoter_of(own) as promoter:
        code = promoter.reset(person, vouchers, printed_code=printed_code)
    own.say(f"{person} enrols again with this code and --id {person}; approvals count after 24 hours")
    own.result({"reset": person, "code": code}, code)


def _roles(
    context: typer.Context,
    person: Annotated[str, typer.Argument(help="Whose roles change.")],
    by: By,
    role: Annotated[list[str], typer.Option("--role", help="approver, operator or admin; more than once.")],
    password_file: PasswordFiles = None,
) -> None:
    """Give a person these roles in place of the present ones, by two others."""
    own = shared.of(context)
    vouchers = _vouchers(by, password_file)
    with promoter_of(own) as promoter:
        changed = promoter.give_roles(person, role, vouchers)
    own.result(changed, f"{changed['name']} is now: {', '.join(changed['roles'])}")


@gathered("way", signing.way_of, without=("password", "password_file", "one_time_code"))
def _password(
    context: typer.Context,
    person: Annotated[str, typer.Argument(help="Who sets a first password, by id.")],
    way: Way,
    password_file: PasswordFile = None,
    statement_to: Annotated[
        Path | None,
        typer.Option("--statement-to", help="Write what is to be signed elsewhere; then again with --signature."),
    ] = None,
) -> None:
    """Set the password of somebody who has none on this box, by a signature with the person's own key.

    People whom a box took over from another one are known by their keys and have no password there. Who has one has it
    reset by two others.
    """
    own = shared.of(context)
    with promoter_of(own) as promoter:
        way.require(promoter, person)
        statement = promoter.password_statement(person)
        if statement_to is not None:
            write_new(statement_to, statement, fix="name a file that does not exist")
            own.result({"person": person, "statement": statement_to.name}, f"sign the bytes of {statement_to.name}")
            return
        presented = way.present(promoter, person, statement)
        password = passwords.read(password_file, prompt=f"New password of {person}", confirm=True)
        promoter.set_first_password(person, presented, password)
    own.result({"person": person}, f"{person} has a password on this box")


def _vouchers(by: list[str], files: list[Path] | None) -> list[tuple[str, str]]:
    paths: list[Path | None] = [*(files or []), *([None] * len(by))]
    return [
        (person, passwords.read(path, prompt=f"Password of {person}")) for person, path in zip(by, paths, strict=False)
    ]


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
