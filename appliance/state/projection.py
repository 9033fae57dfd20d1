"""State from the ledger: one transaction for each leaf, which stores the leaf's sequence with what follows from it.

A leaf is applied once, in order. Whoever appends calls `catch_up` afterwards: it applies everything up to the present,
whoever appended it. Nothing here reads a clock, so a rebuild gives the same rows. Who catches up sends no caller
anywhere: what was decided about production is held back (`appliance.state.held`) until `tell` is called.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from appliance.errors import LedgerDamagedError
from appliance.stages import line_of
from appliance.state import held, rollouts
from appliance.state.database import told, writing
from appliance.state.shapes import SHAPES, require_shape
from appliance.state.tables import ApiKey, Applied, Base, GateResult, ModelVersion, Promotion, Release, StageLoad

# What statements run on: a connection in a transaction, or a session.
Runner = Connection | Session

CONSUMED: Final = frozenset(SHAPES)
_PAGE: Final = 200


class Event(Protocol):
    """What the projection needs of a leaf."""

    @property
    def sequence(self) -> int:
        """Its place in the ledger."""
        ...

    @property
    def time(self) -> str:
        """RFC 3339 text."""
        ...

    @property
    def kind(self) -> str:
        """What happened."""
        ...

    @property
    def body(self) -> Mapping[str, Any]:
        """The facts."""
        ...


class _Head(Protocol):
    @property
    def size(self) -> int: ...


class Source(Protocol):
    """What the projection needs of a ledger."""

    def leaves(self, start: int, limit: int, *, kinds: Collection[str] | None = None) -> Sequence[Event]:
        """Return leaves in order."""
        ...

    def head(self) -> _Head:
        """Return the present size."""
        ...


def applied_sequence(connection: Runner) -> int:
    """Return the sequence of the last leaf these tables reflect, -1 before the first."""
    return connection.execute(select(Applied.sequence)).scalar_one()


def apply(connection: Runner, leaf: Event) -> bool:
    """Apply one leaf within the caller's transaction, unless it was applied before; return whether it was new.

    The caller vouches that no leaf of `CONSUMED` lies between the last applied and this one.

    Raises:
        LedgerDamagedError: The leaf's body cannot be applied; a ledger refuses such bodies at the door.
    """
    if leaf.sequence <= applied_sequence(connection):
        return False
    if leaf.kind in CONSUMED:
        try:
            require_shape(leaf.kind, leaf.body)
        except Exception as error:
            raise LedgerDamagedError(
                what=f"leaf {leaf.sequence} cannot be applied",
                why=str(error),
                fix="see docs/operator/ledger.md: recovery",
            ) from error
        _HANDLERS[leaf.kind](connection, leaf)
    _set_applied(connection, leaf.sequence)
    return True


def tell(engine: Engine, ledger: Source, *, through: int) -> int:
    """Catch up, and let callers be sent by all that was decided through a sequence: its engines answer.

    Raises:
        DatabaseError, LedgerDamagedError, StoreDamagedError, StoreWriteError: As `catch_up`.
    """
    last = _apply_all(engine, ledger, through=through)
    with _sorted(), writing(engine) as connection:  # nobody holds anything back meanwhile
        held.save(connection, [one for one in held.held(connection) if one > through])
    return last


def told_sequence(engine: Engine) -> int:
    """Return the sequence up to which callers are sent by what was decided."""
    with engine.connect() as connection:
        applied = applied_sequence(connection)
        return min([applied, *(one - 1 for one in held.held(connection))])


def is_told(engine: Engine, sequence: int) -> bool:
    """Tell whether callers are sent by what one record decided, whatever else is held back."""
    with engine.connect() as connection:
        return applied_sequence(connection) >= sequence and sequence not in held.held(connection)


def catch_up(engine: Engine, ledger: Source) -> int:
    """Apply every leaf that is not applied yet; return the sequence reached.

    Raises:
        StoreWriteError: State, or what is held back, cannot be written: a lock, a full disk.
        StoreDamagedError: The file does not hold together.
        DatabaseError: It is on a server, which is away or refuses.
        LedgerDamagedError: State reflects leaves that the ledger does not have.
    """
    return _apply_all(engine, ledger, through=-1)


@contextmanager
def _sorted() -> Iterator[None]:
    """Tell in our own words what the database refused within a block."""
    try:
        yield
    except DBAPIError as error:
        raise told(error) from error


@_sorted()
def _apply_all(engine: Engine, ledger: Source, *, through: int) -> int:
    with engine.connect() as connection:
        done = applied_sequence(connection)
    last = ledger.head().size - 1
    if done > last:
        raise LedgerDamagedError(
            what="the state is ahead of the ledger",
            why=f"it reflects leaf {done}, the ledger ends at {last}",
            fix="restore the ledger, or run `sealift state rebuild` after two people agreed to the loss",
        )
    while done < last:
        page = [leaf for leaf in ledger.leaves(done + 1, _PAGE, kinds=CONSUMED) if leaf.sequence <= last]
        for leaf in page:
            with writing(engine) as connection:
                if leaf.kind in held.KINDS and leaf.sequence > max(through, applied_sequence(connection)):
                    held.save(connection, {*held.held(connection), leaf.sequence})
                apply(connection, leaf)
            done = leaf.sequence
        if len(page) < _PAGE:
            break
    if done < last:
        with writing(engine) as connection:
            if applied_sequence(connection) < last:
                _set_applied(connection, last)
    return last


def rebuild(engine: Engine, ledger: Source, *, reflected: int = -1) -> int:
    """Throw all rows away and apply the whole ledger in one transaction; return the sequence reached.

    What was decided since the rows of before is held back, as by who catches up: its engines are still to be started.

    Args:
        engine: The state.
        ledger: What it follows from.
        reflected: The last record that another state of this ledger reflected, by which callers were sent so far.

    Raises:
        DatabaseError, LedgerDamagedError, StoreDamagedError, StoreWriteError: As `catch_up`.
    """
    with _sorted(), writing(engine) as connection:
        last = ledger.head().size - 1  # within: what others apply until then is not undone
        own = connection.execute(select(Applied.sequence)).scalar_one_or_none()
        done = max(reflected, -1 if own is None else own)
        back: set[int] = set()
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(delete(table))
        connection.execute(insert(Applied).values(id=1, sequence=-1))
        start = 0
        while page := ledger.leaves(start, _PAGE, kinds=CONSUMED):
            for leaf in page:
                if leaf.sequence <= last:
                    apply(connection, leaf)
                    if leaf.kind in held.KINDS and -1 < done < leaf.sequence:
                        back.add(leaf.sequence)
            start = page[-1].sequence + 1
        if back:
            held.save(connection, back | held.held(connection))
        _set_applied(connection, last)
    return last


def upsert(connection: Runner, table: type[Base]) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that can say what to do on conflict; both databases have it, under two names."""
    dialect = connection.get_bind().dialect if isinstance(connection, Session) else connection.dialect
    return postgresql.insert(table) if dialect.name == "postgresql" else sqlite.insert(table)


