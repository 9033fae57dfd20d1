"""The ledger moved from its file to a PostgreSQL server, or back: every leaf byte for byte, and proven afterwards.

Nothing is believed that is only stored: tree and chain are computed from the leaves while they are copied, and what the
target holds is read back and compared with the source, row by row and checkpoint by checkpoint. All of it arrives, or
nothing. The source is shut before the target can be used, so that no program goes on where it was; the state is made
anew from the records. The ledger's service has to be stopped. Whatever cut a copy off, the same one again ends it.
"""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from sqlalchemy import Engine

from appliance.actions.databases import comparing
from appliance.actions.databases.comparing import Progress
from appliance.audit import exclusive, postgres_opening, storage
from appliance.audit.backend import Backend
from appliance.audit.log import Log
from appliance.audit.postgres_backend import PostgresBackend
from appliance.audit.postgres_sharing import nodes_of
from appliance.audit.sqlite_backend import FILE_NAME, open_writer
from appliance.audit.verify import require_sound_tail
from appliance.config import Config, Places
from appliance.errors import ApplianceError, ConflictError, NotInstalledError, StoreWriteError
from appliance.state import held, projection
from appliance.state.database import open_state, writing
from media import durable
from media.clock import Clock
from media.errors import SealiftError, UsageError

Kind = Literal["sqlite", "postgresql"]
# A session of a machine that lost its power ends after that long; a service's own may be silent for a minute.
LOCK_SECONDS: Final = 75.0
_NEW: Final = "let the server's people make an empty one, name it in database.name, and migrate it up"
_WHERE: Final = "`sealift db check` says where the records are"
_DRAFT: Final = "ledger.copying"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What was copied, or would be: the head of the records, and the newest signed one."""

    to: Kind
    origin: str
    size: int
    root: str
    checkpoints: int
    newest_checkpoint: int


def copy(
    config: Config,
    to: Kind,
    *,
    clock: Clock,
    dry_run: bool = False,
    progress: Progress = lambda _done, _of: None,
) -> Copied:
    """Move ledger and state to the other kind of database.

    Args:
        config: The site's; its section `database` names the server in either case.
        to: Where to.
        clock: For reading; nothing is recorded.
        dry_run: Prove the source and look at the target, and change nothing.
        progress: Called with leaves done and leaves in all, twice over.

    Raises:
        ConflictError: The target holds records already, or a copy to another database was cut off.
        LedgerDamagedError: The source contradicts itself, went on elsewhere, or the copy is not the same.
        LedgerUnavailableError: The service runs, here or on another machine; or a database is away.
        NotInstalledError: There is nothing to copy.
        UsageError: The site file names no server.
        DatabaseError: The state could not be made on the server.
        StoreWriteError: The ledger's folder could not be written.
    """
    file_places, server_places = both(config)
    folder = file_places.ledger
    one_way = _to_server if to == "postgresql" else _to_file
    try:
        with exclusive.take(_made(folder)):
            found = one_way(folder, server_places, clock=clock, dry_run=dry_run, progress=progress)
    except OSError as error:
        raise StoreWriteError(
            what="the ledger's folder could not be written",
            why=error.strerror or type(error).__name__,
            fix="check the disk, then the same command again",
        ) from error
    if not dry_run:
        places = (file_places, server_places) if to == "postgresql" else (server_places, file_places)
        _make_state(*places, folder, clock)
    return found


def require_possible(config: Config, to: Kind) -> None:
    """Look at both places while the ledger may run; return when nothing seen speaks against a copy.

    Raises:
        ConflictError: The target has other records, a copy to another database was cut off, the records left it for
            good, or other nodes have the ledger open.
        LedgerUnavailableError: The server is away.
        NotInstalledError: There is nothing to copy.
        UsageError: The site file names no server.
    """
    file_places, server_places = both(config)
    folder = file_places.ledger
    storage.require_same_move(folder, server_places)
    before, has_file = storage.marked(folder), (folder / FILE_NAME).exists()
    with closing(postgres_opening.open_reader(server_places)) as there:
        size, gone = there.size(), there.moved()
        if to == "postgresql" and before is None and has_file:
            _require_empty(there, "the database", _NEW)
    others = [one.name for one in nodes_of(server_places) if one.name != config.database.node]
    if others:
        raise ConflictError(
            what="other nodes have the ledger on the server open",
            why=", ".join(others),
            fix="stop sealift-ledger on each of them first",
        )
    if (to == "postgresql" and not has_file) or (to == "sqlite" and not size and not storage.is_arriving(before)):
        raise NotInstalledError(
            what="there is no ledger to copy", why="there are no records where they would come from", fix=_WHERE
        )
    if to == "postgresql" and gone is not None:
        raise ConflictError(what="the records left this database for good", why=f"they went on in {gone}", fix=_NEW)
    if not size:
        _require_not_lost(before)


def _to_server(folder: Path, places: Places, *, clock: Clock, dry_run: bool, progress: Progress) -> Copied:
    if not (folder / FILE_NAME).exists():
        raise NotInstalledError(what="there is no ledger to copy", why=f"{FILE_NAME} is absent", fix=_WHERE)
    storage.require_same_move(folder, places)
    before = storage.marked(folder)
    try:
        with closing(open_writer(folder / FILE_NAME)) as source, _server(places) as target:
            if before is not None and target.size():
                # An earlier copy was cut off behind its commit, or this box is on the server for long.
                comparing.require_begins(target, source, name=FILE_NAME, progress=progress)
            else:
                _require_not_lost(before)
                _require_empty(target, "the database", _NEW)
                require_sound_tail(source)
                if dry_run:
                    _prove(source, progress)
                    return _facts("postgresql", source, clock)
                _fill(folder, source, target, storage.arriving(places), progress)
            if not dry_run:
                _mark(folder, storage.THERE)
            return _facts("postgresql", target, clock)
    except BaseException:
        if before is None and storage.is_arriving(storage.marked(folder)):
            with suppress(SealiftError):
                _take_back(folder, places)
        raise


def _fill(folder: Path, source: Backend, target: PostgresBackend, where: bytes, progress: Progress) -> None:
    """Copy, read back and compare within one transaction, and shut the file before that is committed.

    So there is no moment in which both places may go on. A power cut after the mark leaves a file that is shut and a
    database with everything or with nothing; the same command again finds out which.
    """
    size = source.size()

    def settled() -> None:
        comparing.require_same(source, target, size, progress)
        _mark(folder, where)

    target.fill(comparing.pages(source, size, progress), source.checkpoints(), settled=settled)


def _take_back(folder: Path, places: Places) -> None:
    """Open the file again where nothing arrived. Whoever holds the server's lock knows that no commit is on its way."""
    with _server(places, wait_seconds=LOCK_SECONDS) as target:
        if not target.size():
            storage.unmark(folder)


