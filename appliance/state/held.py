"""Decisions that the state reflects and that callers are not to be sent by yet: their engines do not answer so far.

Whoever brings the state up to the ledger may find a promotion in it that another command, or a person after a fault, is
still to carry out. Such a record's sequence is written down here before the row is, and taken out when the engines were
seen to answer (`appliance.actions.production`); in between gateways go on by what was decided before. A small file
beside `state.db`; a state that several nodes may share has none, since each has engines of its own. One that does not
read holds nothing back.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from appliance.errors import StoreWriteError
from media import canonical, durable
from media.errors import MediaError

FORMAT: Final = 1
FILE: Final = "held.json"
OPTION: Final = "sealift_held"
KINDS: Final = frozenset({"promotion.made", "promotion.rolled-back", "promotion.canary-started"})
"""What may name a version whose engine is still to be started. A stop holds at once, and a cut-over's engine runs."""
_MAX_BYTES: Final = 2**16
_GROUP: Final = 0o660


def folder_of(engine: Engine) -> Path | None:
    """Return where the file of a state is kept; None for one on a server, or in memory, by which no gateway goes."""
    found = engine.get_execution_options().get(OPTION)
    return found if isinstance(found, Path) else None


def held(folder: Path | None) -> frozenset[int]:
    """Return the sequences of what is held back."""
    if folder is None:
        return frozenset()
    try:
        value = canonical.loads((folder / FILE).read_bytes(), max_bytes=_MAX_BYTES)
        value = canonical.exact_keys(value, ("format", "sequences"), what=FILE)
        canonical.integer(value["format"], FILE, minimum=FORMAT, maximum=FORMAT)
        found = canonical.array(value["sequences"], FILE)
        return frozenset(canonical.integer(one, FILE, minimum=0) for one in found)
    except (OSError, MediaError):
        return frozenset()


def save(folder: Path | None, sequences: Collection[int]) -> None:
    """Write down what is held back, durably; no file where that is nothing.

    Raises:
        StoreWriteError: It cannot be written.
    """
    if folder is None:
        return
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
