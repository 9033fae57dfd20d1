"""The records of an export and the proofs beside them, in one walk over the whole ledger.

    leaves.jsonl       each line the exact bytes of one leaf, in order; SHA-256(0x00 || line) is its leaf hash
    checkpoint.txt     the signed tree head of the whole ledger (C2SP signed note: Ed25519, and ML-DSA-87 where kept)
    checkpoints.jsonl  every signed tree head whose size lies in the range, as {"note", "size"}
    ledger.pub         the verifier key, as pinned outside the ledger where it was
    proofs.json        the subtrees before and after the range, proofs of older checkpoints, records outside the range
    times.json         first and last time, where the clock went back, each start of the ledger
    redactions.json    records of erasure and of expiry
    records.csv        the same records for a spreadsheet

The walk recomputes the tree from every record, so that nothing is handed over that the checkpoint did not sign.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from appliance.actions.auditing.span import PAGE, Span
from appliance.actions.auditing.table import HEADS, row
from appliance.audit import note, succession, tree
from appliance.audit.facts import EvidenceLedger
from appliance.audit.leaf import Leaf
from appliance.errors import LedgerDamagedError
from media import canonical, durable

KEY_KIND: Final = "ledger.key"
STARTED: Final = "ledger.started"
ERASING: Final = frozenset({"erasure.done", "retention.expired"})
NAMING: Final = frozenset({*succession.NAMING, KEY_KIND})
"""Records that name a key, which go with every proof."""


@dataclass(slots=True, kw_only=True)
class Observed:
    """What the records in the range say, for the reports beside them."""

    first: str = ""
    last: str = ""
    steps_back: list[dict[str, Any]] = field(default_factory=list)
    starts: list[dict[str, Any]] = field(default_factory=list)
    erased: list[dict[str, Any]] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    checkpoints: int = 0

    def take(self, leaf: Leaf) -> None:
        """Add a record."""
        if leaf.time < self.last:
            self.steps_back.append({"sequence": leaf.sequence, "from": self.last, "to": leaf.time})
        if leaf.kind == STARTED:
            boot = leaf.body.get("boot_id", "")
            self.starts.append({"sequence": leaf.sequence, "time": leaf.time, "boot_id": boot})
        if leaf.kind in ERASING:
            self.erased.append({"sequence": leaf.sequence, "time": leaf.time, "kind": leaf.kind, **leaf.body})
        self.first, self.last = self.first or leaf.time, leaf.time
        self.kinds[leaf.kind] = self.kinds.get(leaf.kind, 0) + 1

    def times(self) -> dict[str, Any]:
        """Return the report of time."""
        return {"first": self.first, "last": self.last, "steps_back": self.steps_back, "starts": self.starts}


class Walker:
    """Writes the records of a span and what proves them into a folder."""

    def __init__(self, ledger: EvidenceLedger, folder: Path, *, span: Span, signed: note.Checkpoint) -> None:
        self._ledger = ledger
        self._folder = folder
        self._span = span
        self._signed = signed
        self._outside: list[Leaf] = []
        self.rotated: list[int] = []
        """How many records there were when each rotation of the key of checkpoints was made."""
        self._before: list[bytes] = []
        self._after = _Cover(span.end, span.size)
        self.observed = Observed()

    def write(self, *, printed: Sequence[int], progress: Callable[[int, int], None]) -> None:
        """Write leaves.jsonl, records.csv, checkpoints.jsonl, proofs.json, times.json and redactions.json.

        Args:
            printed: Sizes of checkpoints from outside that the proofs must reach.
            progress: Called with records read and records in all.

        Raises:
            LedgerDamagedError: The records are not those that were signed.
            OSError: The disk refuses.
        """
        with (self._folder / "leaves.jsonl").open("xb") as leaves, (self._folder / "records.csv").open("xb") as table:
            table.write(HEADS)
            self._walk(leaves, table, progress)
            for stream in (leaves, table):
                stream.flush()
                os.fsync(stream.fileno())
        self._checkpoints()
        files = {
            "proofs.json": self._proofs(printed),
            "times.json": self.observed.times(),
            "redactions.json": {"erased": self.observed.erased},
        }
        for name, value in files.items():
            durable.write_new(self._folder / name, canonical.dumps(value, allow_floats=True) + b"\n")

    def _walk(self, leaves: BinaryIO, table: BinaryIO, progress: Callable[[int, int], None]) -> None:
        frontier: list[bytes] = []
        span = self._span
        for place, leaf in enumerate(self._all(progress)):
            if leaf.sequence != place:
                break
            if leaf.sequence == span.start:
                self._before = list(frontier)
            hashed = tree.leaf_hash(leaf.raw)
            tree.push(frontier, leaf.sequence, hashed)
            self.rotated += rotations([leaf])
            if span.start <= leaf.sequence < span.end:
                leaves.write(leaf.raw + b"\n")
                table.write(row(leaf))
                self.observed.take(leaf)
            elif leaf.kind in NAMING and leaf.via.door == "ledger":
                self._outside.append(leaf)
            if leaf.sequence >= span.end:
                self._after.take(hashed)
        if tree.root_of(frontier) != self._signed.root:
            raise LedgerDamagedError(
                what="the leaves are not those that were signed",
                why=f"the checkpoint of {self._signed.size} leaves names another root",
                fix="run `sealift audit verify`",
            )

    def _all(self, progress: Callable[[int, int], None]) -> Iterator[Leaf]:
        place, size = 0, self._span.size
        while place < size and (page := self._ledger.leaves(place, min(PAGE, size - place))):
            yield from page
            place = page[-1].sequence + 1
            progress(place, size)

    def _checkpoints(self) -> None:
        place = self._span.start
        with (self._folder / "checkpoints.jsonl").open("xb") as stream:
            while page := self._ledger.checkpoints(place, PAGE):
                for size, text in page:
                    if 0 < size <= self._span.end:
                        stream.write(canonical.dumps({"note": text, "size": size}) + b"\n")
                        self.observed.checkpoints += 1
                place = page[-1][0] + 1
                if place > self._span.end:
                    break
            stream.flush()
            os.fsync(stream.fileno())

    def _proofs(self, printed: Sequence[int]) -> dict[str, Any]:
        span = self._span
        wanted = {*printed, *self.rotated}
        sizes = sorted({size for size in wanted if 0 < size < span.size and not span.start <= size <= span.end})
        return {
            "start": span.start,
            "end": span.end,
            "size": span.size,
            "before": [one.hex() for one in self._before],
            "after": [one.hex() for one in self._after.hashes],
            "checkpoints": [{"size": size, "hashes": continued(self._ledger, size, span.size)} for size in sizes],
            "records": [
                {
                    "sequence": leaf.sequence,
                    "raw": leaf.raw.decode(),
                    "hashes": list(self._ledger.inclusion(leaf.sequence, span.size).hashes),
                }
                for leaf in self._outside
            ],
        }


class _Cover:
    """The complete subtrees that follow a place in a tree, built from the leaves after it."""

    def __init__(self, begin: int, size: int) -> None:
        self.hashes: list[bytes] = []
        self._blocks: list[int] = []
        self._frontier: list[bytes] = []
        self._count = 0
        place = begin
        while place < size:
            level = 0
            while not place >> level & 1 and place + (2 << level) <= size:
                level += 1
            self._blocks.append(1 << level)
            place += 1 << level

    def take(self, hashed: bytes) -> None:
        """Add the next leaf's hash."""
        tree.push(self._frontier, self._count, hashed)
        self._count += 1
        if self._count == self._blocks[len(self.hashes)]:
            self.hashes.append(tree.root_of(self._frontier))
            self._frontier, self._count = [], 0


def rotations(leaves: Iterable[Leaf]) -> list[int]:
    """Return how many records there were when each rotation of the key of checkpoints was made."""
    return [leaf.sequence for leaf in leaves if leaf.kind == succession.ROTATED and leaf.via.door == "ledger"]


def continued(ledger: EvidenceLedger, old: int, new: int) -> list[str]:
    """Return the proof between two sizes as hex; a tree that is one whole subtree comes first itself.

    RFC 6962 leaves that hash out, because who verifies knows it; here the verifier learns it from the proof.
    """
    found = ledger.consistency(old, new)
    whole = old & (old - 1) == 0 and old != new
    return [*([found.old_root] if whole else []), *found.hashes]
