"""`sealift tls`: this box's certificates, the facility's authority, callers' certificates, revocation."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import tls as actions
from appliance.actions import tls_clients, tls_standing
from appliance.actions.tls import Here
from appliance.audit.client import open_ledger
from appliance.audit.rights import ACTIONS
from appliance.cli import context as shared
from appliance.cli.context import Context
from appliance.cli.marks import marked
from appliance.errors import PreflightError
from appliance.install.certificates import CLIENT_DAYS, fingerprint
from appliance.install.revocation import Reason
from appliance.install.webserver import NoWebServer
from media import durable
from media.errors import UsageError

_MOST_BYTES = 128 * 1024
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done; do nothing.")]
Why = Annotated[Reason, typer.Option("--reason", help="Why it is taken back.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="Certificates of this box and of its callers.", no_args_is_help=True)
    clients = typer.Typer(help="Certificates of calling applications (mTLS).", no_args_is_help=True)
    app.add_typer(commands, name="tls")
    commands.command("show")(_show)
    commands.command("rotate")(_rotate)
    commands.command("request")(_request)
    commands.command("import")(_import)
    commands.command("revoke")(_revoke)
    commands.add_typer(clients, name="clients")
    clients.command("issue")(_issue)
    clients.command("list")(_list)
    clients.command("revoke")(_revoke_client)


@contextmanager
def _here(own: Context, *, with_server: bool = True) -> Iterator[Here]:
    ledger = open_ledger(own.config, ACTIONS, spool=True, clock=own.clock)
    try:
        server = actions.open_server(own.config) if with_server else NoWebServer()
        yield Here(config=own.config, ledger=ledger, clock=own.clock, server=server)
    finally:
        ledger.close()


def _show(context: typer.Context) -> None:
    """Show what callers are shown, who vouches for it, what waits, and what runs out. Ends with 52 when it is wrong."""
    own = shared.of(context)
    facts = tls_standing.standing(own.config, clock=own.clock)
    findings = list(tls_standing.findings(own.config, clock=own.clock))
    lines = [marked(one.name, one.text, is_good=one.is_good) for one in findings]
    own.result({**facts, "findings": [one.to_json() for one in findings]}, "\n".join(lines))
    if any(one.is_good is False for one in findings):
        raise typer.Exit(PreflightError.exit_code)


def _rotate(
    context: typer.Context,
    now: Annotated[str, typer.Option("--now", metavar="REASON", help="Replace it although it is not due.")] = "",
    reload: Annotated[bool, typer.Option(help="Have the web server show it, and look.")] = True,
    dry_run: DryRun = False,
) -> None:
    """Make what is missing or due: authority, certificate (in its last 30 days), revocation list. Safe to repeat."""
    own = shared.of(context)
    with _here(own, with_server=reload) as here:
        done = actions.rotate(here, at_once=now, dry_run=dry_run)
    verb = "would make" if dry_run else "made"
    text = f"{verb} {', '.join(done.made)}" if done.made else "nothing is due"
    if done.is_seen:
        text += f"; callers are shown {done.fingerprint[:12]}"
    own.result(done.to_json(), text)


def _request(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option("--out", help="Write it to this new file instead.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Print the request for the facility's authority. Its private key is made here and stays here."""
    own = shared.of(context)
    with _here(own) as here:
        if dry_run:
            waits = here.folder.request() is not None
            own.result({"waits": waits}, "a request waits already" if waits else "would make a key and a request")
            return
        actions.request(here)
        pem = here.folder.request_file.read_bytes()
    if out is None:
        own.result({"request": pem.decode()}, pem.decode())
    else:
        _write(out, pem, mode=0o644)
        own.result({"request": pem.decode(), "file": out.name}, f"{out.name}: have the facility's authority sign it")


def _import(
    context: typer.Context,
    chain: Annotated[Path, typer.Argument(help="PEM: the certificate and those between it and the root.")],
    root: Annotated[
        Path | None, typer.Option("--root", help="PEM: the facility's root; needed the first time.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Judge the facility's certificate completely and put it in place. Callers notice nothing."""
    own = shared.of(context)
    untrusted_root = None if root is None else _read(root)
    with _here(own) as here:
        judged = actions.import_chain(here, _read(chain), untrusted_root=untrusted_root, dry_run=dry_run)
    facts = {**actions.facts_of(judged.certificate), "remarks": list(judged.remarks), "in_place": not dry_run}
    verb = "would be put in place" if dry_run else "is in place"
    lines = [
        f"{fingerprint(judged.certificate)} {verb}, until {facts['not_after']}",
        *(f"  it {one}" for one in judged.remarks),
    ]
    own.result(facts, "\n".join(lines))


def _revoke(
    context: typer.Context,
    serial: Annotated[str, typer.Argument(help="Of a certificate of this box's authority, in hex.")],
    reason: Why,
    dry_run: DryRun = False,
) -> None:
    """Take a certificate back. The one that is shown is replaced first."""
    own = shared.of(context)
    with _here(own) as here:
        listed = actions.revoke(here, _hex(serial), reason, dry_run=dry_run)
    verb = "would be" if dry_run else "is"
    own.result(
        {"serial": _hex(serial), "reason": str(reason), "crl": listed.number, "done": not dry_run},
        f"{_hex(serial)} {verb} taken back",
    )


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
    untrusted = None if request is None else _read(request)
    if out.exists() and not dry_run:
        raise UsageError(what=f"{out.name} is there already", why="a key is never written over", fix="name a new file")
    with _here(own) as here:
        made = tls_clients.issue(here, name=name, key_id=key, untrusted_request=untrusted, days=days, dry_run=dry_run)
    if not dry_run:
        _write(out, (made.key_pem or b"") + made.pem, mode=0o600)
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
    with _here(own) as here:
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
    with _here(own) as here:
        gone = tls_clients.revoke(here, which, reason, dry_run=dry_run)
    verb = "would be" if dry_run else "is"
    own.result(
        {"revoked": [one.to_json() for one in gone], "done": not dry_run},
        "\n".join(f"{one.serial} of {one.name} {verb} taken back" for one in gone),
    )


def _hex(untrusted: str) -> str:
    try:
        return f"{int(untrusted.replace(':', ''), 16):x}"
    except ValueError as error:
        raise UsageError(
            what="that is not a serial number", why="expected hex digits", fix="see `sealift tls show`"
        ) from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_MOST_BYTES)
    except OSError as error:
        raise UsageError(
            what=f"{path.name} cannot be read", why=error.strerror or "", fix="name a file that is there"
        ) from error


def _write(path: Path, data: bytes, *, mode: int) -> None:
    try:
        durable.write_new(path, data, mode=mode)
        durable.sync_folder(path.absolute().parent)
    except OSError as error:
        raise UsageError(
            what=f"{path.name} cannot be written",
            why=error.strerror or "",
            fix="name a new file in a folder that is there",
        ) from error
