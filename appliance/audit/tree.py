"""The Merkle tree of RFC 6962, as pure functions over a reader of complete subtrees.

A complete subtree is named by (level, position): level 0 is a leaf's hash, level k covers 2**k leaves. The log stores
each of them once, when it becomes complete; every root and proof of every past size follows from them.
Verification follows RFC 9162, sections 2.1.3.2 and 2.1.4.2.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from appliance.errors import ProofError

EMPTY_ROOT: Final = sha256(b"").digest()

NodeReader = Callable[[int, int], bytes]
Node = tuple[int, int, bytes]


def leaf_hash(raw: bytes) -> bytes:
    """Return SHA-256(0x00 || raw)."""
    return sha256(b"\x00" + raw).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


def push(frontier: list[bytes], size: int, leaf: bytes) -> list[Node]:
    """Add the leaf of index `size` to `frontier` in place and return the interior nodes it completed.

    The frontier holds the roots of the complete subtrees of a tree of `size`, largest first: one for each set bit.
    """
    added: list[Node] = []
    level, position, current = 0, size, leaf
    while position & 1:
        current = node_hash(frontier.pop(), current)
        level, position = level + 1, position >> 1
        added.append((level, position, current))
    frontier.append(current)
    return added


def frontier_of(size: int, read: NodeReader) -> list[bytes]:
    """Return the frontier of a tree of `size`."""
    hashes = []
    begin = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            hashes.append(read(level, begin >> level))
            begin += 1 << level
    return hashes


def completed(start: int, end: int) -> list[tuple[int, int, int]]:
    """Return the complete subtrees whose last leaf is in [start, end), the leaves themselves as level 0.

    Returns:
        For each level that has some: the level, the first position, and the position after the last.
    """
    levels = ((level, start >> level, end >> level) for level in range(end.bit_length()))
    return [(level, first, after) for level, first, after in levels if first < after]


def root_of(frontier: Sequence[bytes]) -> bytes:
    """Return the root of the tree whose frontier this is."""
    if not frontier:
        return EMPTY_ROOT
    current = frontier[-1]
    for left in reversed(frontier[:-1]):
        current = node_hash(left, current)
    return current


def root(size: int, read: NodeReader) -> bytes:
    """Return the root of the tree of the first `size` leaves."""
    return root_of(frontier_of(size, read))


def inclusion(index: int, size: int, read: NodeReader) -> list[bytes]:
    """Return the audit path of leaf `index` in the tree of `size`.

    Raises:
        ProofError: The tree of that size holds no such leaf.
    """
    if not 0 <= index < size:
        raise ProofError(what=f"a tree of {size} leaves has no leaf {index}", fix="ask for a larger tree")
    path = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(_subtree(middle, end, read))
            end = middle
        else:
            path.append(_subtree(begin, middle, read))
            begin = middle
    return path[::-1]


def consistency(old: int, new: int, read: NodeReader) -> list[bytes]:
    """Return the proof that the tree of `new` leaves begins with the tree of `old` leaves.

    Raises:
        ProofError: `old` is larger than `new`, or negative.
    """
    if not 0 <= old <= new:
        raise ProofError(what=f"a tree of {new} leaves cannot extend one of {old}", fix="swap the two sizes")
    if old in {0, new}:
        return []
    path = []
    begin, end, whole = 0, new, True
    while end != old:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(_subtree(middle, end, read))
            end = middle
        else:
            path.append(_subtree(begin, middle, read))
            begin, whole = middle, False
    if not whole:
        path.append(_subtree(begin, end, read))
    return path[::-1]


def _split(count: int) -> int:
    """Return the largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def _subtree(begin: int, end: int, read: NodeReader) -> bytes:
    """Return the hash over leaves [begin, end), where `begin` is aligned as RFC 6962's splits make it."""
    hashes = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        hashes.append(read(level, begin >> level))
        begin += 1 << level
    return root_of(hashes)


def require_inclusion(leaf: bytes, index: int, size: int, *, path: Sequence[bytes], root: bytes) -> None:
    """Return when `path` proves `leaf` at `index` in the tree of `size` with this root.

    Raises:
        ProofError: It does not.
    """
    if not 0 <= index < size:
        raise _bad("the index lies outside the tree")
    first, last, current = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise _bad("the path is too long")
        if first & 1 or first == last:
            current = node_hash(sibling, current)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            current = node_hash(current, sibling)
        first, last = first >> 1, last >> 1
    if last:
        raise _bad("the path is too short")
    if not compare_digest(current, root):
        raise _bad("the path leads to another root")


def require_consistency(old: int, new: int, *, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> None:
    """Return when `path` proves that the tree of `new` leaves begins with the tree of `old`.

    Raises:
        ProofError: It does not.
    """
    if not 0 <= old <= new:
        raise _bad("the older tree is the larger one")
    if old in {0, new}:
        expected = EMPTY_ROOT if old == 0 else new_root
        if path or not compare_digest(old_root, expected):
            raise _bad("equal trees need equal roots and no path")
        return
    _walk_consistency(old, new, old_root=old_root, new_root=new_root, path=path)


def _walk_consistency(old: int, new: int, *, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> None:
    steps = [old_root, *path] if old & (old - 1) == 0 else list(path)
    if not steps:
        raise _bad("the path is empty")
    first, last = old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old_hash = new_hash = steps[0]
    for step in steps[1:]:
        if last == 0:
            raise _bad("the path is too long")
        if first & 1 or first == last:
            old_hash, new_hash = node_hash(step, old_hash), node_hash(step, new_hash)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            new_hash = node_hash(new_hash, step)
        first, last = first >> 1, last >> 1
    if last:
        raise _bad("the path is too short")
    if not (compare_digest(old_hash, old_root) and compare_digest(new_hash, new_root)):
        raise _bad("the path leads to other roots")


def _bad(why: str) -> ProofError:
    return ProofError(
        what="a Merkle proof does not verify", why=why, fix="treat the record as unproven; see docs/ledger.md"
    )
