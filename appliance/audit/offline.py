"""The ledger while its service is down: everything can be read, nothing appended.

Each question opens the file anew under a shared lock, so that the service may start between two of them. Nothing is
written beside the file unless a write-ahead log is left from a crash; where even that is not allowed, a private copy
is read. Facts of receiving and of certificates may go to the spool instead (`spool=True`), because the first release
arrives, and the first certificate is made, before any ledger runs.
"""

import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, Self

from appliance import throwaway
from appliance.audit import exclusive
from appliance.audit.facts import Appended, ConsistencyProof, InclusionProof, TreeHead
from appliance.audit.leaf import Leaf
from appliance.audit.log import Log
from appliance.audit.note import VerifierKey
from appliance.audit.postgres_opening import open_reader as open_server
from appliance.audit.spool import FAMILIES, Spool
from appliance.audit.sqlite_backend import FILE_NAME, SqliteBackend, open_reader
from appliance.audit.tree import Node
from appliance.config import Places
from appliance.errors import LedgerUnavailableError
from media.clock import Clock, to_text

SPOOLED: Final = -1


class OfflineLedger:
    """A `Ledger` that reads the file, or the server's tables, itself."""

    wait_seconds = 0.0
    """How long a question waits for a process that writes; who writes the own ledger keeps it for good."""

    def __init__(self, places: Places, *, clock: Clock, spool: bool = False) -> None:
        self._places = places
        self._folder = places.ledger
        self._clock = clock
        self._spool = Spool(places.spool, clock=clock) if spool else None

    @classmethod
    def of_folder(cls, folder: Path, *, clock: Clock) -> Self:
        """Return the ledger that lies in a folder, to read it."""
        ledger = cls(Places(root=folder, run=folder), clock=clock)
        ledger._folder = folder
        return ledger

    def append(self, kind: str, body: Mapping[str, Any]) -> Appended:
        """Spool a fact of receiving; its sequence is `SPOOLED`, because the ledger gives it one later.

        Raises:
            LedgerUnavailableError: Spooling was not asked for, or is not for this kind.
        """
        if self._spool is None or not kind.startswith(FAMILIES):
            raise LedgerUnavailableError(
                what=f"a record of kind {kind} cannot be written",
                why="sealift-ledger does not run",
                fix="start it: `systemctl start sealift-ledger`, or `sealift run-units`",
            )
        self._spool.append(kind, body)
        return Appended(sequence=SPOOLED, leaf_hash="", time=to_text(self._clock.now()))

    def leaf(self, sequence: int) -> Leaf:
        """Return one leaf; see `Ledger.leaf`."""
        with self._log() as log:
            return log.leaf(sequence)

    def leaves(self, start: int, limit: int, *, kinds: Collection[str] | None = None) -> list[Leaf]:
        """Return leaves in order; see `Ledger.leaves`."""
        with self._log() as log:
            return log.leaves(start, limit, kinds=kinds)

    def find(
        self,
        kind: str | None = None,
        field: str | None = None,
        value: str | int | bool | None = None,  # noqa: FBT001 - as the protocol
        limit: int = 50,
        newest_first: bool = True,  # noqa: FBT001, FBT002 - as the protocol
    ) -> list[Leaf]:
        """Return the leaves that match; see `Ledger.find`."""
        with self._log() as log:
            return log.find(kind=kind, field=field, value=value, limit=limit, newest_first=newest_first)

    def head(self) -> TreeHead:
        """Return size and root; see `Ledger.head`."""
        with self._log() as log:
            return log.head()

    def checkpoint(self) -> str:
        """Return the last checkpoint that was signed."""
        with self._log() as log:
            return log.checkpoint()

    def checkpoints(self, start: int, limit: int) -> list[tuple[int, str]]:
        """Return kept checkpoints with their sizes; see `EvidenceLedger.checkpoints`."""
        with self._log() as log:
            return log.checkpoints(start, limit)

    def nodes(self, start: int, end: int) -> list[Node]:
        """Return stored nodes of the tree; see `Ledger.nodes`."""
        with self._log() as log:
            return log.nodes(start, end)

    def cosigned(self, size: int) -> str:
        """Return a kept checkpoint; nobody is here who could sign it a second time."""
        with self._log() as log:
            return log.cosigned(size)

    def vkey(self) -> VerifierKey:
        """Return the key that leaf 0 names."""
        with self._log() as log:
            return log.vkey

    def inclusion(self, sequence: int, size: int | None = None) -> InclusionProof:
        """Return the proof for one leaf; see `Ledger.inclusion`."""
        with self._log() as log:
            return log.inclusion(sequence, size)

    def consistency(self, old: int, new: int) -> ConsistencyProof:
        """Return the proof between two sizes; see `Ledger.consistency`."""
        with self._log() as log:
            return log.consistency(old, new)

    def close(self) -> None:
        """Do nothing: nothing is held."""

    @contextmanager
    def _log(self) -> Iterator[Log]:
        if self._places.server is not None:
            # No lock: the server shows the records as they stood when the question began, whoever appends meanwhile.
            with closing(open_server(self._places)) as rows:
                yield Log.read(rows, clock=self._clock)
            return
        try:
            (self._folder / FILE_NAME).stat()
        except OSError as error:  # absent, or hidden from this process, as a unit hides it
            raise LedgerUnavailableError(
                what="there is no ledger yet",
                why=f"{FILE_NAME} is absent or out of reach",
                fix="start sealift-ledger once",
            ) from error
        with (
            exclusive.take(self._folder, shared=True, wait_seconds=self.wait_seconds),
            reading(self._folder) as backend,
        ):
            yield Log.read(backend, clock=self._clock)


@contextmanager
def reading(folder: Path) -> Iterator[SqliteBackend]:
    """Lend the rows of the ledger in a folder, whose lock the caller holds.

    Raises:
        LedgerUnavailableError: They cannot be read.
        LedgerDamagedError: The file is something else, or of a newer release.
    """
    path = folder / FILE_NAME
    wal = folder / f"{FILE_NAME}-wal"
    has_wal = _has_bytes(wal)
    try:
        backend = open_reader(path, immutable=not has_wal)
    except LedgerUnavailableError:
        if not has_wal:
            raise
        with throwaway.folder("sealift-ledger-") as copy:
            _copy((path, wal), copy)
            yield from _closing(open_reader(copy / FILE_NAME, immutable=False))
        return
    yield from _closing(backend)


def _has_bytes(wal: Path) -> bool:
    try:
        return wal.stat().st_size > 0
    except OSError:
        return False


def _copy(files: Iterable[Path], folder: Path) -> None:
    try:
        for one in files:
            shutil.copyfile(one, folder / one.name)
    except OSError as error:
        raise LedgerUnavailableError(
            what="the ledger cannot be read", why=error.strerror or "", fix="start sealift-ledger once"
        ) from error


def _closing(backend: SqliteBackend) -> Iterator[SqliteBackend]:
    try:
        yield backend
    finally:
        backend.close()
