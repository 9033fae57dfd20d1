"""What the commands of `sealift tls` share: what their actions work with, and the files that people name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions.tls_placing import Here, open_server
from appliance.audit.client import open_ledger
from appliance.audit.rights import ACTIONS
from appliance.cli.context import Context
from appliance.install.revocation import Reason
from appliance.install.webserver import NoWebServer
from media import durable
from media.errors import UsageError

_MOST_BYTES = 128 * 1024
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done; do nothing.")]
Why = Annotated[Reason, typer.Option("--reason", help="Why it is taken back.")]


@contextmanager
def here_of(own: Context, *, with_server: bool = True) -> Iterator[Here]:
    """Yield what actions on certificates work with; facts wait in the spool where no ledger answers."""
    ledger = open_ledger(own.config, ACTIONS, spool=True, clock=own.clock)
    try:
        server = open_server(own.config) if with_server else NoWebServer()
        yield Here(config=own.config, ledger=ledger, clock=own.clock, server=server)
    finally:
        ledger.close()


def read_file(path: Path) -> bytes:
    """Return what a person named, cut at what no certificate reaches.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(_MOST_BYTES)
    except OSError as error:
        raise UsageError(
            what=f"{path.name} cannot be read", why=error.strerror or "", fix="name a file that is there"
        ) from error


def write_file(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file that is not there yet.

    Raises:
        UsageError: It is there, or cannot be written.
    """
    try:
        durable.write_new(path, data, mode=mode)
        durable.sync_folder(path.absolute().parent)
    except OSError as error:
        raise UsageError(
            what=f"{path.name} cannot be written",
            why=error.strerror or "",
            fix="name a new file in a folder that is there",
        ) from error