def _to_file(folder: Path, places: Places, *, clock: Clock, dry_run: bool, progress: Progress) -> Copied:
    storage.require_same_move(folder, places)
    file, before = folder / FILE_NAME, storage.marked(folder)
    with _leaving(places) as source:
        size, gone = source.size(), source.moved()
        if not size:
            if not storage.is_arriving(before) or not file.exists():
                _require_not_lost(before)
                raise NotInstalledError(
                    what="there is no ledger to copy", why="the database has no records", fix=_WHERE
                )
            # What was to arrive there never did, and cannot any more: the file has everything.
        elif gone is None:
            _require_old(file, source, before, progress)
            require_sound_tail(source)
            if dry_run:
                _prove(source, progress)
                return _facts("sqlite", source, clock)
            _write_file(source, folder, size, progress)
            source.leave("a file of the box")
        elif not file.exists():
            raise ConflictError(
                what="the records went to a file, and this box has none",
                why=f"the database says that they went on in {gone}",
                fix="they are on the box that moved them: look there, or restore its backup",
            )
        # Also after a crash between the two marks: the server says that they left, so the file has to be all of them.
        with closing(open_writer(file)) as target:
            comparing.require_begins(target, source, name="the database", progress=progress)
            found = _facts("sqlite", target, clock)
        if not dry_run:
            storage.unmark(folder)
    return found


def _require_old(file: Path, source: Backend, before: bytes | None, progress: Progress) -> None:
    """Pass when what lies in the file's place may be replaced: nothing, or the beginning of the same records."""
    if not file.exists():
        return
    with closing(open_writer(file)) as old:
        if before is None:
            _require_empty(old, FILE_NAME, "move the old file aside, it is what was left behind")
        comparing.require_begins(source, old, name=FILE_NAME, progress=progress)


def _require_not_lost(before: bytes | None) -> None:
    if before == storage.THERE:
        raise ConflictError(
            what="this box's records are on a server, and this database has none",
            why=f"{storage.ELSEWHERE} says so; {FILE_NAME} is only what was left behind",
            fix="name the right server and database in the site file; were they lost there, restore a backup",
        )