def _set_applied(connection: Runner, sequence: int) -> None:
    connection.execute(update(Applied).values(sequence=sequence))


def _release_received(connection: Runner, leaf: Event) -> None:
    row = {"name": leaf.body["release"], "code": leaf.body["code"], "received_at": leaf.time}
    statement = upsert(connection, Release).values(serial=leaf.body["serial"], **row)
    # The same serial again is a release that was signed anew: other code, same data, so it stays installed.
    connection.execute(statement.on_conflict_do_update(index_elements=[Release.serial], set_=row))


def _install_done(connection: Runner, leaf: Event) -> None:
    where = Release.serial == leaf.body["serial"]
    connection.execute(update(Release).where(where).values(installed_at=leaf.time))


def _model_registered(connection: Runner, leaf: Event) -> None:
    members = ("model_digest", "name", "version", "weights_digest", "serial", "descriptor")
    row = {name: leaf.body[name] for name in members}
    statement = upsert(connection, ModelVersion).values(**row, registered_sequence=leaf.sequence)
    # A version is immutable: the digest names it, so registering it again changes nothing.
    connection.execute(statement.on_conflict_do_nothing(index_elements=[ModelVersion.model_digest]))


def _model_deleted(connection: Runner, leaf: Event) -> None:
    for table in (ModelVersion, GateResult, StageLoad):
        connection.execute(delete(table).where(table.model_digest == leaf.body["model_digest"]))


def _gate_result(connection: Runner, leaf: Event) -> None:
    members = ("model_digest", "gate", "passed", "evidence_digest", "figures")
    row = {name: leaf.body[name] for name in members}
    # Counted here: a database's own counter does not begin anew with a rebuild.
    number = select(func.coalesce(func.max(GateResult.id), 0) + 1).scalar_subquery()
    connection.execute(insert(GateResult).values(**row, id=number, sequence=leaf.sequence))


