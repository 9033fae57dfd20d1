"""`sealift retire`: the end of a box. Keys first, then proof that old ciphertext is dead, then the certificate."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import retiring
from appliance.actions.retiring import METHODS, Decision, Disks
from appliance.cli import context as shared
from appliance.cli import passwords
from appliance.cli.opened import promoter_of
from media.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("retire")(_retire)


def _retire(
    context: typer.Context,
    by: Annotated[list[str], typer.Option("--by", metavar="PERSON", help="An enrolled person's id; give it twice.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")],
    certificate: Annotated[Path, typer.Option("--certificate", metavar="FILE", help="To write: .html or .pdf.")],
    site: Annotated[str, typer.Option("--site", help="The site's name, typed; asked for when absent.")] = "",
    node: Annotated[
        str, typer.Option("--node", metavar="NAME", help="Of several nodes: this one's name; it alone goes.")
    ] = "",
    gone: Annotated[
        list[str] | None,
        typer.Option("--gone", metavar="NAME", help="A node whose keys went with its machine; repeat."),
    ] = None,
    disk: Annotated[
        list[str] | None, typer.Option("--disk", metavar="TEXT", help="Kind, maker, model, serial number; repeat.")
    ] = None,
    method: Annotated[str, typer.Option("--method", help="For the disks: clear, purge or destroy.")] = "destroy",
    technique: Annotated[str, typer.Option("--technique", help="How, e.g. shredding, ATA sanitize.")] = "",
    tool: Annotated[str, typer.Option("--tool", help="Tool and version.")] = "",
    verification: Annotated[str, typer.Option("--verification", help="How it is checked.")] = "",
    destination: Annotated[str, typer.Option("--destination", help="Where the disks go.")] = "",
    password_file: Annotated[
        list[Path] | None, typer.Option("--password-file", help="Their password files, in the same order.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be destroyed.")] = False,
) -> None:
    """Destroy this box's keys for ever, show that what they made is unreadable, and write the certificate."""
    own = shared.of(context)
    if method not in METHODS:
        raise UsageError(
            what=f"{method[:20]} is no method", why="SP 800-88 has three", fix=f"one of {', '.join(METHODS)}"
        )
    files: list[Path | None] = [*(password_file or []), *[None] * len(by)]

    def confirm(person: str) -> str:
        password = passwords.read(files[by.index(person)], prompt=f"Password of {person}")
        with promoter_of(own) as promoter:
            return str(promoter.login(person, password)["name"])

    disks = Disks(
        media=tuple(disk or ()),
        method=method,
        technique=technique,
        tool=tool,
        verification=verification,
        destination=destination,
    )
    decision = Decision(
        typed_site=site or (own.config.site if dry_run else _ask()),
        people=tuple(by),
        reason=reason,
        disks=disks,
        node=node,
        gone=tuple(gone or ()),
    )
    done = retiring.retire(
        own.config, decision, confirm=confirm, certificate=certificate, clock=own.clock, dry_run=dry_run
    )
    if done.certificate is None:
        own.result(done.to_json(), "would destroy " + ", ".join([*done.facts["keys"], *done.facts["last"]]))
        return
    lines = [
        f"the keys of {f'node {node} of ' if node else ''}{own.config.site} are destroyed",
        *(f"  {each['key']}: {each['tried']} {each['result']}" for each in done.facts["shown"]),
        f"  print and sign {done.certificate.name}",
        "  then stop everything, for services that run hold keys in memory:",
        "    systemctl disable sealift.target; systemctl stop sealift.target 'sealift-*'",
    ]
    own.result(done.to_json(), "\n".join(lines))


def _ask() -> str:
    if not sys.stdin.isatty():
        raise UsageError(what="nobody typed the site's name", why="there is no terminal", fix="give --site NAME")
    return str(typer.prompt("This destroys the keys for ever. Type the site's name", err=True))
