import hashlib
from collections.abc import Callable
from functools import cache

import pytest

from appliance.audit import tree
from appliance.errors import ProofError

LARGEST = 130

# Leaves and roots of the reference test tree of Certificate Transparency (RFC 6962 hashing).
REFERENCE_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
REFERENCE_ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


@cache
def naive_root(begin: int, end: int) -> bytes:
    """RFC 6962, section 2.1, word by word, over LEAVES[begin:end]."""
    if begin == end:
        return hashlib.sha256(b"").digest()
    if end - begin == 1:
        return hashlib.sha256(b"\x00" + LEAVES[begin]).digest()
    middle = begin + split(end - begin)
    return hashlib.sha256(b"\x01" + naive_root(begin, middle) + naive_root(middle, end)).digest()


def naive_path(index: int, begin: int, end: int) -> list[bytes]:
    """RFC 6962, section 2.1.1."""
    if end - begin == 1:
        return []
    middle = begin + split(end - begin)
    if index < middle:
        return [*naive_path(index, begin, middle), naive_root(middle, end)]
    return [*naive_path(index, middle, end), naive_root(begin, middle)]


def naive_consistency(old: int, begin: int, end: int, *, whole: bool = True) -> list[bytes]:
    """RFC 6962, section 2.1.2; `old` is a place, not a count."""
    if old == end:
        return [] if whole else [naive_root(begin, end)]
    middle = begin + split(end - begin)
    if old <= middle:
        return [*naive_consistency(old, begin, middle, whole=whole), naive_root(middle, end)]
    return [*naive_consistency(old, middle, end, whole=False), naive_root(begin, middle)]


def split(count: int) -> int:
    half = 1
    while half * 2 < count:
        half *= 2
    return half


LEAVES = [b"leaf %d" % number for number in range(LARGEST)]


def built(leaves: list[bytes]) -> tuple[list[bytes], Callable[[int, int], bytes]]:
    nodes: dict[tuple[int, int], bytes] = {}
    frontier: list[bytes] = []
    for index, raw in enumerate(leaves):
        hashed = tree.leaf_hash(raw)
        nodes[0, index] = hashed
        nodes.update({(level, place): value for level, place, value in tree.push(frontier, index, hashed)})
    return frontier, lambda level, position: nodes[level, position]


@pytest.mark.parametrize("size", range(1, 9))
def test_the_reference_trees_have_their_published_roots(size: int) -> None:
    frontier, read = built(REFERENCE_LEAVES[:size])

    assert tree.root_of(frontier).hex() == REFERENCE_ROOTS[size - 1]
    assert tree.root(size, read).hex() == REFERENCE_ROOTS[size - 1]


def test_the_published_proofs_of_the_reference_tree_come_out() -> None:
    _, read = built(REFERENCE_LEAVES)

    inclusion = [step.hex()[:8] for step in tree.inclusion(5, 8, read)]
    consistency = [step.hex()[:8] for step in tree.consistency(6, 8, read)]

    assert inclusion == ["bc1a0643", "ca854ea1", "d37ee418"]
    assert consistency == ["0ebc5d34", "ca854ea1", "d37ee418"]


def test_an_empty_tree_has_the_hash_of_nothing() -> None:
    assert tree.root(0, built([])[1]) == tree.EMPTY_ROOT == hashlib.sha256().digest()


def test_roots_and_frontiers_of_all_sizes_equal_the_recursive_definition() -> None:
    _, read = built(LEAVES)

    for size in range(LARGEST + 1):
        frontier, _ = built(LEAVES[:size])
        assert tree.root(size, read) == naive_root(0, size)
        assert tree.frontier_of(size, read) == frontier


def test_inclusion_proofs_of_all_leaves_in_all_sizes_equal_the_recursive_definition_and_verify() -> None:
    _, read = built(LEAVES)

    for size in range(1, LARGEST + 1):
        root = tree.root(size, read)
        for index in range(size):
            path = tree.inclusion(index, size, read)
            assert path == naive_path(index, 0, size)
            tree.require_inclusion(tree.leaf_hash(LEAVES[index]), index, size, path=path, root=root)


def test_consistency_proofs_of_all_pairs_of_sizes_equal_the_recursive_definition_and_verify() -> None:
    _, read = built(LEAVES)
    roots = [tree.root(size, read) for size in range(LARGEST + 1)]

    for new in range(LARGEST + 1):
        for old in range(new + 1):
            path = tree.consistency(old, new, read)
            if old:
                assert path == naive_consistency(old, 0, new)
            tree.require_consistency(old, new, old_root=roots[old], new_root=roots[new], path=path)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 21])
def test_an_inclusion_proof_proves_nothing_else(size: int) -> None:
    _, read = built(LEAVES)
    root = tree.root(size, read)
    for index in range(size):
        leaf, path = tree.leaf_hash(LEAVES[index]), tree.inclusion(index, size, read)
        other = bytes(32)
        wrong = [
            (other, index, size, path, root),
            (leaf, index, size, path, other),
            (leaf, index, size, [*path, other], root),
            (leaf, size, size, path, root),
            (leaf, -1, size, path, root),
            *((leaf, index, size, path[:cut], root) for cut in range(len(path))),
            *((leaf, index, size, [*path[:at], other, *path[at + 1 :]], root) for at in range(len(path))),
            *((leaf, place, size, path, root) for place in range(size) if place != index),
        ]
        for hashed, place, total, steps, top in wrong:
            with pytest.raises(ProofError):
                tree.require_inclusion(hashed, place, total, path=steps, root=top)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (3, 7), (4, 8), (6, 8), (7, 21), (8, 8), (0, 5), (20, 21)])
def test_a_consistency_proof_proves_nothing_else(old: int, new: int) -> None:
    _, read = built(LEAVES)
    path = tree.consistency(old, new, read)
    old_root, new_root, other = tree.root(old, read), tree.root(new, read), bytes(32)
    wrong = [
        (old, new, other, new_root, path),
        (old, new, old_root, new_root, [*path, other]),
        (new + 1, new, old_root, new_root, path),
        (-1, new, old_root, new_root, path),
        *((old, new, old_root, new_root, path[:cut]) for cut in range(len(path))),
        *((old, new, old_root, new_root, [*path[:at], other, *path[at + 1 :]]) for at in range(len(path))),
    ]
    if old:
        wrong.append((old, new, old_root, other, path))

    for first, second, first_root, second_root, steps in wrong:
        with pytest.raises(ProofError):
            tree.require_consistency(first, second, old_root=first_root, new_root=second_root, path=steps)


@pytest.mark.parametrize("start", range(0, 40, 3))
def test_what_leaves_complete_is_what_pushing_them_makes(start: int) -> None:
    frontier: list[bytes] = []
    made = [
        {(0, size), *((level, position) for level, position, _ in tree.push(frontier, size, bytes([size])))}
        for size in range(40)
    ]

    for end in range(start, 41):
        told = {
            (level, position) for level, first, after in tree.completed(start, end) for position in range(first, after)
        }
        assert told == set().union(*made[start:end])


def test_proofs_of_what_is_not_there_are_refused() -> None:
    _, read = built(LEAVES)

    for index, size in ((5, 5), (-1, 5), (0, 0)):
        with pytest.raises(ProofError):
            tree.inclusion(index, size, read)
    for old, new in ((6, 5), (-1, 5)):
        with pytest.raises(ProofError):
            tree.consistency(old, new, read)
