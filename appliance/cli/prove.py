"""`sealift prove`: from an answer to its origin, every step checked afresh.

An answer that the own ledger does not know is looked for in the mirrors of other boxes: what a lost box gave last is
proven there, by what it signed.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import portable
from appliance.actions import prove as action
from appliance.actions.proven_ledger import ProvenLedger
from appliance.actions.proven_mirror import ProvenMirror
from appliance.actions.standby import mirrored
from appliance.actions.tracing.reading import note_read
from appliance.actions.tracing.selection import INTENT
from appliance.audit.facts import EvidenceLedger
from appliance.cli import context as shared
from appliance.cli.context import Context
from appliance.cli.mirrors import Of, mirror_of
from appliance.cli.newfile import write_new
from appliance.cli.opened import ledger_of, read_note
from appliance.errors import PrivilegeError, ProofError
from appliance.places import Places
from media.errors import UsageError

_REFUSED = "request.refused"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("prove")(_prove)


def _prove(
    context: typer.Context,
    request_id: Annotated[str, typer.Argument(help="The x-request-id header of an answer.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the proof to a new file for elsewhere."),
    ] = None,
    printed: Annotated[
        list[Path] | None,
        typer.Option("--printed", help="A checkpoint from outside that the file must be comparable with."),
    ] = None,
    of: Of = "",
) -> None:
    """Prove where an answer came from. Needs no network and nothing running."""
    own = shared.of(context)
    if printed and out is None:
        raise UsageError(
            what="--printed goes with --out",
            why="a proof that is only shown is compared with this machine's own ledger and with no print",
            fix="add --out FILE; or hold the ledger against it: `sealift audit verify --checkpoint FILE`",
        )
    require_rights(own.config.at)
    with ledger_of(own) as ledger:
        content = b""
        source, proven = _source(own, ledger, action.request_of(request_id), of)
        if out is None:
            report = action.prove(own.config, source, request_id, clock=own.clock, proven=proven)
        else:
            notes = [read_note(path) for path in printed or []]
            made = portable.made(own.config, source, request_id, printed=notes, clock=own.clock, proven=proven)
            report, content = made.report, made.content
        found = source.find(INTENT, field="request_id", value=report.subject, limit=1)
        note_read(ledger, "prove", found, of="" if proven.mirror is None else proven.mirror["origin"])
        if out is not None and report.ok:
            write_new(out, content, fix="name a file that does not exist")
    own.result(report.to_json(), report.to_text())
    if not report.ok and own.as_json:
        raise typer.Exit(ProofError.exit_code)  # the report is the one document on stdout
    report.require()


def _source(own: Context, ledger: EvidenceLedger, request_id: str, of: str) -> tuple[EvidenceLedger, ProvenLedger]:
    """Return the ledger that an answer is proven from: the own one, else a mirror that has it, or the one named."""
    if of:
        copy, proven = mirror_of(own, ledger, of)
        return copy.ledger, proven
    own_ledger = ProvenLedger(ledger, own.config.at)
    if any(ledger.find(kind, field="request_id", value=request_id, limit=1) for kind in (INTENT, _REFUSED)):
        return ledger, own_ledger
    found, reaches = mirrored.holding(
        own.config, ledger, kind=INTENT, field="request_id", value=request_id, clock=own.clock
    )
    if found is None:
        own_ledger.elsewhere = reaches
        return ledger, own_ledger
    own.say(f"this box did not answer it: {found.known.shown} holds it")
    return found.ledger, ProvenMirror(found, ledger, own.config.at)


def require_rights(places: Places) -> None:
    """Return when this user may look; a step that it may not look at would be told as one that does not hold.

    Raises:
        PrivilegeError: It may not.
    """
    for folder in (places.store, places.promoter):
        try:
            with os.scandir(folder):
                pass
        except PermissionError as error:
            raise PrivilegeError(
                what="a proof reads the store, the trust record and the promotions",
                why="this user may not",
                fix="run it as root, with sudo; or prove the answer on the page",
            ) from error
        except OSError:
            continue  # what is not there is for the steps to tell
