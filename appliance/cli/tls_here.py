"""What the commands of `sealift tls` share: what their actions work with, and the files that people name."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions.tls_placing import Here, open_server
from appliance.audit.client import open_ledger
from appliance.audit.rights import ACTIONS
from appliance.cli.context import Context
from appliance.install.revocation import Reason
from appliance.install.tlsfolder import TlsFolder
from appliance.install.webserver import NoWebServer
from media import durable
from media.errors import UsageError

_MOST_BYTES = 128 * 1024
_MOST_PAIR = 16 * 1024
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done; do nothing.")]
Why = Annotated[Reason, typer.Option("--reason", help="Why it is taken back.")]


@contextmanager
def here_of(own: Context, *, with_server: bool = True) -> Iterator[Here]:
    """Yield what actions on certificates work with, to one command at a time.

    Facts wait in the spool where no ledger answers.
    """
    ledger = open_ledger(own.config, ACTIONS, spool=True, clock=own.clock)
    try:
        server = open_server(own.config) if with_server else NoWebServer()
        with _alone(own):
            yield Here(config=own.config, ledger=ledger, clock=own.clock, server=server)
    finally:
        ledger.close()


@contextmanager
def _alone(own: Context) -> Iterator[None]:
    """Keep the nightly run and what somebody types apart: one would take the other's certificate for a failure."""
    with ExitStack() as stack:
        # Nothing is there yet, or this user is told by what comes next.
        with suppress(OSError):
            waits = "another command is changing certificates; this one goes on after it"
            stack.enter_context(TlsFolder.of(own.config).locked("commands", told=lambda: own.say(waits)))
        yield


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


@contextmanager
def new_file(path: Path, *, mode: int) -> Iterator[Callable[[bytes], None]]:
    """Make a file with room for a key and its certificate; yield what fills it. Nothing is left of one not filled.

    Raises:
        UsageError: It is there, or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except OSError as error:
        raise _unwritable(path, error) from error
    is_filled = False
    with os.fdopen(descriptor, "wb") as stream:

        def fill(data: bytes) -> None:
            nonlocal is_filled
            try:
                stream.write(data)
                stream.truncate(len(data))
                stream.flush()
                os.fsync(stream.fileno())
                is_filled = True
                durable.sync_folder(path.absolute().parent)
            except OSError as error:
                raise _unwritable(path, error) from error

        try:
            _take_room(path, stream.fileno())
            yield fill
        finally:
            if not is_filled:
                path.unlink(missing_ok=True)


def _take_room(path: Path, descriptor: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, _MOST_PAIR)
    except OSError as error:
        raise _unwritable(path, error) from error


def write_file(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file that is not there yet.

    Raises:
        UsageError: It is there, or cannot be written.
    """
    try:
        durable.write_new(path, data, mode=mode)
        durable.sync_folder(path.absolute().parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        what=f"{path.name} cannot be written",
        why=error.strerror or "",
        fix="name a new file in a folder that is there",
    )