def _promotion_made(connection: Runner, leaf: Event) -> None:
    people = [
        {
            "person": one["person"],
            "name": str(one.get("name", "")),
            **({"lower": one["lower"]} if one.get("lower") else {}),
        }
        for one in leaf.body["approvals"]
    ]
    _promotion(connection, leaf, kind="made", people=people, model_digest=leaf.body["model_digest"])


def _promotion_rolled_back(connection: Runner, leaf: Event) -> None:
    _promotion(connection, leaf, kind="rolled-back", people=_one(leaf), model_digest=leaf.body["model_digest"])


def _promotion_stopped(connection: Runner, leaf: Event) -> None:
    _promotion(connection, leaf, kind="stopped", people=_one(leaf), model_digest=None)


def _one(leaf: Event) -> list[dict[str, str]]:
    return [{"person": leaf.body["person"], "name": str(leaf.body.get("name", ""))}]


def _promotion(
    connection: Runner, leaf: Event, *, kind: str, people: list[dict[str, str]], model_digest: str | None
) -> None:
    connection.execute(
        insert(Promotion).values(
            sequence=leaf.sequence,
            kind=kind,
            model_digest=model_digest,
            previous=leaf.body.get("previous") or None,
            at=leaf.time,
            people=people,
            reason=leaf.body.get("reason"),
            line=leaf.body.get("line"),
        )
    )
    is_of_all = kind == "stopped" and leaf.body.get("line") is None
    rollouts.end_others(connection, None if is_of_all else line_of(leaf.body))


def _cut_over(connection: Runner, leaf: Event) -> None:
    _promotion(connection, leaf, kind="made", people=_one(leaf), model_digest=leaf.body["model_digest"])
    rollouts.cut_over(connection, leaf.body, leaf.time)


def _key_created(connection: Runner, leaf: Event) -> None:
    members = ("key_id", "secret_hmac", "key_version", "department", "phi_mode", "tier", "owner")
    row = {name: leaf.body[name] for name in members}
    row |= {name: leaf.body.get(name) for name in ("stage", "expires_at")}
    connection.execute(upsert(connection, ApiKey).values(**row, created_at=leaf.time).on_conflict_do_nothing())


def _key_revoked(connection: Runner, leaf: Event) -> None:
    where = ApiKey.key_id == leaf.body["key_id"]
    connection.execute(update(ApiKey).where(where, ApiKey.revoked_at.is_(None)).values(revoked_at=leaf.time))


def _stage_loaded(connection: Runner, leaf: Event) -> None:
    digest, row = leaf.body["model_digest"], {"at": leaf.time, "person": leaf.body["person"]}
    statement = upsert(connection, StageLoad).values(model_digest=digest, sequence=leaf.sequence, **row)
    row |= {"sequence": leaf.sequence}
    connection.execute(statement.on_conflict_do_update(index_elements=[StageLoad.model_digest], set_=row))


def _stage_unloaded(connection: Runner, leaf: Event) -> None:
    connection.execute(delete(StageLoad).where(StageLoad.model_digest == leaf.body["model_digest"]))


_HANDLERS: Final[Mapping[str, Callable[[Runner, Event], None]]] = {
    "release.received": _release_received,
    "install.done": _install_done,
    "model.registered": _model_registered,
    "model.deleted": _model_deleted,
    "gate.result": _gate_result,
    "promotion.made": _promotion_made,
    "promotion.rolled-back": _promotion_rolled_back,
    "promotion.stopped": _promotion_stopped,
    "promotion.cut-over": _cut_over,
    "promotion.canary-started": lambda connection, leaf: rollouts.start(
        connection, leaf.body, sequence=leaf.sequence, at=leaf.time
    ),
    "promotion.canary-held": lambda connection, leaf: rollouts.change(connection, leaf.body, "held", leaf.time),
    "promotion.canary-resumed": lambda connection, leaf: rollouts.change(connection, leaf.body, "running", leaf.time),
    "promotion.canary-aborted": lambda connection, leaf: rollouts.change(connection, leaf.body, "ended", leaf.time),
    "promotion.retired": lambda connection, leaf: rollouts.change(connection, leaf.body, "ended", leaf.time),
    "stop.made": lambda connection, leaf: rollouts.stop(connection, leaf.body, sequence=leaf.sequence, at=leaf.time),
    "stop.lifted": lambda connection, leaf: rollouts.free(connection, leaf.body),
    "key.ruled": lambda connection, leaf: rollouts.rule(connection, leaf.body, sequence=leaf.sequence),
    "stage.loaded": _stage_loaded,
    "stage.unloaded": _stage_unloaded,
    "key.created": _key_created,
    "key.revoked": _key_revoked,
}
