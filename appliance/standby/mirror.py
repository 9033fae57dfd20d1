"""A copy of another box's ledger, for evidence: grown only by records whose signed tree holds all that is here already.

Promises: records are added in one transaction, after the root over old and new ones was found equal to the one that
the paired key signed, or one that it leads to; so what a mirror holds is a prefix of what that box vouches for, and a
ledger that was cut or forked is refused before anything changes. Nothing is ever merged with the own ledger. A peer
whose ledger went on in a new epoch has another key: it is paired again first.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from appliance.audit import exclusive, tree
from appliance.audit.backend import Row
from appliance.audit.facts import EVERY
from appliance.audit.leaf import Leaf
from appliance.audit.log import FIRST_CHAIN, Log
from appliance.audit.note import Checkpoint
from appliance.audit.offline import OfflineLedger
from appliance.audit.sqlite_backend import FILE_NAME, SqliteBackend, open_writer
from appliance.audit.succession import ROTATED, Keys
from appliance.config import Places
from appliance.errors import LedgerDamagedError, PairingRefusedError
from appliance.standby.card import BoxCard
from media.clock import Clock

OLDER: Final = "this bundle is older than what is here"
_TERM: Final = "request_id"
WAIT_SECONDS: Final = 20.0
"""How long who takes a bundle waits for who reads the mirror, and the other way round: each has it for moments."""


def folder_of(places: Places, box: BoxCard) -> Path:
    """Return where the mirror of a box lies: named after its ledger, so that no two are ever mixed."""
    return place_of(places, box.origin)


def place_of(places: Places, origin: str) -> Path:
    """Return where the mirror of a ledger lies, also once its box was parted from."""
    return places.mirrors / origin.replace("/", "-")


def is_begun(places: Places, box: BoxCard) -> bool:
    """Tell whether there is a mirror of a box; also where this process may not look."""
    try:
        (folder_of(places, box) / FILE_NAME).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # told by whoever reads it
    return True


def reader(places: Places, box: BoxCard, *, clock: Clock) -> "Reader":
    """Return the mirror of a box to read; that it is there is not asked before the first question."""
    made = Reader.of_folder(folder_of(places, box), clock=clock)
    made.box = box.name
    return made


def rotations(folder: Path, box: BoxCard) -> tuple[bytes, ...]:
    """Return the records of a mirror that rotate the key of its ledger; none where there is no mirror yet.

    Raises:
        LedgerUnavailableError: It cannot be read, or another process has it.
    """
    if not (folder / FILE_NAME).exists():
        return ()
    with Mirror(folder, box) as copy:
        return tuple(row.raw for row in copy._backend.rows(0, EVERY, kinds=[ROTATED]))  # noqa: SLF001 - the same module


def head_of(folder: Path, box: BoxCard) -> tuple[int, str]:
    """Return how many records a mirror holds and the root over them; 0 where nothing was ever taken in.

    Raises:
        LedgerUnavailableError: It cannot be read, or another process has it.
    """
    if not (folder / FILE_NAME).exists():
        return 0, ""
    with Mirror(folder, box) as copy:
        return copy.size, copy.root if copy.size else ""


class Reader(OfflineLedger):
    """A mirror that is read; who takes a bundle into it has it for moments."""

    wait_seconds = WAIT_SECONDS
    box = ""

    @contextmanager
    def _log(self) -> Iterator[Log]:
        try:
            with super()._log() as log:
                yield log
        except LedgerDamagedError as error:
            raise _damaged(self.box, error) from error


class Mirror:
    """The mirror of one box, open to grow. Close it."""

    def __init__(self, folder: Path, box: BoxCard) -> None:
        """Open or begin one.

        Args:
            folder: As `folder_of` says.
            box: Whose ledger it is.

        Raises:
            LedgerDamagedError: Its file is damaged.
            LedgerUnavailableError: It cannot be written, or another process has it.
        """
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        (folder / exclusive.LOCK_NAME).touch(mode=0o640)
        self._box = box
        self._lock = exclusive.take(folder, wait_seconds=WAIT_SECONDS)
        try:
            self._backend: SqliteBackend = open_writer(folder / FILE_NAME)
        except LedgerDamagedError as error:
            self._lock.close()
            raise _damaged(box.name, error) from error
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file and let go of its lock."""
        try:
            self._backend.close()
        finally:
            self._lock.close()

    @property
    def size(self) -> int:
        """How many records it holds."""
        return self._backend.size()

    @property
    def root(self) -> str:
        """The root over them."""
        return tree.root(self.size, self._backend.node).hex()

    def grow(self, start: int, untrusted_leaves: Sequence[bytes], untrusted_note: str, keys: Keys) -> Checkpoint:
        """Add records and keep the checkpoint that signed exactly all of them.

        Args:
            start: The sequence of the first one given; records that are here already must be the same bytes.
            untrusted_leaves: The exact bytes of each.
            untrusted_note: A checkpoint of the box.
            keys: Those of its ledger, after what these records say of them.

        Raises:
            LedgerDamagedError: One is no record.
            LedgerUnavailableError: They could not be written; nothing changed.
            PairingRefusedError: They do not continue what is here, or are not what was signed; nothing changed.
            ProofError: The checkpoint is not signed by this box.
        """
        signed = keys.checkpoint(untrusted_note)
        size = self.size
        if signed.origin != self._box.origin:
            raise _refused(f"the checkpoint is of {signed.origin}")
        if start > size:
            raise _refused(f"the mirror ends at {size}, and these records begin at {start}: export with --since {size}")
        if signed.size != start + len(untrusted_leaves):
            raise _refused(f"{start + len(untrusted_leaves)} records came, and the checkpoint signs {signed.size}")
        if signed.size < size and tree.root(signed.size, self._backend.node) == signed.root:
            raise PairingRefusedError(
                what=OLDER,
                why=f"it ends at {signed.size}, and the mirror holds {size} records that continue it",
                fix="nothing of it is missing here: import the newest bundle",
            )
        if signed.size < size:
            raise _refused(f"the mirror holds {size} records, and the other box now shows only {signed.size}")
        known = untrusted_leaves[: size - start]
        for row, untrusted in zip(self._backend.rows(start, len(known)) if known else [], known, strict=True):
            if row.raw != untrusted:
                raise _refused(f"record {row.sequence} is another than the one that this box holds")
        rows, nodes, roots = self._computed(size, untrusted_leaves[size - start :], {head.size for head in keys.heads})
        if roots[signed.size] != signed.root:
            raise _refused(f"the {signed.size} records are not those that the other box signed")
        for head in keys.heads:
            if roots.get(head.size, head.root) != head.root:
                raise _refused(f"its key was rotated over other records than the first {head.size} of these")
        if rows:
            self._backend.append(rows, nodes)
            self._backend.tidy()
        self._backend.save_checkpoint(signed.size, untrusted_note)
        return signed

    def _computed(
        self, size: int, untrusted_leaves: Sequence[bytes], wanted: Collection[int]
    ) -> tuple[list[Row], list[tree.Node], dict[int, bytes]]:
        """Return what is to be added, and the roots of all of it and of the trees of these sizes."""
        roots = {one: tree.root(one, self._backend.node) for one in wanted if one <= size}
        frontier = list(tree.frontier_of(size, self._backend.node))
        last = self._backend.rows(size - 1, 1) if size else []
        chain = last[0].chain if last else FIRST_CHAIN
        rows: list[Row] = []
        nodes: list[tree.Node] = []
        for sequence, untrusted in enumerate(untrusted_leaves, start=size):
            leaf = Leaf.from_bytes(untrusted)
            if leaf.sequence != sequence:
                raise _refused(f"record {sequence} says that it is {leaf.sequence}")
            hashed = tree.leaf_hash(untrusted)
            chain = hashlib.sha256(chain + hashed).digest()
            nodes += tree.push(frontier, sequence, hashed)
            if sequence + 1 in wanted:
                roots[sequence + 1] = tree.root_of(frontier)
            term = leaf.body.get(_TERM)
            rows.append(
                Row(sequence, leaf.kind, untrusted, hashed, chain, term if isinstance(term, str) else "", retry="")
            )
        return rows, nodes, {**roots, size + len(rows): tree.root_of(frontier)}


def _refused(why: str) -> PairingRefusedError:
    return PairingRefusedError(
        what="the other box's ledger is not taken into the mirror",
        why=why,
        fix="make a new bundle; where the other box lost records, see docs/operator/standby.md: a fork",
    )


def _damaged(box: str, error: LedgerDamagedError) -> LedgerDamagedError:
    # Not this box's own ledger: nothing of that is to be restored.
    return LedgerDamagedError(
        what=f"the mirror of {box} is damaged",
        why=f"{error.what}{f': {error.why}' if error.why else ''}",
        fix="see docs/operator/standby.md: a mirror that is damaged",
    )
