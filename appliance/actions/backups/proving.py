"""Reads what is about to be encrypted as a restore would, in a throwaway folder, while it is written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

from appliance import throwaway
from appliance.actions.backups import archive
from appliance.actions.backups.archive import Contents, Draft
from appliance.audit.facts import Ledger
from media.errors import SealiftError


class Prover:
    """Reads a stream in a thread of its own, as a restore would."""

    def __init__(self, folder: Path) -> None:
        read_end, write_end = os.pipe()
        self.stream = os.fdopen(write_end, "wb")
        self._source = os.fdopen(read_end, "rb")
        self._folder = folder
        self._found: Contents | None = None
        self._failure: Exception | None = None
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        # Closed at once when it fails, so that the writer sees a broken pipe and does not wait.
        with self._source:
            try:
                self._found = archive.read(self._source, self._folder)
            except (SealiftError, OSError) as error:
                self._failure = error

    def result(self) -> Contents:
        """Return what was read, once the stream was closed.

        Raises:
            BackupDamagedError: It does not hold.
        """
        self._thread.join()
        if self._failure is not None or self._found is None:
            raise self._failure or archive.damaged("it was not read")
        return self._found

    def close(self) -> None:
        """End the reading thread."""
        with suppress(OSError):
            self.stream.close()
        self._thread.join()


def piped(ledger: Ledger, prepared: Draft, ledger_folder: Path) -> Contents:
    """Return what a restore would read of a draft, its ledger made again in a folder; nothing is encrypted or kept.

    Raises:
        BackupDamagedError: It would not be restored.
    """
    prover = Prover(ledger_folder)
    try:
        with suppress(BrokenPipeError):
            archive.write(prover.stream, ledger, prepared)
    finally:
        prover.close()
    return prover.result()


@contextmanager
def proving() -> Iterator[Prover]:
    """Lend a reader over a throwaway folder, which is gone afterwards."""
    with throwaway.folder("sealift-backup-") as folder:
        prover = Prover(folder)
        try:
            yield prover
        finally:
            prover.close()
