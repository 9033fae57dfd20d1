"""Decisions that the state reflects and that callers are not to be sent by yet: their engines do not answer so far.

Whoever brings the state up to the ledger may find a promotion in it that another command, or a person after a fault, is
still to carry out. Such a record's sequence is written down here with the row or before it, and taken out when the
engines were seen to answer (`appliance.actions.production`); in between gateways go on by what was decided before.

Beside `state.db` that is a small file; one that does not read holds nothing back. Of a state on a server it is a table
there (`appliance.postgres.held_schema`): one word for all nodes, in the transaction that changes the row. A server that
has no such table yet, and a state in memory, by which no gateway goes, hold nothing back.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, text

from appliance.errors import StoreWriteError
from media import canonical, durable
from media.errors import MediaError

FORMAT: Final = 1
FILE: Final = "held.json"
OPTION: Final = "sealift_held"
ON_SERVER: Final = "server"
"""What `OPTION` of a database engine says where the table is meant; else it is the folder of the file."""
KINDS: Final = frozenset({"promotion.made", "promotion.rolled-back", "promotion.canary-started"})
"""What may name a version whose engine is still to be started. A stop holds at once, and a cut-over's engine runs."""
_MAX_BYTES: Final = 2**16
_GROUP: Final = 0o660
_HAS_TABLE: Final = text("SELECT to_regclass('sealift_held.held') IS NOT NULL")
_READ: Final = text("SELECT sequence FROM sealift_held.held")
_ADD: Final = text("INSERT INTO sealift_held.held VALUES(:sequence) ON CONFLICT DO NOTHING")
_REMOVE: Final = text("DELETE FROM sealift_held.held WHERE sequence = :sequence")


def held(connection: Connection) -> frozenset[int]:
    """Return the sequences of what is held back."""
    place = _place(connection)
    if isinstance(place, Path):
        return _read(place)
    if place == ON_SERVER and connection.execute(_HAS_TABLE).scalar_one():
        return frozenset(connection.execute(_READ).scalars())
    return frozenset()


def save(connection: Connection, sequences: Collection[int]) -> None:
    """Write down what is held back, durably; no file where that is nothing. On a server, with the caller's transaction.

    Raises:
        StoreWriteError: The file cannot be written.
    """
    place = _place(connection)
    if isinstance(place, Path):
        _write(place, sequences)
    elif place == ON_SERVER and connection.execute(_HAS_TABLE).scalar_one():
        before = frozenset(connection.execute(_READ).scalars())
        for statement, changed in ((_ADD, set(sequences) - before), (_REMOVE, before - set(sequences))):
            for sequence in sorted(changed):
                connection.execute(statement, {"sequence": sequence})


def _place(connection: Connection) -> object:
    return connection.get_execution_options().get(OPTION)


def _read(folder: Path) -> frozenset[int]:
    try:
        value = canonical.loads((folder / FILE).read_bytes(), max_bytes=_MAX_BYTES)
        value = canonical.exact_keys(value, ("format", "sequences"), what=FILE)
        canonical.integer(value["format"], FILE, minimum=FORMAT, maximum=FORMAT)
        found = canonical.array(value["sequences"], FILE)
        return frozenset(canonical.integer(one, FILE, minimum=0) for one in found)
    except (OSError, MediaError):
        return frozenset()


def _write(folder: Path, sequences: Collection[int]) -> None:
    content = canonical.dumps({"format": FORMAT, "sequences": sorted(sequences)})
    try:
        if sequences:
            durable.replace(folder / FILE, content, mode=_GROUP)
        elif (folder / FILE).exists():
            (folder / FILE).unlink()
            durable.sync_folder(folder)
    except OSError as error:
        raise StoreWriteError(
            what="it cannot be noted that an engine is still to start",
            why=error.strerror or "",
            fix="check the disk and the owner of `registry`",
        ) from error
