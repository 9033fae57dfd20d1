"""Recomputing the ledger from its leaves: tree, chain and signed checkpoints. Believes nothing that is only stored.

`require_sound_tail` is the quick look before the service appends; `verify` is the whole proof, over any way in.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.audit import cosigning, epochs, note, succession, tree
from appliance.audit.backend import Backend
from appliance.audit.facts import EvidenceLedger, Ledger
from appliance.audit.keptheads import KeptHeads
from appliance.audit.leaf import Leaf
from appliance.audit.log import FIRST_CHAIN
from appliance.errors import LedgerDamagedError
from media.errors import SealiftError

TAIL: Final = 1000
_PAGE: Final = 1000
# Records of single requests: found by their id, and too many to be held here.
_FREQUENT: Final = "request."


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What recomputing found. `findings` contradict the ledger; `remarks` are for a person to judge.

    `covered` is how many records a checkpoint from outside agrees with: who holds the key may rewrite all after them.
    `kept` is how many checkpoints that the ledger keeps itself were held against its tree.
    """

    origin: str
    size: int
    root: str
    chain: str
    checkpoints: tuple[int, ...]
    findings: tuple[str, ...]
    remarks: tuple[str, ...]
    covered: int = 0
    kept: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing contradicts anything."""
        return not self.findings


def require_sound_tail(backend: Backend, count: int = TAIL) -> None:
    """Return when the newest leaves, the nodes above them and the newest checkpoint agree.

    Raises:
        LedgerDamagedError: They do not.
    """
    size = backend.size()
    start = max(size - count, 0)
    before = backend.rows(start - 1, 1) if start else []
    chain = before[0].chain if before else FIRST_CHAIN
    frontier = tree.frontier_of(start, backend.node)
    for offset, row in enumerate(backend.rows(start, count)):
        leaf = Leaf.from_bytes(row.raw)
        hashed = tree.leaf_hash(row.raw)
        chain = hashlib.sha256(chain + hashed).digest()
        stored = (row.hash, row.chain, row.kind)
        if not row.sequence == leaf.sequence == start + offset or stored != (hashed, chain, leaf.kind):
            raise _damaged(f"leaf {row.sequence} and what is stored beside it differ")
        for level, position, value in tree.push(frontier, row.sequence, hashed):
            if backend.node(level, position) != value:
                raise _damaged(f"node {level}/{position} is not the hash of its leaves")
    kept = backend.checkpoint()
    if kept is not None:
        _require_checkpoint(backend, size, kept[1])


def _require_checkpoint(backend: Backend, size: int, text: str) -> None:
    keys = succession.of_backend(backend)
    signed = keys.checkpoint(text)
    for head in keys.heads:
        if tree.root(head.size, backend.node) != head.root:
            raise _damaged(f"its key was rotated over other records than its first {head.size}")
    if signed.size > size:
        raise _damaged(f"it signed a tree of {signed.size} leaves and has {size}")
    if tree.root(signed.size, backend.node) != signed.root:
        raise _damaged(f"its tree of {signed.size} leaves is not the one it signed")


def verify(
    ledger: EvidenceLedger,
    *,
    pinned: note.VerifierKey | None = None,
    notes: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Verification:
    """Recompute everything and return what was found.

    Args:
        ledger: Any way in.
        pinned: The key known from outside; without it the key in leaf 0 has to do, and a remark says so.
        notes: Checkpoints from outside (printed, sent with a receipt) that the tree must contain.
        progress: Called with leaves done and leaves in all.
    """
    walk = _Walk(origin=ledger.leaf(0).origin)
    own = _own_checkpoint(ledger, walk)
    head = ledger.head()  # after what is signed now: others go on recording meanwhile
    keys = _keys(ledger, pinned, walk)
    outside, inside = (
        [one for text in texts if keys and (one := _read_note(text, keys, walk)) is not None] for texts in (notes, own)
    )
    signed = [*outside, *inside]
    wanted = {one.size for one in signed}
    kept = KeptHeads(ledger, keys or succession.Keys(), most=head.size if keys else 0)
    while walk.size < head.size:
        page = ledger.leaves(walk.size, min(_PAGE, head.size - walk.size))
        if not page:
            walk.findings.append(f"leaf {walk.size} is missing")
            break
        begun, made = walk.size, dict[tuple[int, int], bytes]()
        for leaf in page:
            made |= {(level, position): value for level, position, value in walk.take(leaf)}
            if walk.size in wanted:
                walk.roots[walk.size] = tree.root_of(walk.frontier)
            while 0 <= kept.due <= walk.size:
                kept.compare(walk.origin, tree.root_of(walk.frontier))
        walk.compare(made, ledger.nodes(begun, walk.size))
        progress(walk.size, head.size)
    if tree.root_of(walk.frontier).hex() != head.root:
        walk.findings.append("the root is not that of the leaves")
    elif walk.wrong_nodes:  # where the leaves are others, so is what lies above them
        walk.findings.append(
            f"{walk.wrong_nodes} stored nodes of the tree are not the hash of their leaves, the first from leaf "
            f"{walk.wrong_from} on: proofs of records there fail"
        )
    for one in signed:
        _judge(one, head.size, walk)
    walk.findings += filter(None, [kept.finding])
    _judge_cosigned(ledger, head.size, walk)
    _require_found(ledger, walk)
    if walk.origin != head.origin:
        walk.findings.append(f"the records end as {walk.origin}, and the ledger calls itself {head.origin}")
    return Verification(
        origin=head.origin,
        size=walk.size,
        root=tree.root_of(walk.frontier).hex(),
        chain=walk.chain.hex(),
        checkpoints=tuple(sorted(wanted)),
        findings=tuple(walk.findings),
        remarks=tuple(walk.remarks),
        covered=max((one.size for one in outside if walk.roots.get(one.size) == one.root), default=0),
        kept=kept.compared,
    )


class _Walk:
    """What is carried from leaf to leaf."""

    def __init__(self, *, origin: str) -> None:
        self.origin = origin
        self.ended: dict[str, tuple[int, int]] = {}
        self.size = 0
        self.frontier: list[bytes] = []
        self.chain = FIRST_CHAIN
        self.roots: dict[int, bytes] = {0: tree.EMPTY_ROOT}
        self.findings: list[str] = []
        self.remarks: list[str] = []
        self.by_kind: dict[str, list[int]] = {}
        self.cosigned: list[tuple[int, cosigning.MlDsaKey, str]] = []
        self._second: cosigning.MlDsaKey | None = None
        self._keys = succession.Keys()
        self._time = ""
        self.wrong_nodes = 0
        self.wrong_from = 0

    def take(self, untrusted: Leaf) -> list[tree.Node]:
        """Check one leaf and add it; return what it completed of the tree, itself first."""
        hashed = tree.leaf_hash(untrusted.raw)
        self.chain = hashlib.sha256(self.chain + hashed).digest()
        try:
            leaf = Leaf.from_bytes(untrusted.raw, hashed=hashed)
        except LedgerDamagedError as error:
            self.findings.append(f"leaf {self.size} does not read: {error.why}")
        else:
            if leaf.kind == epochs.RESTORED and self.size:
                self._begin_epoch(leaf)
            self._follow(leaf)
            if leaf.sequence != self.size or leaf.origin != self.origin:
                self.findings.append(f"leaf {self.size} says that it is {leaf.sequence} of {leaf.origin}")
            if leaf.time < self._time:
                self.remarks.append(f"at leaf {self.size} the clock went back from {self._time} to {leaf.time}")
            self._time = leaf.time
            self._take_second(leaf)
            if not leaf.kind.startswith(_FREQUENT):
                self.by_kind.setdefault(leaf.kind, []).append(self.size)
        if untrusted.hash != hashed.hex():
            self.findings.append(f"the hash stored beside leaf {self.size} is another")
        if untrusted.chain and untrusted.chain != self.chain.hex():
            self.findings.append(f"the chain breaks at leaf {self.size}")
        made = [(0, self.size, hashed), *tree.push(self.frontier, self.size, hashed)]
        self.size += 1
        return made

    def compare(self, made: Mapping[tuple[int, int], bytes], untrusted: Sequence[tree.Node]) -> None:
        """Count the nodes that are not stored as they were made."""
        stored = {(level, position): value for level, position, value in untrusted}
        wrong = [
            position << level for (level, position), value in made.items() if stored.get((level, position)) != value
        ]
        if wrong and not self.wrong_nodes:
            self.wrong_from = min(wrong)
        self.wrong_nodes += len(wrong)

    def _follow(self, leaf: Leaf) -> None:
        """Follow the keys of checkpoints; what a rotation says of the records before it must be what was read."""
        known = len(self._keys.heads)
        try:
            self._keys.take(leaf)
        except SealiftError as error:
            self.findings.append(f"the key that record {self.size} names does not count: {error.why}")
            return
        for head in self._keys.heads[known:]:
            if (head.size, head.root) != (self.size, tree.root_of(self.frontier)):
                self.findings.append(f"record {self.size} rotates the key over other records than those before it")
            self.remarks.append(f"at leaf {self.size} the key of checkpoints was rotated")

    def _take_second(self, leaf: Leaf) -> None:
        """Follow the keys of the second signature, and note what they signed."""
        if leaf.via.door != "ledger" or leaf.kind not in {cosigning.NAMED, cosigning.COSIGNED}:
            return
        try:
            if leaf.kind == cosigning.NAMED:
                before, self._second = self._second, cosigning.require_named(leaf, self._second)
                if not leaf.body.get("previous") and before is not None and before.name == leaf.origin:
                    self.remarks.append(
                        f"at leaf {self.size} the key of second signatures was replaced, and the one before did not "
                        "sign that: believe the new one from there on only"
                    )
            elif self._second is not None:
                text = str(leaf.body.get("note", ""))
                self._second.require_cosigned(text)
                self.cosigned.append((leaf.sequence, self._second, text))
            else:
                self.findings.append(f"record {leaf.sequence} is signed by a key that no record names")
        except SealiftError as error:
            self.findings.append(f"the second signature of record {leaf.sequence} does not hold: {error.why}")

    def _begin_epoch(self, leaf: Leaf) -> None:
        """Go on under the origin that a restore began, when it continues exactly what was read so far."""
        found = (self.origin, self.size, tree.root_of(self.frontier).hex())
        try:
            epoch = epochs.begun_by(leaf)
        except SealiftError as error:
            self.findings.append(f"the epoch of leaf {self.size} does not read: {error.why}")
            return
        if epochs.continued(epoch.facts) != found or epoch.number != len(self.ended) + 2:
            self.findings.append(f"the epoch of leaf {self.size} continues another tree than the one before it")
        printed = epochs.printed_size(epoch.facts)
        names = ", ".join(str(name) for name in epoch.facts.get("by", ()))
        lost = f"; {printed - self.size} records after them were lost" if printed > self.size else ""
        self.remarks.append(f"at leaf {self.size} a backup was restored by {names}{lost}")
        self.ended[self.origin] = (self.size, max(printed, self.size))
        self.origin = epoch.origin


def _judge_cosigned(ledger: Ledger, size: int, walk: _Walk) -> None:
    """Compare each tree that was signed twice with the tree of these leaves."""
    root = tree.root_of(walk.frontier)
    for sequence, _, text in walk.cosigned:
        try:
            signed = note.Checkpoint.from_text(note.parts(text)[0])
            proof = ledger.consistency(signed.size, size)
            proof.require()
        except SealiftError as error:
            walk.findings.append(f"what record {sequence} signed is not shown to be in the tree: {error.why}")
            continue
        if (proof.old_root, proof.new_root) != (signed.root.hex(), root.hex()):
            walk.findings.append(f"record {sequence} signed another tree of {signed.size} leaves")


def _require_found(ledger: Ledger, walk: _Walk) -> None:
    """Note each kind whose records are not the ones found by it: how records are found is outside the tree."""
    for kind, expected in sorted(walk.by_kind.items()):
        found: list[int] = []
        start = 0
        while start < walk.size and (page := ledger.leaves(start, _PAGE, kinds=[kind])):
            found += [leaf.sequence for leaf in page if leaf.sequence < walk.size]
            start = page[-1].sequence + 1
        if found != expected:
            walk.findings.append(f"a search for {kind} finds {len(found)} records, and there are {len(expected)}")


def _own_checkpoint(ledger: Ledger, walk: _Walk) -> list[str]:
    try:
        return [ledger.checkpoint()]
    except SealiftError as error:
        walk.remarks.append(f"{error.what}: its own checkpoint was not compared")
        return []


def _keys(ledger: Ledger, pinned: note.VerifierKey | None, walk: _Walk) -> succession.Keys | None:
    """Return the keys that the records name; those of epochs that ended are in the tree that the last one signed."""
    try:
        named = epochs.epochs(ledger)[-1].vkey
    except SealiftError as error:
        walk.findings.append(f"leaf 0 is not the opening, or names no key: {error.why or error.what}")
        return succession.followed((), pinned) if pinned else None
    if pinned is None:
        walk.remarks.append("no key is pinned outside the ledger: the one in leaf 0 was used")
    elif pinned != named:
        walk.findings.append(f"leaf 0 names the key {named.key_id.hex()}, pinned is {pinned.key_id.hex()}")
        return succession.followed((), pinned)
    try:
        return succession.of_ledger(ledger)
    except SealiftError as error:
        walk.findings.append(f"a record names a key that does not count: {error.why or error.what}")
        return succession.followed((), named)


def _read_note(text: str, keys: succession.Keys, walk: _Walk) -> note.Checkpoint | None:
    try:
        return keys.checkpoint(text)
    except SealiftError as error:
        walk.findings.append(f"a checkpoint does not verify: {error.why}")
        return None


def _judge(signed: note.Checkpoint, size: int, walk: _Walk) -> None:
    ended = walk.ended.get(signed.origin)
    if ended is not None and signed.size > ended[0]:
        if signed.size > ended[1]:
            walk.findings.append(
                f"{signed.origin} had {signed.size} records, more than the restore said: "
                f"{ended[0]} were restored, {ended[1]} were known"
            )
    elif signed.origin != walk.origin and ended is None:
        walk.findings.append(f"a checkpoint is of another ledger: {signed.origin}")
    elif signed.size > size:
        walk.findings.append(f"a tree of {signed.size} leaves was signed, and there are {size}")
    elif walk.roots.get(signed.size) != signed.root:
        walk.findings.append(f"the signed tree of {signed.size} leaves is not the tree of these leaves")


def _damaged(why: str) -> LedgerDamagedError:
    return LedgerDamagedError(
        what="the ledger contradicts itself", why=why, fix="stop; see docs/operator/ledger.md: recovery"
    )
