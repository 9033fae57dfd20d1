"""One proof for many records of a tree: far smaller than one path for each, and one pass makes it.

The tree of RFC 6962 is walked from the left. Where a subtree holds none of the wanted records, its hash stands for all
of it; the hashes are in the order in which a walk from the root meets them, so that whoever has the wanted records and
the size of the tree makes the root again, and needs nothing else.
"""

from dataclasses import dataclass

from appliance.audit import tree


@dataclass(slots=True)
class _Part:
    """A complete subtree; `hashes` are what a walk through it needs, None where it holds nothing wanted."""

    level: int
    value: bytes
    hashes: list[bytes] | None


class Together:
    """Grows with the records of a tree, in order from the first."""

    def __init__(self) -> None:
        self._parts: list[_Part] = []

    def take(self, hashed: bytes, *, wanted: bool) -> None:
        """Add the next record's leaf hash."""
        part = _Part(0, hashed, [] if wanted else None)
        while self._parts and self._parts[-1].level == part.level:
            part = _joined(self._parts.pop(), part)
        self._parts.append(part)

    def end(self) -> tuple[bytes, list[bytes]]:
        """Return the root of the tree and the hashes of the proof."""
        if not self._parts:
            return tree.EMPTY_ROOT, []
        whole = self._parts[-1]
        for left in reversed(self._parts[:-1]):
            whole = _joined(left, whole)
        return whole.value, [whole.value] if whole.hashes is None else whole.hashes


def _joined(left: _Part, right: _Part) -> _Part:
    value = tree.node_hash(left.value, right.value)
    if left.hashes is None and right.hashes is None:
        return _Part(left.level + 1, value, None)
    hashes = [left.value] if left.hashes is None else left.hashes
    hashes.extend([right.value] if right.hashes is None else right.hashes)
    return _Part(left.level + 1, value, hashes)
