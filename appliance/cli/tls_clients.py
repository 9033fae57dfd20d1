"""`sealift tls clients`: certificates of calling applications."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import tls_clients
from appliance.cli import context as shared
from appliance.cli.tls_here import DryRun, Why, here_of, new_file, read_file
from appliance.install.certificates import CLIENT_DAYS
from media.errors import UsageError


def add_to(commands: typer.Typer) -> None:
    """Add the commands below `sealift tls`."""
    clients = typer.Typer(help="Certificates of calling applications (mTLS).", no_args_is_help=True)
    commands.add_typer(clients, name="clients")
    clients.command("issue")(_issue)
    clients.command("list")(_list)
    clients.command("revoke")(_revoke_client)


def _issue(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The application: lower-case letters, digits, hyphens.")],
    out: Annotated[Path, typer.Option("--out", help="New file for the certificate, and for its key if made here.")],
    key: Annotated[str, typer.Option("--key", help="Id of the API key that it goes with.")] = "",
    request: Annotated[Path | None, typer.Option("--request", help="The application's own request (PEM).")] = None,
    days: Annotated[int, typer.Option("--days", help="How long it lives.")] = CLIENT_DAYS,
    dry_run: DryRun = False,
) -> None:
    """Issue a certificate to a calling application."""
    own = shared.of(context)
    untrusted = None if request is None else read_file(request)
    if out.exists() and not dry_run:
        raise UsageError(what=f"{out.name} is there already", why="a key is never written over", fix="name a new file")
    with here_of(own) as here, ExitStack() as stack:
        # First, since nobody else will have the key: what is issued must not fail for want of a place for it.
        fill = None if dry_run else stack.enter_context(new_file(out, mode=0o600))
        made = tls_clients.issue(here, name=name, key_id=key, untrusted_request=untrusted, days=days, dry_run=dry_run)
        if fill is not None:
            fill((made.key_pem or b"") + made.pem)
    if made.key_pem is not None and not dry_run:
        own.say("the file holds the private key; this box keeps no copy of it")
    verb = "would be issued" if dry_run else "is issued"
    own.result(
        {**made.client.to_json(), "issued": not dry_run, "key_made_here": made.key_pem is not None},
        f"{made.client.serial} {verb} to {name}, until {made.client.not_after}",
    )


def _list(context: typer.Context) -> None:
    """List the certificates of callers."""
    own = shared.of(context)
    with here_of(own) as here:
        found = tls_clients.clients(here)
    lines = [f"{one.name:<24} {one.serial:<40} {one.key_id or '-':<10} {one.not_after} {one.state}" for one in found]
    own.result({"clients": [one.to_json() for one in found]}, "\n".join(lines) or "no caller has a certificate")


def _revoke_client(
    context: typer.Context,
    which: Annotated[str, typer.Argument(help="A serial, or a name: then every valid one of it.")],
    reason: Why,
    dry_run: DryRun = False,
) -> None:
    """Take a caller's certificate back; its next connection is refused."""
    own = shared.of(context)
    with here_of(own) as here:
        gone = tls_clients.revoke(here, which, reason, dry_run=dry_run)
    verb = "would be" if dry_run else "is"
    own.result(
        {"revoked": [one.to_json() for one in gone], "done": not dry_run},
        "\n".join(f"{one.serial} of {one.name} {verb} taken back" for one in gone),
    )
