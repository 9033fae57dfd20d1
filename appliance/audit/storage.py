"""Which backend holds a site's ledger: a file of this box, or the PostgreSQL server that its site file names.

Records that were moved to the other kind may not go on where they were, or one ledger would become two. The server
keeps that mark in its writer's row, a box in a small file, which it also writes when it first uses a server.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from appliance.audit import exclusive, pin, postgres_opening, postgres_sharing
from appliance.audit.backend import Backend
from appliance.audit.postgres_backend import PostgresBackend
from appliance.audit.sqlite_backend import FILE_NAME, open_writer
from appliance.config import Places
from appliance.errors import ConflictError, LedgerDamagedError, LedgerUnavailableError
from media import durable

ELSEWHERE: Final = "ledger.elsewhere"
# What the file says: that they are there for good, or that a copy was about to be committed, and to which database.
THERE: Final = b"postgresql\n"
_ARRIVING: Final = b"arriving "
# Longer than the unit's burst of restarts, so that a server that is away for hours does not end them.
SERVER_SECONDS: Final = 40.0


def trace(places: Places) -> Path:
    """Return the file that is there as soon as this box ever had a ledger."""
    return places.ledger / (FILE_NAME if places.server is None else ELSEWHERE)


@contextmanager
def writing(
    places: Places, *, wait_seconds: float, server_seconds: float = SERVER_SECONDS
) -> Iterator[tuple[Backend, Mapping[str, str]]]:
    """Open the ledger as its only writer, or as one node of several; yield the backend and what is recorded of it.

    Args:
        places: The site's.
        wait_seconds: How long to wait for another writer of a file.
        server_seconds: How long to wait for a PostgreSQL server that is away, then for another writer there.

    Raises:
        LedgerUnavailableError: Another process has it, the disk is remote, the server away or not durable, or it cannot
            be written.
        LedgerDamagedError: It is something else, of a newer release, or its records went on elsewhere.
    """
    folder = places.ledger
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerUnavailableError(
            what="the ledger's folder cannot be made", why=error.strerror or "", fix="check the state folder's owner"
        ) from error
    if places.server is None:
        exclusive.require_local(folder)
    with exclusive.take(folder, wait_seconds=wait_seconds):
        if places.server is None:
            _require_here(folder)
            yield from _closing(open_writer(folder / FILE_NAME), {"sqlite": sqlite3.sqlite_version})
            return
        # A node that stands by waits for the lock as for the server: again and again, without an end.
        patience = max(wait_seconds, server_seconds)
        backend: PostgresBackend
        if places.server.node:
            backend = postgres_sharing.open_node(
                places, places.server.node, wait_seconds=patience, server_seconds=server_seconds
            )
        else:
            backend = postgres_opening.open_writer(places, wait_seconds=patience, server_seconds=server_seconds)
        try:
            _require_there(folder, places, backend)
        except LedgerDamagedError:
            backend.close()
            raise
        yield from _closing(backend, {"postgresql": backend.server_version})


def marked(folder: Path) -> bytes | None:
    """Return what this box notes of its records being on a server, None where they are not."""
    try:
        return (folder / ELSEWHERE).read_bytes()
    except FileNotFoundError:
        return None


def arriving(places: Places) -> bytes:
    """Return the mark of a copy that is about to be committed on the server that `places` name."""
    section = places.server
    at = "" if section is None else f"{section.server or section.socket} {section.name}"
    return _ARRIVING + at.encode() + b"\n"


def is_arriving(mark: bytes | None) -> bool:
    """Tell whether a copy was about to be committed, wherever."""
    return mark is not None and mark.startswith(_ARRIVING)


def require_same_move(folder: Path, places: Places) -> None:
    """Return where no copy is cut off, or the one that is was to the database that `places` name.

    Only its database can say whether everything arrived there: to fill another, or to go on in one, would make two
    ledgers of one where it did.

    Raises:
        ConflictError: It was to another.
    """
    mark = marked(folder)
    if is_arriving(mark) and mark != arriving(places):
        whither = (mark or b"").removeprefix(_ARRIVING).decode(errors="replace").strip()
        raise ConflictError(
            what="a move of the records to another database was cut off",
            why=f"it was to {whither}, where all of them may have arrived",
            fix="name that server and database in the site file again and repeat the move: it is brought to its end",
        )


def mark_elsewhere(folder: Path, where: bytes = THERE) -> None:
    """Note, durably, that this box's records are on a server, or about to be."""
    if marked(folder) != where:
        durable.replace(folder / ELSEWHERE, where, mode=0o640)


def unmark(folder: Path) -> None:
    """Forget, durably, that they were: they are in the file."""
    (folder / ELSEWHERE).unlink(missing_ok=True)
    durable.sync_folder(folder)


def _require_here(folder: Path) -> None:
    if (folder / ELSEWHERE).exists():
        raise LedgerDamagedError(
            what="this box's records are on a PostgreSQL server, or were being moved there",
            why=f"{ELSEWHERE} says so: going on in a file would make two ledgers of one",
            fix="`sealift db move --to postgresql` ends the move, `sealift db move --to sqlite` brings them back",
        )


def _require_there(folder: Path, places: Places, backend: Backend) -> None:
    try:
        require_same_move(folder, places)
    except ConflictError as error:
        raise LedgerDamagedError(what=error.what, why=error.why, fix=error.fix) from error
    if not (folder / ELSEWHERE).exists() and _has_records(folder / FILE_NAME):
        there = "others" if backend.size() else "none"
        raise LedgerDamagedError(
            what=f"this box's records are in a file, and the database has {there}",
            why="going on in the database would leave them behind",
            fix="`sealift db move --to postgresql` into an empty database; see docs/operator/postgresql.md",
        )
    if not backend.size() and marked(folder) == THERE and _has_recorded(places):
        raise LedgerDamagedError(
            what="this box's records are on a server, and this database has none",
            why="beginning anew there would leave them behind",
            fix="name the right server and database in the site file; were they lost there, restore a backup",
        )
    if not backend.size() and (folder / FILE_NAME).exists():
        raise LedgerDamagedError(
            what="this box's records are not in this database, which has none",
            why="beginning anew there would leave them behind",
            fix="name the right database, or end a move that was cut off: `sealift db move --to postgresql`",
        )
    mark_elsewhere(folder)


def _has_recorded(places: Places) -> bool:
    """Tell whether this box ever had records: it left a file behind, or pinned the key of the ledger that it opened.

    The mark alone says less: it is made before the first record.
    """
    return (places.ledger / FILE_NAME).exists() or (places.etc / pin.FILE_NAME).exists()


def _has_records(file: Path) -> bool:
    if not file.exists():
        return False
    with closing(open_writer(file)) as backend:
        return bool(backend.size())


def _closing(backend: Backend, facts: Mapping[str, str]) -> Iterator[tuple[Backend, Mapping[str, str]]]:
    try:
        yield backend, facts
    finally:
        backend.close()
