"""`sealift prove`: from an answer to its origin, every step checked afresh."""

import os
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions import portable
from appliance.actions import prove as action
from appliance.actions.tracing.reading import note_read
from appliance.actions.tracing.selection import INTENT
from appliance.cli import context as shared
from appliance.cli.opened import ledger_of, read_note
from appliance.errors import PrivilegeError, ProofError, StoreWriteError
from appliance.places import Places
from media import durable


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
) -> None:
    """Prove where an answer came from. Needs no network and nothing running."""
    own = shared.of(context)
    require_rights(own.config.at)
    with ledger_of(own) as ledger:
        content = b""
        if out is None:
            report = action.prove(own.config, ledger, request_id, clock=own.clock)
        else:
            notes = [read_note(path) for path in printed or []]
            made = portable.made(own.config, ledger, request_id, printed=notes, clock=own.clock)
            report, content = made.report, made.content
        note_read(ledger, "prove", ledger.find(INTENT, field="request_id", value=report.subject, limit=1))
        if out is not None and report.ok:
            _write(out, content)
    own.result(report.to_json(), report.to_text())
    if not report.ok and own.as_json:
        raise typer.Exit(ProofError.exit_code)  # the report is the one document on stdout
    report.require()


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


def _write(out: Path, content: bytes) -> None:
    try:
        durable.write_new(out, content)
    except OSError as error:
        raise StoreWriteError(
            what=f"{out.name} cannot be written", why=error.strerror or "", fix="name a file that does not exist"
        ) from error
