"""How a batch ends: its results become files, some at a time, in an order that nothing interrupts for good.

While it is `finalizing` each part is one transaction, which moves the next results into their file's pieces and says so
(`ending`): whoever goes on after a power cut moves none twice. What is decrypted and encrypted for it is so outside of
any transaction, so that other callers wait for a mebibyte or one line of it, not for all.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from appliance.gateway.batches.kept import RUNS, Batch, File
from appliance.gateway.shared_file import SharedFile

RUNNING: Final = f"status IN {RUNS}"
MADE: Final = "id NOT IN (SELECT output FROM ending UNION SELECT errors FROM ending)"
"""Of files: that it is none which is being made; it is listed, counted and deleted when it is whole."""
_SLICE_BYTES: Final = 1024 * 1024
_SLICE_LINES: Final = 64


class AddFile(Protocol):
    """Keeps a file within a transaction; see `BatchStore.add_file`."""

    def __call__(
        self, connection: sqlite3.Connection, key_id: str, *, purpose: str, name: str, parts: tuple[bytes, ...],
        days: int,
    ) -> File:  # fmt: skip
        """Return it."""
        ...


class Ending:
    """Ends batches of one store.

    Args:
        shared: The store's file.
        seal: Encrypts what is bound to a place, and `open_` decrypts it.
        add: Keeps a file.
        now: The seconds since 1970.
    """

    def __init__(
        self,
        shared: SharedFile,
        *,
        seal: Callable[[str, bytes], bytes],
        open_: Callable[[str, bytes], bytes],
        add: AddFile,
        now: Callable[[], int],
    ) -> None:
        self._shared = shared
        self._seal = seal
        self._open = open_
        self._add = add
        self._now = now

    def finish(
        self,
        batch: Batch,
        status: str,
        *,
        days: int,
        fault: Mapping[str, Any] | None = None,
        goes_on: Callable[[], bool] = lambda: True,
    ) -> bool:
        """End a batch: its results become files of the key's, in the order of its lines; return whether it has ended.

        Some at a time: all together may be more than the gateway's memory, and take many seconds. Where `goes_on` says
        no, or the power goes, the next call goes on, to the state that the first one named.

        Args:
            batch: One that runs; one that has ended is left alone.
            status: The state in which it ends.
            days: How long the files are kept.
            fault: What was wrong with it, told beside its results.
            goes_on: Asked before each part.

        Raises:
            KeyMissingError: The key is gone, and with it what was encrypted under it.
        """
        while self._begin(batch, status, days=days, fault=fault):
            if not goes_on():
                return False
            if not self._move(batch):
                self._end(batch, days=days)
        return True

    def undo(self, connection: sqlite3.Connection, batch: Batch) -> None:
        """Delete the files that are being made for a batch, within a transaction."""
        begun = "SELECT output FROM ending WHERE batch_id = ?1 UNION SELECT errors FROM ending WHERE batch_id = ?1"
        connection.execute(f"DELETE FROM file WHERE id IN ({begun})", (batch.id,))  # noqa: S608 - no text of anybody's
        _forget(connection, batch)

    def _begin(self, batch: Batch, status: str, *, days: int, fault: Mapping[str, Any] | None) -> bool:
        """Let a batch be one that ends; return whether it runs."""
        with self._shared.transaction() as connection:
            query = f"SELECT status, times, faults FROM batch WHERE id = ? AND {RUNNING}"  # noqa: S608 - as above
            row = connection.execute(query, (batch.id,)).fetchone()
            if row is None or row[0] == "finalizing":
                return row is not None
            files = [
                self._add(connection, batch.key_id, purpose="batch_output", name=name, parts=(), days=days).id
                for name in (f"{batch.id}_output.jsonl", f"{batch.id}_errors.jsonl")
            ]
            connection.execute("INSERT INTO ending VALUES (?, ?, ?, ?, 0)", (batch.id, status, *files))
            times = json.dumps({**json.loads(row[1]), "finalizing": self._now()})
            faults = json.dumps([*json.loads(row[2]), *([] if fault is None else [fault])])
            change = "UPDATE batch SET status = 'finalizing', times = ?, faults = ? WHERE id = ?"
            connection.execute(change, (times, faults, batch.id))
            return True

    def _move(self, batch: Batch) -> bool:
        """Move the next results into their files, one at least; return False where none is left."""
        rows: list[tuple[int, int, bytes]] = []
        with self._shared.transaction() as connection:
            query = "SELECT output, errors, number FROM ending WHERE batch_id = ?"
            output, errors, last = connection.execute(query, (batch.id,)).fetchone()
            query = "SELECT number, ok, sealed FROM result WHERE batch_id = ? AND number > ? ORDER BY number LIMIT ?"
            for row in connection.execute(query, (batch.id, last, _SLICE_LINES)):
                rows.append(row)
                if sum(len(sealed) for _, _, sealed in rows) > _SLICE_BYTES:
                    break
            query = "SELECT coalesce(max(number), 0) FROM piece WHERE file_id = ?"
            places = {one: connection.execute(query, (one,)).fetchone()[0] for one in (output, errors)}
        if not rows:
            return False
        sizes, pieces = dict.fromkeys(places, 0), []
        for number, ok, sealed in rows:
            line, file_id = self._open(f"result {batch.id} {number}", sealed) + b"\n", output if ok else errors
            places[file_id] += 1
            sizes[file_id] += len(line)
            pieces.append((file_id, places[file_id], self._seal(f"piece {file_id} {places[file_id]}", line)))
        with self._shared.transaction() as connection:
            moved = "UPDATE ending SET number = ? WHERE batch_id = ? AND number = ?"
            connection.execute(moved, (rows[-1][0], batch.id, last))
            connection.executemany("INSERT INTO piece VALUES (?, ?, ?)", pieces)
            for file_id, size in sizes.items():
                connection.execute("UPDATE file SET bytes = bytes + ? WHERE id = ?", (size, file_id))
            empty = "UPDATE result SET sealed = x'' WHERE batch_id = ? AND number BETWEEN ? AND ?"
            connection.execute(empty, (batch.id, rows[0][0], rows[-1][0]))
        return True

    def _end(self, batch: Batch, *, days: int) -> None:
        """End a batch whose results are all in their files."""
        now = self._now()
        with self._shared.transaction() as connection:
            query = "SELECT ending.status, times, ending.output, ending.errors FROM ending JOIN batch ON id = batch_id"
            status, times, *files = connection.execute(f"{query} WHERE batch_id = ?", (batch.id,)).fetchone()
            named: list[str | None] = []
            for file_id in files:
                is_empty = connection.execute("DELETE FROM file WHERE id = ? AND bytes = 0", (file_id,)).rowcount
                named.append(None if is_empty else file_id)
                whole = "UPDATE file SET created = ?, expires = ? WHERE id = ?"
                connection.execute(whole, (now, now + days * 86400, file_id))
            change = "UPDATE batch SET status = ?, times = ?, output = ?, errors = ? WHERE id = ?"
            connection.execute(change, (status, json.dumps({**json.loads(times), status: now}), *named, batch.id))
            _forget(connection, batch)


def _forget(connection: sqlite3.Connection, batch: Batch) -> None:
    connection.execute("DELETE FROM ending WHERE batch_id = ?", (batch.id,))
    connection.execute("DELETE FROM held WHERE batch_id = ?", (batch.id,))
