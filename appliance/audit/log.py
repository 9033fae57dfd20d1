"""The log itself: turns records into leaves and tree nodes, and answers every question about them.

One thread appends; any thread may ask. A batch is all or nothing: memory changes only after the backend has made the
batch durable. A retry with the same door and idempotency key gets the first answer and adds nothing.
"""

import os
import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from appliance.audit import batch, epochs, note, search, succession, tree
from appliance.audit.backend import Backend, Row
from appliance.audit.batch import Batch, Tip
from appliance.audit.entry import TERM_FIELD, Entry
from appliance.audit.facts import Appended, ConsistencyProof, InclusionProof, TreeHead
from appliance.audit.leaf import Leaf, Via
from appliance.errors import KeyMissingError, LedgerDamagedError, LedgerRefusedError, LedgerUnavailableError, ProofError
from media.clock import Clock, to_text
from media.errors import UsageError

__all__ = ["FIRST_CHAIN", "OPENED", "REMEMBERED_RETRIES", "Entry", "Log", "Signer"]

OPENED: Final = epochs.OPENED
FIRST_CHAIN: Final = bytes(32)
REMEMBERED_RETRIES: Final = 65536
_NO_SEQUENCE: Final = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """The checkpoint key: its public half and a way to sign."""

    public: bytes
    sign: Callable[[bytes], bytes]