def _write_file(source: Backend, folder: Path, size: int, progress: Progress) -> None:
    """Write the file beside its place and move it there, shut by the mark, when it is whole."""
    draft = folder / _DRAFT
    _remove(draft)
    try:
        with closing(open_writer(draft)) as target:
            for rows, nodes in comparing.pages(source, size, progress):
                target.append(rows, nodes)
                target.tidy()
            for at, note in source.checkpoints():
                target.save_checkpoint(at, note)
            comparing.require_same(source, target, size, progress)
    except BaseException:
        _remove(draft)  # where the disk is full, not even this stays
        raise
    _own(draft)
    _mark(folder, storage.THERE)
    # What is there was folded when it was closed, and is empty or the beginning of these.
    _remove(folder / FILE_NAME)
    draft.rename(folder / FILE_NAME)
    durable.sync_folder(folder)


def _remove(file: Path) -> None:
    for name in (file.name, f"{file.name}-wal", f"{file.name}-shm"):
        file.with_name(name).unlink(missing_ok=True)


def _require_empty(target: Backend, name: str, fix: str) -> None:
    if target.size():
        raise ConflictError(what=f"{name} has records already", why=f"there are {target.size()}", fix=fix)


def _facts(to: Kind, backend: Backend, clock: Clock) -> Copied:
    head = Log.read(backend, clock=clock).head()
    checkpoints = backend.checkpoints()
    newest = checkpoints[-1][0] if checkpoints else 0
    return Copied(
        to=to,
        origin=head.origin,
        size=head.size,
        root=head.root,
        checkpoints=len(checkpoints),
        newest_checkpoint=newest,
    )


def _make_state(before: Places, places: Places, folder: Path, clock: Clock) -> None:
    """Make the state where the records are now, with what is held back from callers where they were."""
    with _reading(places, folder) as backend:
        log = Log.read(backend, clock=clock)
        engine = open_state(places)
        try:
            projection.rebuild(engine, log, reflected=_carry_held(before, engine))
        finally:
            engine.dispose()


def _carry_held(before: Places, engine: Engine) -> int:
    """Hold back here what was held back there, where it is taken out: a repeated move carries nothing old.

    Returns the last record that the state there reflected, by which callers were sent; -1 where none reads.
    """
    try:
        open_state(before, read_only=True).dispose()  # it is not made where there is none
        old = open_state(before)
    except ApplianceError:  # a state that does not read holds nothing back
        return -1
    try:
        with writing(old) as there:
            back = held.held(there)
            if back:
                with writing(engine) as here:
                    held.save(here, held.held(here) | back)
                held.save(there, ())
            return projection.applied_sequence(there)
    finally:
        old.dispose()


@contextmanager
def _reading(places: Places, folder: Path) -> Iterator[Backend]:
    backend: Backend = (
        postgres_opening.open_reader(places) if places.server is not None else open_writer(folder / FILE_NAME)
    )
    with closing(backend):
        yield backend


@contextmanager
def _server(places: Places, *, wait_seconds: float = 0.0) -> Iterator[PostgresBackend]:
    # Without an end of the session: proving the other side may take longer than a service is allowed to be silent.
    with closing(postgres_opening.open_writer(places, wait_seconds=wait_seconds, session_seconds=0)) as backend:
        yield backend


@contextmanager
def _leaving(places: Places) -> Iterator[PostgresBackend]:
    """Hold the server's ledger as its only writer; where its records left already, read it."""
    with closing(postgres_opening.open_reader(places)) as reader:
        if reader.moved() is not None:
            yield reader
            return
    with _server(places, wait_seconds=LOCK_SECONDS) as backend:
        yield backend


def both(config: Config) -> tuple[Places, Places]:
    """Return the places of a site with its records in files, and with them on the server that it names.

    Raises:
        UsageError: The site file names no server.
    """
    section = config.database
    if not section.socket and not section.server:
        raise UsageError(
            what="the site file names no PostgreSQL server",
            why="neither database.socket nor database.server is given",
            fix="fill in the section; database.kind stays as it is until the copy is done",
        )
    return replace(config.at, server=None), on_server(config)


def on_server(config: Config) -> Places:
    """Return the places of a site with its records on the server that it names, whatever its kind is now."""
    return replace(config.at, server=config.database.model_copy(update={"kind": "postgresql"}))


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _prove(source: Backend, progress: Progress) -> None:
    for _ in comparing.pages(source, source.size(), progress):
        pass


def _mark(folder: Path, where: bytes) -> None:
    storage.mark_elsewhere(folder, where)
    _own(folder / storage.ELSEWHERE)


def _own(path: Path) -> None:
    """Give a file that root wrote to whom the folder belongs: the ledger's unit has to open it."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
