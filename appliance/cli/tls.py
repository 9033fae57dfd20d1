"""`sealift tls`: this box's certificates, the facility's authority, callers' certificates, revocation."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import tls as actions
from appliance.actions import tls_clients_standing, tls_facility, tls_standing
from appliance.actions.tls_placing import facts_of
from appliance.cli import context as shared
from appliance.cli import tls_authority, tls_clients
from appliance.cli.context import Context
from appliance.cli.marks import marked
from appliance.cli.opened import is_operator, jobs_of
from appliance.cli.tls_here import DryRun, Why, here_of, read_file, write_file
from appliance.errors import PreflightError, PrivilegeError, WireError
from appliance.install.certificates import fingerprint
from appliance.install.joboutcome import Outcome
from appliance.install.jobs import Kind
from appliance.install.tlsfolder import TlsFolder
from appliance.wire import RemoteError
from media.errors import SealiftError, UsageError

_DUE = "due"
_SERIAL = re.compile(r"[0-9A-Fa-f]{1,40}", re.ASCII)
_SERIALS = 1 << 159


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="Certificates of this box and of its callers.", no_args_is_help=True)
    app.add_typer(commands, name="tls")
    commands.command("show")(_show)
    commands.command("rotate")(_rotate)
    commands.command("request")(_request)
    commands.command("import")(_import)
    commands.command("revoke")(_revoke)
    tls_clients.add_to(commands)
    tls_authority.add_to(commands)


def _show(context: typer.Context) -> None:
    """Show what callers are shown, who vouches for it, what waits, and what runs out. Ends with 52 when it is wrong."""
    own = shared.of(context)
    facts = tls_standing.standing(own.config, clock=own.clock)
    findings = [
        *tls_standing.findings(own.config, clock=own.clock),
        *tls_clients_standing.findings(own.config, clock=own.clock),
    ]
    lines = [marked(one.name, one.text, is_good=one.is_good) for one in findings]
    own.result({**facts, "findings": [one.to_json() for one in findings]}, "\n".join(lines))
    if any(one.is_good is False for one in findings):
        raise typer.Exit(PreflightError.exit_code)


def _rotate(
    context: typer.Context,
    now: Annotated[str, typer.Option("--now", metavar="REASON", help="Replace it although it is not due.")] = "",
    reload: Annotated[bool, typer.Option(help="Have the web server show it, and look.")] = True,
    instance: Annotated[str, typer.Option("--for", hidden=True, help="The unit's instance.")] = _DUE,
    dry_run: DryRun = False,
) -> None:
    """Make what is missing or due: authority, certificate (in its last 30 days), revocation list. Safe to repeat."""
    own = shared.of(context)
    if instance != _DUE:
        _carry_out(own, instance)
        return
    if now and not dry_run and is_operator(own.config):
        _ask(own)
        return
    with here_of(own, with_server=reload) as here:
        done = actions.rotate(here, at_once=now, dry_run=dry_run)
    verb = "would make" if dry_run else "made"
    waits = done.why and "server" not in done.made
    text = f"{verb} {', '.join(done.made)}" if done.made else "" if waits else "nothing is due"
    if done.is_seen:
        text += f"; callers are shown {done.fingerprint[:12]}"
    if waits:
        text += f"{'; ' if text else ''}{_still(done.fingerprint)}"
    if done.is_given:
        text += "; the web server may read its key now"
    own.result(done.to_json(), text)


def _ask(own: Context) -> None:
    """Have the unit replace the certificate that is shown: what an operator may ask root for."""
    shown = TlsFolder.of(own.config).shown()
    with jobs_of(own) as jobs:
        if jobs is None or shown is None:
            raise PrivilegeError(
                what="the certificate cannot be replaced by this user",
                why="the job service does not answer, or nothing is shown yet",
                fix="run the command as root",
            )
        before = fingerprint(shown.certificate)
        number = jobs.ask(Kind.ROTATE, digest=before)
        own.say(f"job {number} replaces {before[:12]}")
        jobs.wait(number).require_ok()
    after = TlsFolder.of(own.config).shown()
    name = "" if after is None else fingerprint(after.certificate)
    is_replaced = name != before
    own.result(
        {"job": number, "replaced": before if is_replaced else "", "fingerprint": name},
        f"callers are shown {name[:12]}" if is_replaced else _still(name),
    )


def _still(name: str) -> str:
    """Return what becomes of a certificate that this box cannot replace by itself."""
    return (
        f"callers are shown {name[:12]} still, until the facility's authority has made another one: "
        "`sealift tls request`"
    )


def _carry_out(own: Context, digest: str) -> None:
    """Carry a job out: what the unit does; its outcome goes to the job service, which waits for it."""
    try:
        with here_of(own) as here:
            done = actions.rotate(here, at_once="asked by a job", replaces=digest)
        outcome = Outcome(ok=True, changed=bool(done.made))
    except SealiftError as error:
        _tell(own, Outcome.of_error(error))
        raise
    _tell(own, outcome)
    made = f"made {', '.join(done.made)}; " if done.made else ""
    shown = f"callers are shown {done.fingerprint[:12]}" if "server" in done.made else _still(done.fingerprint)
    own.result(done.to_json(), made + shown)


def _tell(own: Context, outcome: Outcome) -> None:
    with jobs_of(own) as jobs, suppress(WireError, RemoteError):  # started by hand, nobody waits for it
        if jobs is not None:
            jobs.tell_outcome(outcome)


def _request(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option("--out", help="Write it to this new file instead.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Print the request for the facility's authority. Its private key is made here and stays here."""
    own = shared.of(context)
    with here_of(own) as here:
        if dry_run:
            waits = here.folder.request() is not None
            own.result({"waits": waits}, "a request waits already" if waits else "would make a key and a request")
            return
        tls_facility.request(here)
        pem = here.folder.request_file.read_bytes()
    if out is None:
        own.result({"request": pem.decode()}, pem.decode())
    else:
        write_file(out, pem, mode=0o644)
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
    untrusted_root = None if root is None else read_file(root)
    with here_of(own) as here:
        judged = tls_facility.import_chain(here, read_file(chain), untrusted_root=untrusted_root, dry_run=dry_run)
    facts = {**facts_of(judged.certificate), "remarks": list(judged.remarks), "in_place": not dry_run}
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
    with here_of(own) as here:
        listed = actions.revoke(here, _hex(serial), reason, dry_run=dry_run)
    verb = "would be" if dry_run else "is"
    own.result(
        {"serial": _hex(serial), "reason": str(reason), "crl": listed.number, "done": not dry_run},
        f"{_hex(serial)} {verb} taken back",
    )


def _hex(untrusted: str) -> str:
    digits = untrusted.replace(":", "")
    # As many as a serial number may have (RFC 5280), and none that is nothing: no list could name it.
    if not _SERIAL.fullmatch(digits) or not 0 < int(digits, 16) < _SERIALS:
        raise UsageError(
            what="that is not a serial number", why="expected up to 40 hex digits", fix="see `sealift tls show`"
        )
    return f"{int(digits, 16):x}"