class Log:
    """One append-only log over a backend. Use `open`."""

    def __init__(
        self, backend: Backend, *, clock: Clock, origin: str, vkey: note.VerifierKey, signer: Signer | None = None
    ) -> None:
        self.origin = origin
        self.vkey = vkey
        self.backend = backend
        self.cosigner: Callable[[str], str] | None = None
        """Adds the second signature to a checkpoint of this log; see `appliance.audit.cosigning`."""
        self.kept: Callable[[note.Checkpoint], None] | None = None
        self.standing: Callable[[], Mapping[str, Any]] | None = None
        """How it stands with the disk of the records; see `appliance.audit.room`."""
        self.node = ""
        """What its records name as their node, where several answer at once."""
        self._clock = clock
        self.signer = signer
        self._named: succession.Keys | None = None
        size = backend.size()
        last = backend.rows(size - 1, 1)
        frontier = tuple(tree.frontier_of(size, backend.node))
        self._tip = Tip(size, frontier, last[0].chain if last else FIRST_CHAIN)
        self._kinds = backend.kinds()
        # Only who appends needs them; a reader opens the log anew for each question.
        remembered = backend.retries(REMEMBERED_RETRIES) if signer is not None else ()
        self._retries: OrderedDict[str, int] = OrderedDict(remembered)

    @classmethod
    def open(cls, backend: Backend, *, clock: Clock, site: str, signer: Signer) -> "Log":
        """Open a log to append to; an empty one gets its origin and leaf 0.

        Raises:
            LedgerDamagedError: Leaf 0 is not an opening.
            KeyMissingError: The checkpoint key is not the one the log was opened with.
        """
        if not backend.size():
            origin = _new_origin(site)
            vkey = note.VerifierKey(name=origin, public=signer.public)
            log = cls(backend, clock=clock, origin=origin, vkey=vkey, signer=signer)
            via = Via(door="ledger", uid=os.getuid())
            log.append([Entry.of(OPENED, {"origin": origin, "vkey": vkey.to_text()}, via=via)])
            return log
        origin, vkey = cls._opening(backend)
        log = cls(backend, clock=clock, origin=origin, vkey=vkey, signer=signer)
        if log.key.public != signer.public:
            raise KeyMissingError(
                what="the checkpoint key is not the one this ledger names",
                why=f"it names the key {log.key.key_id.hex()}",
                fix="put the key file of ledger-checkpoint back, or restore a backup, which begins a new epoch",
            )
        return log

    @classmethod
    def begin_epoch(
        cls, backend: Backend, *, clock: Clock, site: str, signer: Signer, facts: Mapping[str, Any]
    ) -> "Log":
        """Go on after a restore, under a new origin and this key; the first record says so, and is signed.

        Args:
            backend: Holds the restored records; nobody else has it open.
            clock: For the record's time.
            site: The site in the origin.
            signer: A key that signed no epoch before.
            facts: What is known of the restore.

        Raises:
            LedgerDamagedError: The records do not begin with an opening.
            KeyMissingError: The key is that of the epoch before.
            LedgerRefusedError: The facts are no body of a record.
        """
        before = cls.read(backend, clock=clock)
        if signer.public in {key.public for key in before.keys.all()}:
            raise KeyMissingError(
                what="an epoch cannot begin with a key of an earlier one",
                why="who has the lost box could sign for this one",
                fix="make a new key ledger-checkpoint",
            )
        head = before.head()
        number = epochs.begun_by(search.to_leaf(cls._first_of_epoch(backend))).number + 1
        origin = _new_origin(site)
        vkey = note.VerifierKey(name=origin, public=signer.public)
        log = cls(backend, clock=clock, origin=origin, vkey=vkey, signer=signer)
        body = {
            **facts,
            "epoch": number,
            "origin": origin,
            "vkey": vkey.to_text(),
            "continues": {"origin": head.origin, "size": head.size, "root": head.root},
        }
        (outcome,) = log.append([Entry.of(epochs.RESTORED, body, via=Via(door="ledger", uid=os.getuid()))])
        if not isinstance(outcome, Appended):
            raise outcome
        log.checkpoint()
        return log

    @classmethod
    def read(cls, backend: Backend, *, clock: Clock) -> "Log":
        """Open a log that is not empty to read it; it cannot sign.

        Raises:
            LedgerDamagedError: Leaf 0 is not an opening.
        """
        origin, vkey = cls._opening(backend)
        return cls(backend, clock=clock, origin=origin, vkey=vkey)

    @classmethod
    def _opening(cls, backend: Backend) -> tuple[str, note.VerifierKey]:
        epoch = epochs.begun_by(Leaf.from_bytes(cls._first_of_epoch(backend).raw))
        return epoch.origin, epoch.vkey

    @staticmethod
    def _first_of_epoch(backend: Backend) -> Row:
        rows = backend.rows(backend.size() - 1, 1, kinds=[epochs.RESTORED], newest_first=True) or backend.rows(0, 1)
        if not rows or (rows[0].sequence == 0 and rows[0].kind != OPENED):
            raise LedgerDamagedError(
                what="the ledger does not begin with its opening", fix="see docs/operator/ledger.md: recovery"
            )
        return rows[0]

    @property
    def keys(self) -> succession.Keys:
        """The keys that the records name, followed link by link; read when first asked for.

        Raises:
            LedgerDamagedError, ProofError: A record breaks the rules of `appliance.audit.succession`.
        """
        if self._named is None:
            self._named = succession.of_backend(self.backend)
        return self._named

    @property
    def key(self) -> note.VerifierKey:
        """The key that signs now; `vkey` is the first of the epoch, which is pinned. Raises as `keys`."""
        return self.keys.in_force(self.origin)

    def admit(self, entry: Entry) -> None:
        """Return when a record may be made here; where one node records, every one may.

        Raises:
            LedgerUnavailableError: It is another node's to make.
        """

    @property
    def is_alone(self) -> bool:
        """Whether nobody else can add to it."""
        return True

    def follow(self) -> None:
        """Take in what others added, where others do.

        Raises:
            LedgerUnavailableError: The server is away.
            LedgerDamagedError: It does not go on from what was there.
        """

    def pulse(self) -> bool:
        """Feel whether the records can still be reached; return whether this node took the lead just now.

        Raises:
            LedgerUnavailableError: They cannot.
            LedgerDamagedError: As `follow`.
        """
        self.backend.size()
        return False

    def append(self, entries: Sequence[Entry]) -> list[Appended | LedgerRefusedError]:
        """Make all entries durable, or none; one thread at a time.

        Returns:
            For each entry where it is, or why it alone was refused: its idempotency key was used for another record.

        Raises:
            LedgerUnavailableError: None of them is acknowledged.
        """
        planned = self._plan(entries)
        if planned.rows:
            self.backend.append(planned.rows, planned.nodes)
            self._adopt(planned)
        return planned.answers

    def leaf(self, sequence: int) -> Leaf:
        """Return one leaf.

        Raises:
            UsageError: There is no such sequence.
        """
        rows = self.backend.rows(sequence, 1) if 0 <= sequence < _NO_SEQUENCE else []
        if not rows or rows[0].sequence != sequence:
            raise UsageError(
                what=f"the ledger has no leaf {sequence}",
                why=f"it has {self._tip.size}",
                fix="see `sealift audit list`",
            )
        return search.to_leaf(rows[0])

    def leaves(self, start: int, limit: int, *, kinds: Collection[str] | None = None) -> list[Leaf]:
        """Return leaves in order."""
        return [search.to_leaf(row) for row in self.backend.rows(max(start, 0), limit, kinds=kinds)]

    def find(
        self,
        *,
        kind: str | None = None,
        field: str | None = None,
        value: str | int | bool | None = None,
        limit: int = 50,
        newest_first: bool = True,
        start: int | None = None,
    ) -> list[Leaf]:
        """Return the leaves of a kind or family whose body's `field` equals `value`, from `start` on in that order."""
        self.follow()
        if start is None:
            start = self._tip.size - 1 if newest_first else 0
        query = search.Query(kind=kind, field=field, value=value, limit=limit, newest_first=newest_first, start=start)
        return search.run(query, self.backend, known_kinds=self._kinds, term_field=TERM_FIELD)

    def head(self) -> TreeHead:
        """Return size and root."""
        self.follow()
        tip = self._tip
        return TreeHead(origin=self.origin, size=tip.size, root=tree.root_of(tip.frontier).hex())

    def checkpoint(self) -> str:
        """Sign the present head and keep the note; without a key, return the last note that was kept.

        Raises:
            LedgerUnavailableError: There is neither key nor note.
        """
        self.follow()
        tip = self._tip
        if self.signer is None:
            kept = self.backend.checkpoint()
            if kept is None:
                raise LedgerUnavailableError(
                    what="no checkpoint was ever signed",
                    why="the ledger service signs them",
                    fix="start sealift-ledger",
                )
            return kept[1]
        kept_note = self.backend.checkpoint_of(tip.size)
        if kept_note is None:
            head = note.Checkpoint(origin=self.origin, size=tip.size, root=tree.root_of(tip.frontier))
            kept_note = note.sign(head.to_text(), self.key, self.signer.sign)
            self.backend.save_checkpoint(tip.size, kept_note)
            if self.kept is not None:
                self.kept(head)
        return kept_note

    def checkpoints(self, start: int, limit: int) -> list[tuple[int, str]]:
        """Return up to `limit` kept checkpoints of at least `start` records with their sizes, the smallest first."""
        return self.backend.checkpoints(start, limit)

    def nodes(self, start: int, end: int) -> list[tree.Node]:
        """Return what is stored of the tree that the leaves [start, end) completed."""
        return self.backend.nodes(start, min(end, self._tip.size)) if start < self._tip.size else []

    def cosigned(self, size: int) -> str:
        """Return the kept checkpoint of exactly this size, with the second signature where there is a key for it.

        Raises:
            ProofError: None was kept.
        """
        kept = self.backend.checkpoint_of(size)
        if kept is None:
            raise ProofError(what=f"no checkpoint of {size} records was kept", fix="ask for one that was")
        return kept if self.cosigner is None else self.cosigner(kept)

    def inclusion(self, sequence: int, size: int | None = None) -> InclusionProof:
        """Return the proof for one leaf, in a tree with a signed checkpoint unless a size is asked for.

        Raises:
            ProofError: The tree has no such leaf.
        """
        text = ""
        if size is None:
            kept = self.backend.checkpoint(at_least=sequence + 1)
            if kept is None and self.signer is not None:
                text = self.checkpoint()
                kept = self.keys.checkpoint(text).size, text
            size, text = kept or (self._tip.size, "")
        else:
            self._require_size(size)
            text = self.backend.checkpoint_of(size) or ""
        path = tree.inclusion(sequence, size, self.backend.node)
        return InclusionProof(
            sequence=sequence,
            size=size,
            root=tree.root(size, self.backend.node).hex(),
            hashes=tuple(step.hex() for step in path),
            note=text,
        )

    def consistency(self, old: int, new: int) -> ConsistencyProof:
        """Return the proof that the tree of `new` leaves extends that of `old`.

        Raises:
            ProofError: The sizes are not in order, or the tree is smaller.
        """
        self._require_size(new)
        path = tree.consistency(old, new, self.backend.node)
        return ConsistencyProof(
            old=old,
            new=new,
            old_root=tree.root(old, self.backend.node).hex(),
            new_root=tree.root(new, self.backend.node).hex(),
            hashes=tuple(step.hex() for step in path),
        )

    def _require_size(self, size: int) -> None:
        self.follow()
        if not 0 <= size <= self._tip.size:
            raise ProofError(
                what=f"the ledger has no tree of {size} leaves",
                why=f"it has {self._tip.size}",
                fix="ask for a smaller one",
            )

    def _earlier(self, entry: Entry, fresh: Mapping[str, Row]) -> Appended | LedgerRefusedError | None:
        row = fresh.get(entry.retry)
        if row is None:
            sequence = self._retries.get(entry.retry)
            if sequence is None:
                return None
            row = self.backend.rows(sequence, 1)[0]
        leaf = search.to_leaf(row)
        if row.kind != entry.kind or not row.raw.startswith(b'{"body":' + entry.body + b',"kind":'):
            return LedgerRefusedError(
                what="an idempotency key was used for another record",
                why=f"leaf {row.sequence} has it",
                fix="use a new key for each record",
            )
        return Appended(sequence=leaf.sequence, leaf_hash=leaf.hash, time=leaf.time)

    def _plan(self, entries: Sequence[Entry]) -> Batch:
        now = to_text(self._clock.now())
        return batch.plan(entries, self._tip, origin=self.origin, time=now, earlier=self._earlier, node=self.node)

    def _adopt(self, durable: Batch) -> None:
        """Believe in a batch that is durable now."""
        self._tip = durable.tip
        self._note({row.kind for row in durable.rows}, {retry: row.sequence for retry, row in durable.fresh.items()})

    def _note(self, kinds: set[str], retries: Mapping[str, int]) -> None:
        self._kinds |= kinds
        if kinds & succession.NAMING:
            self._named = None
        self._retries.update(retries)
        while len(self._retries) > REMEMBERED_RETRIES:
            self._retries.popitem(last=False)


def _new_origin(site: str) -> str:
    return f"sealift/{site}/{secrets.token_hex(4)}"
