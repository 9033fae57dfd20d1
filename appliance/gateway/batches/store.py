"""Where files and batches lie: one SQLite file of the gateways, every text in it encrypted under the key `phi-map`.

Promises: what a key handed in or got back is visible to that key alone; a result is kept once it is durable, and a line
has at most one; what is deleted or past its time is overwritten. The ciphertext of each piece is bound to its place, so
none opens as another. Version 1 of the format is `PRAGMA user_version`; a release of before leaves alone what it does
not know: how much a batch's results are (`held`), and into which files they go while it ends (`ending`).
"""

import json
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from appliance.errors import CiphertextError, KeyMissingError, StoreDamagedError
from appliance.gateway.batches.ending import MADE, RUNNING, Ending
from appliance.gateway.batches.kept import RUNS, Batch, File, Kept
from appliance.gateway.shared_file import SharedFile
from appliance.keys.provider import KeyProvider
from media.clock import Clock

FORMAT: Final = 1
KEY: Final = "phi-map"
MOST_BATCHES: Final = 1000
"""Of a key's batches that ended so many are kept, the newest: each has metadata, and their number costs nothing."""
_BUSY_SECONDS: Final = 10.0
_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS file (id TEXT PRIMARY KEY, key_id TEXT NOT NULL, purpose TEXT NOT NULL,
    bytes INTEGER NOT NULL, name BLOB NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS piece (file_id TEXT NOT NULL REFERENCES file ON DELETE CASCADE,
    number INTEGER NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (file_id, number)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS batch (id TEXT PRIMARY KEY, key_id TEXT NOT NULL, certificate TEXT NOT NULL,
    endpoint TEXT NOT NULL, input TEXT NOT NULL, status TEXT NOT NULL, total INTEGER NOT NULL, created INTEGER NOT NULL,
    expires INTEGER NOT NULL, times TEXT NOT NULL, faults TEXT NOT NULL, metadata BLOB NOT NULL,
    output TEXT, errors TEXT) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS result (batch_id TEXT NOT NULL REFERENCES batch ON DELETE CASCADE,
    number INTEGER NOT NULL, ok INTEGER NOT NULL, sealed BLOB NOT NULL,
    PRIMARY KEY (batch_id, number)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS held (batch_id TEXT PRIMARY KEY REFERENCES batch ON DELETE CASCADE,
    bytes INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS ending (batch_id TEXT PRIMARY KEY REFERENCES batch ON DELETE CASCADE,
    status TEXT NOT NULL, output TEXT NOT NULL, errors TEXT NOT NULL, number INTEGER NOT NULL) WITHOUT ROWID""",
)


class BatchStore:
    """Safe for threads, and for gateways that share the file.

    Args:
        file: Made when first needed.
        keys: Holds the key `phi-map`.
        clock: Every time that is kept.
    """

    def __init__(self, file: Path, *, keys: KeyProvider, clock: Clock) -> None:
        self.file = file
        self._keys = keys
        self._clock = clock
        self._shared = shared = SharedFile(
            file,
            settings=("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"),
            busy_seconds=_BUSY_SECONDS,
            prepare=_prepare,
            what="files and batches cannot be read or written",
            fix="check the room in the gateway's folder; deleting batches.db there deletes all of them",
        )
        self.ending = Ending(shared, seal=self._seal, open_=self._open, add=self._add, now=self.now)

    def close(self) -> None:
        """Close the file."""
        self._shared.close()

    def now(self) -> int:
        """Return the seconds since 1970."""
        return int(self._clock.now().timestamp())

    def add_file(
        self,
        key_id: str,
        *,
        purpose: str,
        name: str,
        parts: Sequence[bytes],
        days: int,
        may: Callable[[Kept], None] = lambda _: None,
    ) -> File:
        """Keep a file of these lines for so many days; not where `may` raises, which is told what the key has then."""
        with self._shared.transaction() as connection:
            may(self._kept(connection, key_id))
            return self._add(connection, key_id, purpose=purpose, name=name, parts=parts, days=days)

    def kept(self, key_id: str) -> Kept:
        """Return how much a key has now."""
        with self._shared.transaction() as connection:
            return self._kept(connection, key_id)

    def files(self, key_id: str) -> list[File]:
        """Return a key's files, newest first."""
        query = f"SELECT * FROM file WHERE key_id = ? AND expires > ? AND {MADE} ORDER BY created DESC, id"  # noqa: S608 - no text of anybody's
        with self._shared.transaction() as connection:
            return [self._file(row) for row in connection.execute(query, (key_id, self.now()))]

    def file_of(self, key_id: str, file_id: str) -> File | None:
        """Return one of a key's files."""
        return next((one for one in self.files(key_id) if one.id == file_id), None)

    def parts(self, file_id: str) -> list[bytes]:
        """Return a file's lines; of what was handed in, which is not much.

        Raises:
            KeyMissingError: The key is gone, and with it what was encrypted under it.
        """
        return list(self.pieces(file_id))

    def pieces(self, file_id: str) -> Iterator[bytes]:
        """Yield a file's lines, each read when it is asked for: all of a batch's results may be very much.

        Raises:
            KeyMissingError: The key is gone, and with it what was encrypted under it.
            StoreDamagedError: The file was deleted meanwhile, so there is no end of it.
        """
        query = "SELECT number, sealed, (SELECT max(number) FROM piece WHERE file_id = ?1) FROM piece"
        query += " WHERE file_id = ?1 AND number = ?2"
        number, last = 0, 1
        while number < last:
            number += 1
            with self._shared.transaction() as connection:
                row = connection.execute(query, (file_id, number)).fetchone()
            if row is None:
                if number == 1:
                    return
                raise StoreDamagedError(what="a file ended in its middle", why="it was deleted", fix="ask again")
            last = row[2]
            yield self._open(f"piece {file_id} {number}", row[1])

    def left(self, batch: Batch, *, most: int) -> list[tuple[int, bytes]]:
        """Return number and text of the first lines of a batch that have no result; no other one is opened.

        Raises:
            KeyMissingError: The key is gone, and with it what was encrypted under it.
        """
        query = (
            "SELECT number, sealed FROM piece WHERE file_id = ? AND number NOT IN"
            " (SELECT number FROM result WHERE batch_id = ?) ORDER BY number LIMIT ?"
        )
        with self._shared.transaction() as connection:
            rows = connection.execute(query, (batch.input, batch.id, most)).fetchall()
        return [(number, self._open(f"piece {batch.input} {number}", sealed)) for number, sealed in rows]

    def delete_file(self, file_id: str) -> bool:
        """Delete a file with its content; return False, and keep it, where a batch that runs reads it."""
        with self._shared.transaction() as connection:
            reads = f"SELECT 1 FROM batch WHERE input = ? AND {RUNNING}"  # noqa: S608 - no text of anybody's
            if connection.execute(reads, (file_id,)).fetchone():
                return False
            connection.execute("DELETE FROM file WHERE id = ?", (file_id,))
            return True

    def add_batch(
        self,
        *,
        certificate: str,
        endpoint: str,
        source: File,
        hours: int,
        faults: Sequence[Mapping[str, Any]],
        metadata: Mapping[str, str] | None,
        said: Mapping[str, str],
        may: Callable[[Kept], None] = lambda _: None,
    ) -> Batch | None:
        """Keep a batch that is to be run, or one whose input has faults; of those that ended the oldest may go for it.

        None where its input was deleted since it was read; `may` as of `add_file`.
        """
        key_id = source.key_id
        batch_id, now = f"batch_{secrets.token_hex(16)}", self.now()
        status = "failed" if faults else "validating"
        times = {"failed": now} if faults else {}
        # A release of before reads metadata alone, and it may come back under a batch that waits.
        held = [metadata, dict(said)] if any(said.values()) else metadata
        sealed = self._seal(f"metadata {batch_id}", json.dumps(held).encode())
        with self._shared.transaction() as connection:
            may(self._kept(connection, key_id))
            if connection.execute("SELECT 1 FROM file WHERE id = ?", (source.id,)).fetchone() is None:
                return None
            lines = connection.execute("SELECT count(*) FROM piece WHERE file_id = ?", (source.id,)).fetchone()[0]
            row = (batch_id, key_id, certificate, endpoint, source.id, status, 0 if faults else lines, now,
                   now + hours * 3600, json.dumps(times), json.dumps(list(faults)), sealed, None, None)  # fmt: skip
            connection.execute("INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            ended = f"SELECT id FROM batch WHERE key_id = ? AND status NOT IN {RUNS}"  # noqa: S608 - as above
            older = f"{ended} ORDER BY id = ? DESC, created DESC, id LIMIT -1 OFFSET ?"
            connection.execute(f"DELETE FROM batch WHERE id IN ({older})", (key_id, batch_id, MOST_BATCHES))  # noqa: S608
        found = self.batch_of(key_id, batch_id)
        assert found is not None  # noqa: S101 - written a moment ago
        return found

    def batches(self, *, key_id: str | None = None, only: str | None = None, running: bool = False) -> list[Batch]:
        """Return batches, newest first: a key's, the one with this id, and those that run or all."""
        counts = (
            "(SELECT count(*) FROM result WHERE batch_id = id AND ok),"
            " (SELECT count(*) FROM result WHERE batch_id = id AND NOT ok)"
        )
        given = "(? IS NULL OR key_id = ?) AND (? IS NULL OR id = ?)"
        query = f"SELECT *, {counts} FROM batch WHERE {given}"  # noqa: S608 - no text of anybody's
        if running:
            query += f" AND {RUNNING}"
        with self._shared.transaction() as connection:
            rows = connection.execute(f"{query} ORDER BY created DESC, id", (key_id, key_id, only, only)).fetchall()
        return [self._batch(row) for row in rows]

    def batch_of(self, key_id: str, batch_id: str) -> Batch | None:
        """Return one of a key's batches."""
        return next(iter(self.batches(key_id=key_id, only=batch_id)), None)

    def move(self, batch_id: str, status: str, *, only_from: Sequence[str]) -> bool:
        """Bring a batch into another state, if it is in one of these; return whether it was."""
        with self._shared.transaction() as connection:
            row = connection.execute("SELECT status, times FROM batch WHERE id = ?", (batch_id,)).fetchone()
            if row is None or row[0] not in only_from:
                return False
            times = json.dumps({**json.loads(row[1]), status: self.now()})
            connection.execute("UPDATE batch SET status = ?, times = ? WHERE id = ?", (status, times, batch_id))
            return True

    def add_result(self, batch: Batch, number: int, line: bytes, *, ok: bool, most: int | None = None) -> bool:
        """Keep a line's result; it is durable when this returns. A second one is dropped.

        Returns:
            Whether there was room: not where the key would keep more than `most` bytes with it.
        """
        sealed = self._seal(f"result {batch.id} {number}", line)
        with self._shared.transaction() as connection:
            if most is not None and self._kept(connection, batch.key_id).bytes + len(sealed) > most:
                return False
            row = (batch.id, number, int(ok), sealed)
            added = connection.execute("INSERT OR IGNORE INTO result VALUES (?, ?, ?, ?)", row).rowcount
            grown = "UPDATE held SET bytes = bytes + ? WHERE batch_id = ?"
            if added and not connection.execute(grown, (len(sealed), batch.id)).rowcount:
                # Its first one, or the first since a release of before.
                of_all = "SELECT ?1, sum(length(sealed)) FROM result WHERE batch_id = ?1"
                connection.execute(f"INSERT INTO held {of_all}", (batch.id,))
            return True

    def has_key(self) -> bool:
        """Whether the key answers now: what does not open then is lost, and what does not otherwise may open later."""
        try:
            self._seal("nothing", b"")
        except KeyMissingError:
            return False
        return True

    def lose(self, batch: Batch) -> None:
        """End a batch that nobody can read any more: the key of its time is gone, and with it lines and results."""
        message = "The key that its content was encrypted under is gone."
        fault = {"code": "content_lost", "line": None, "message": message, "param": None}
        with self._shared.transaction() as connection:
            times, faults = json.dumps({**batch.times, "failed": self.now()}), json.dumps([*batch.faults, fault])
            change = "UPDATE batch SET status = 'failed', times = ?, faults = ? WHERE id = ?"
            connection.execute(change, (times, faults, batch.id))
            self.ending.undo(connection, batch)
            connection.execute("UPDATE result SET sealed = x'' WHERE batch_id = ?", (batch.id,))

    def expire(self, *, days: int) -> None:
        """Delete what is past its time: files that no batch reads any more, and batches that ended so many days ago."""
        oldest = self.now() - days * 86400
        with self._shared.transaction() as connection:
            unread = f"id NOT IN (SELECT input FROM batch WHERE {RUNNING}) AND {MADE}"  # noqa: S608 - as above
            connection.execute(f"DELETE FROM file WHERE expires <= ? AND {unread}", (self.now(),))  # noqa: S608 - as above
            # Each has the moment of its end by its state's name; one that waited while the box was off ended late.
            ended = f"status NOT IN {RUNS} AND json_extract(times, '$.' || status) <= ?"
            connection.execute(f"DELETE FROM batch WHERE {ended}", (oldest,))  # noqa: S608 - as above

    def _kept(self, connection: sqlite3.Connection, key_id: str) -> Kept:
        files = f"SELECT count(*), coalesce(sum(bytes), 0) FROM file WHERE key_id = ? AND expires > ? AND {MADE}"  # noqa: S608 - as above
        running = "SELECT count(*), coalesce(sum(bytes), 0) FROM batch LEFT JOIN held ON batch_id = id"
        running += f" WHERE key_id = ? AND {RUNNING}"
        count, size = connection.execute(files, (key_id, self.now())).fetchone()
        batches, results = connection.execute(running, (key_id,)).fetchone()
        return Kept(files=count, bytes=size + results, running=batches)

    def _add(
        self, connection: sqlite3.Connection, key_id: str, *, purpose: str, name: str, parts: Iterable[bytes], days: int
    ) -> File:
        file_id, now = f"file-{secrets.token_hex(16)}", self.now()
        row = (file_id, key_id, purpose, 0, self._seal(f"name {file_id}", name.encode()), now, now + days * 86400)
        connection.execute("INSERT INTO file VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        size = 0
        for number, one in enumerate(parts, 1):
            size += len(one)
            piece = (file_id, number, self._seal(f"piece {file_id} {number}", one))
            connection.execute("INSERT INTO piece VALUES (?, ?, ?)", piece)
        connection.execute("UPDATE file SET bytes = ? WHERE id = ?", (size, file_id))
        return self._file((*row[:3], size, *row[4:]))

    def _file(self, row: Sequence[Any]) -> File:
        return File(
            id=row[0], key_id=row[1], purpose=row[2], bytes=row[3], created=row[5], expires=row[6],
            name=(self._if_it_opens(f"name {row[0]}", row[4]) or b"").decode(errors="replace"),
        )  # fmt: skip

    def _batch(self, row: Sequence[Any]) -> Batch:
        held = json.loads(self._if_it_opens(f"metadata {row[0]}", row[11]) or b"null")
        metadata, said = held if isinstance(held, list) else (held, {})  # a release of before kept metadata alone
        return Batch(
            id=row[0], key_id=row[1], certificate=row[2], endpoint=row[3], input=row[4], status=row[5], total=row[6],
            created=row[7], expires=row[8], times=json.loads(row[9]), faults=json.loads(row[10]), output=row[12],
            errors=row[13], metadata=metadata, said=said, done=row[14], failed=row[15],
        )  # fmt: skip

    def _seal(self, place: str, data: bytes) -> bytes:
        return self._keys.wrap(KEY, data, f"batches {place}".encode())

    def _if_it_opens(self, place: str, sealed: bytes) -> bytes | None:
        """Return what lies beside the content; nothing where its key is gone, so that it can be listed and ended."""
        try:
            return self._open(place, sealed)
        except (KeyMissingError, CiphertextError):
            if not self.has_key():
                raise
            return None

    def _open(self, place: str, sealed: bytes) -> bytes:
        return self._keys.unwrap(KEY, sealed, f"batches {place}".encode())


def _prepare(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA user_version").fetchone()[0] > FORMAT:
        message = "written by a newer release"
        raise sqlite3.DatabaseError(message)
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {FORMAT}")
