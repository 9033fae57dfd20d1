"""The ledger moved from its file to a PostgreSQL server, or back: every leaf byte for byte, and proven afterwards.

Nothing is believed that is only stored: tree and chain are computed from the leaves while they are copied, and what the
target holds is read back and compared with the source, row by row and checkpoint by checkpoint. All of it arrives, or
nothing. Then the source is marked, for good, so that no program goes on where it was; the state is made anew from the
records. The ledger's service has to be stopped.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from appliance.audit import exclusive, postgres_opening, storage, tree
from appliance.audit.backend import Backend, Row
from appliance.audit.leaf import Leaf
from appliance.audit.log import FIRST_CHAIN, Log
from appliance.audit.postgres_backend import PostgresBackend
from appliance.audit.sqlite_backend import FILE_NAME, open_writer
from appliance.audit.verify import require_sound_tail
from appliance.config import Config, Places
from appliance.errors import ConflictError, LedgerDamagedError, NotInstalledError
from appliance.state import projection
from appliance.state.database import open_state
from media import durable
from media.clock import Clock
from media.errors import UsageError

Kind = Literal["sqlite", "postgresql"]
Page = tuple[list[Row], list[tree.Node]]
_PAGE: Final = 1000
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
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Copied:
    """Move ledger and state to the other kind of database.

    Args:
        config: The site's; its section `database` names the server in either case.
        to: Where to.
        clock: For reading; nothing is recorded.
        dry_run: Prove the source and look at the target, and change nothing.
        progress: Called with leaves done and leaves in all, twice over.

    Raises:
        ConflictError: The target holds records already.
        LedgerDamagedError: The source contradicts itself, went on elsewhere, or the copy is not the same.
        LedgerUnavailableError: The service runs, here or on another machine; or a database is away.
        NotInstalledError: There is nothing to copy.
        UsageError: The site file names no server.
        DatabaseError: The state could not be made on the server.
    """
    file_places, server_places = _both(config)
    folder = file_places.ledger
    with exclusive.take(_made(folder)):
        if to == "postgresql":
            found = _to_server(folder, server_places, clock=clock, dry_run=dry_run, progress=progress)
        else:
            found = _to_file(folder, server_places, clock=clock, dry_run=dry_run, progress=progress)
    if not dry_run:
        _make_state(server_places if to == "postgresql" else file_places, folder, clock)
    return found


def _to_server(
    folder: Path, places: Places, *, clock: Clock, dry_run: bool, progress: Callable[[int, int], None]
) -> Copied:
    if not (folder / FILE_NAME).exists():
        raise NotInstalledError(what="there is no ledger to copy", why=f"{FILE_NAME} is absent")
    if (folder / storage.ELSEWHERE).exists():
        raise ConflictError(
            what="this box's records are on a server already",
            why=f"{storage.ELSEWHERE} says so; {FILE_NAME} is what was left behind",
            fix="`sealift db check` shows where they are",
        )
    with closing(open_writer(folder / FILE_NAME)) as source, _server(places) as target:
        _require_empty(target, "the database", "let the server's people make an empty one, and migrate it up")
        size = source.size()
        require_sound_tail(source)
        if dry_run:
            for _ in _pages(source, size, progress):
                pass
            return _facts("postgresql", source, clock)
        target.fill(_pages(source, size, progress), source.checkpoints())
        _require_same(source, target, size, progress)
        # From here on the file is a picture of the past. A crash before this line leaves the server's copy as the
        # one that nobody uses yet: it is not empty, and this box does not go there.
        storage.mark_elsewhere(folder)
        return _facts("postgresql", target, clock)


def _to_file(
    folder: Path, places: Places, *, clock: Clock, dry_run: bool, progress: Callable[[int, int], None]
) -> Copied:
    file = folder / FILE_NAME
    with _leaving(places) as source:
        size = source.size()
        if not size:
            raise NotInstalledError(what="there is no ledger to copy", why="the database has no records")
        require_sound_tail(source)
        if source.moved() is None:
            if file.exists():
                with closing(open_writer(file)) as old:
                    _require_empty(old, FILE_NAME, "move the old file aside, it is what was left behind")
            if dry_run:
                for _ in _pages(source, size, progress):
                    pass
                return _facts("sqlite", source, clock)
            _write_file(source, folder, size, progress)
            source.leave("a file of the box")
        elif dry_run:
            return _facts("sqlite", source, clock)
        # Also after a crash between the two marks: the server says that they left, so the file has to be all of them.
        with closing(open_writer(file)) as target:
            _require_same(source, target, size, progress)
            found = _facts("sqlite", target, clock)
    with suppress(FileNotFoundError):
        (folder / storage.ELSEWHERE).unlink()
    durable.sync_folder(folder)
    return found


def _write_file(source: Backend, folder: Path, size: int, progress: Callable[[int, int], None]) -> None:
    """Write the file beside its place and move it there when it is whole."""
    draft = folder / _DRAFT
    for name in (_DRAFT, f"{_DRAFT}-wal", f"{_DRAFT}-shm"):
        (folder / name).unlink(missing_ok=True)
    with closing(open_writer(draft)) as target:
        for rows, nodes in _pages(source, size, progress):
            target.append(rows, nodes)
            target.tidy()
        for at, note in source.checkpoints():
            target.save_checkpoint(at, note)
        _require_same(source, target, size, progress)
    (folder / FILE_NAME).unlink(missing_ok=True)  # an empty one, as was made sure of
    draft.rename(folder / FILE_NAME)
    durable.sync_folder(folder)


def _pages(source: Backend, size: int, progress: Callable[[int, int], None]) -> Iterator[Page]:
    """Yield every leaf with the nodes that follow from it, proven against what is stored beside it.

    Raises:
        LedgerDamagedError: Something stored is not what follows from the leaves.
    """
    frontier: list[bytes] = []
    chain = FIRST_CHAIN
    at = 0
    while at < size:
        rows = source.rows(at, min(_PAGE, size - at))
        nodes: list[tree.Node] = []
        for row in rows:
            leaf = Leaf.from_bytes(row.raw)
            hashed = tree.leaf_hash(row.raw)
            chain = hashlib.sha256(chain + hashed).digest()
            if (row.sequence, leaf.sequence, row.kind, row.hash, row.chain) != (at, at, leaf.kind, hashed, chain):
                raise _damaged(f"leaf {at} and what is stored beside it differ")
            nodes += tree.push(frontier, at, hashed)
            at += 1
        if not rows:
            raise _damaged(f"leaf {at} is missing")
        progress(at, size)
        yield rows, nodes
    if size and tree.root_of(frontier) != tree.root(size, source.node):
        raise _damaged("the stored tree is not that of the leaves")


def _require_same(source: Backend, target: Backend, size: int, progress: Callable[[int, int], None]) -> None:
    """Read the target back and compare.

    Raises:
        LedgerDamagedError: The two are not the same.
    """
    if target.size() != size:
        raise _damaged(f"the copy has {target.size()} of {size} leaves")
    at = 0
    for rows, _ in _pages(target, size, progress):
        if rows != source.rows(at, len(rows)):
            raise _damaged(f"the copy differs from leaf {at} on")
        at += len(rows)
    if tree.root(size, target.node) != tree.root(size, source.node) or target.checkpoints() != source.checkpoints():
        raise _damaged("the copy has another tree, or other checkpoints")


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


def _make_state(places: Places, folder: Path, clock: Clock) -> None:
    with _reading(places, folder) as backend:
        log = Log.read(backend, clock=clock)
        engine = open_state(places)
        try:
            projection.rebuild(engine, log)
        finally:
            engine.dispose()


@contextmanager
def _reading(places: Places, folder: Path) -> Iterator[Backend]:
    backend: Backend = (
        postgres_opening.open_reader(places) if places.server is not None else open_writer(folder / FILE_NAME)
    )
    with closing(backend):
        yield backend


@contextmanager
def _server(places: Places) -> Iterator[PostgresBackend]:
    # Without an end of the session: proving the other side may take longer than a service is allowed to be silent.
    with closing(postgres_opening.open_writer(places, session_seconds=0)) as backend:
        yield backend


@contextmanager
def _leaving(places: Places) -> Iterator[PostgresBackend]:
    """Hold the server's ledger as its only writer; where its records left already, read it."""
    with closing(postgres_opening.open_reader(places)) as reader:
        if reader.moved() is not None:
            yield reader
            return
    with _server(places) as backend:
        yield backend


def _both(config: Config) -> tuple[Places, Places]:
    section = config.database
    if not section.socket and not section.server:
        raise UsageError(
            what="the site file names no PostgreSQL server",
            why="neither database.socket nor database.server is given",
            fix="fill in the section; database.kind stays as it is until the copy is done",
        )
    named = config.at
    server = section.model_copy(update={"kind": "postgresql"})
    return replace(named, server=None), replace(named, server=server)


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _damaged(why: str) -> LedgerDamagedError:
    return LedgerDamagedError(
        what="the ledger was not copied", why=why, fix="`sealift audit verify`; see docs/operator/ledger.md: recovery"
    )
