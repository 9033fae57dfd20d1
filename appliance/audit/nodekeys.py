"""Whether the keys of a node are those of the others: each compares with what the records say, before it opens.

Promises: a node one of whose keys is another one than the first node recorded under that name and version adds no
record, and the error names the key; commitments (`appliance.keys.commitments`) tell nothing about keys. Who opens adds
to the records what they do not say yet. After a restore an epoch begins, and its first node says what its keys are.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from appliance.audit.facts import EVERY, Appended
from appliance.audit.leaf import Leaf, Via
from appliance.audit.log import Entry, Log
from appliance.audit.rights import ACTIONS
from appliance.audit.rotating import ASKED
from appliance.errors import KeyMissingError
from appliance.keys import commitments
from media.errors import MalformedError

RECORDED: Final = "ledger.node-keys"
COMMITMENT: Final = "commitment"
"""What ``key.rotated`` says besides where several nodes answer."""
_DESTROYED: Final = "key.destroyed"
_DOOR: Final = "ledger"
_PAGE: Final = "docs/operator/postgresql.md"


class Records(Protocol):
    """What is asked of a ledger or a log."""

    def find(self, *, kind: str, limit: int, newest_first: bool) -> list[Leaf]:
        """Return records of a kind in order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What was found, by the names of key files; nothing where all are the same.

    Attributes:
        differing: Those that are other keys than recorded, with the node that recorded them.
        absent: Versions that are recorded and not here, of keys that are, with the node that recorded them.
        left: Those that are here and were destroyed elsewhere, by a record.
        fresh: Those that no record names yet.
    """

    differing: Mapping[str, str]
    absent: Mapping[str, str]
    left: tuple[str, ...]
    fresh: tuple[str, ...]

    @property
    def text(self) -> str:
        """What a person reads; empty where nothing is to be done."""
        words = [f"{name} is another key than that of node {node}" for name, node in self.differing.items()]
        words += [f"{name} is not here, node {node} has it" for name, node in self.absent.items()]
        words += [f"{name} was destroyed on another node and is still here" for name in self.left]
        return "; ".join(words)


def compare(records: Records, origin: str, own: Mapping[str, str]) -> Compared:
    """Compare a node's keys with what the records of this epoch say.

    Args:
        records: The ledger.
        origin: Its present one.
        own: The commitments to the node's keys.

    Raises:
        LedgerUnavailableError: It does not answer.
    """
    # That a key is not here at all is another finding; a unit that was told nothing sees two of them.
    here = {name.rpartition(".")[0] for name in own}
    known = _known(records, origin)
    gone = _destroyed(records, origin)
    differing = {name: known[name][1] for name in own if name in known and known[name][0] != own[name]}
    return Compared(
        differing=differing,
        absent={
            name: node
            for name, (_, node) in known.items()
            if name.rpartition(".")[0] in here and name not in own and name not in gone
        },
        left=tuple(name for name in own if name in gone),
        fresh=tuple(name for name in own if name not in known and name not in gone),
    )


def settle(log: Log, own: Mapping[str, str]) -> Compared:
    """Pass only with the keys that the records name, and record those that none names yet; return what remains to say.

    Raises:
        KeyMissingError: A key is another one than recorded; nothing was added.
        LedgerUnavailableError: It could not be recorded.
    """
    found = require_same(log, own)
    if found.fresh:
        body = {"format": commitments.FORMAT, "keys": {name: own[name] for name in found.fresh}}
        (outcome,) = log.append([Entry.of(RECORDED, body, via=Via(door=_DOOR, uid=os.getuid()))])
        if not isinstance(outcome, Appended):
            raise outcome
        found = require_same(log, own)  # of two nodes that open at once, the first to record is right
    return found


def require_same(log: Log, own: Mapping[str, str]) -> Compared:
    """Pass only when no key is another one than recorded.

    Raises:
        KeyMissingError: One is.
    """
    found = compare(log, log.origin, own)
    if found.differing:
        names = ", ".join(found.differing)
        nodes = ", ".join(sorted(set(found.differing.values())))
        raise KeyMissingError(
            what=f"other keys than those of node {nodes}: {names}",
            why="callers would be refused here, and hashes of content could not be compared",
            fix=f"copy {names} from /etc/sealift/keys of node {nodes}, then start again; {_PAGE}: several nodes",
        )
    return found


def _known(records: Records, origin: str) -> dict[str, tuple[str, str]]:
    """Return commitment and node by the name of the file: as recorded first, or by the newest that made a version."""
    found: dict[str, tuple[str, str]] = {}
    leaves = (*_of(records, RECORDED, origin), *_of(records, ASKED, origin))
    for leaf in sorted(leaves, key=lambda one: one.sequence):
        # A later form is for a later release to read.
        if leaf.kind == RECORDED and leaf.via.door == _DOOR and leaf.body.get("format") == commitments.FORMAT:
            for name, value in _parsed(leaf.body.get("keys")).items():
                found.setdefault(name, (value, leaf.via.node))
        # A rotation whose record was not answered is taken back, and its number used again: also while a single node
        # answered, which says no commitment, so that the next node to open does.
        elif leaf.kind == ASKED and leaf.via.door == ACTIONS:
            made = f"{leaf.body.get('name')}.v{leaf.body.get('version')}"
            found.pop(made, None)
            told = _parsed({made: leaf.body.get(COMMITMENT)})
            found |= {name: (value, leaf.via.node) for name, value in told.items()}
    return found


def _parsed(untrusted: object) -> dict[str, str]:
    try:
        return commitments.from_json(untrusted)
    except MalformedError:
        return {}


def _destroyed(records: Records, origin: str) -> frozenset[str]:
    found = (leaf.body.get("files") for leaf in _of(records, _DESTROYED, origin) if leaf.via.door == ACTIONS)
    return frozenset(str(name) for names in found if isinstance(names, list) for name in names)


def _of(records: Records, kind: str, origin: str) -> list[Leaf]:
    return [leaf for leaf in records.find(kind=kind, limit=EVERY, newest_first=False) if leaf.origin == origin]
