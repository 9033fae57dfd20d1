"""What a retirement ends: the site, or one node of several, whose records say so and name no key of the others.

A node's retirement has records of its own (`retire.node-…`), each with the node it came by: that a key went there is
no word about the same key on another node, nor about what backups hold. The site ends with its last node.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.actions.backups import erasures
from appliance.audit.facts import EVERY, Ledger
from appliance.audit.leaf import Leaf
from appliance.audit.lives import STARTED
from appliance.audit.postgres_sharing import held_out, nodes_of
from appliance.config import Config
from appliance.errors import ConflictError
from media.errors import UsageError

BEGUN: Final = "retire.begun"
DONE: Final = "retire.done"
NODE_BEGUN: Final = "retire.node-begun"
NODE_KEY: Final = "retire.node-key"
NODE_DONE: Final = "retire.node-done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The records of a retirement.

    Attributes:
        node: Whose they are; empty where a single node answers.
        is_site: Whether the site ends.
        begun: The kind of the first record.
        destroyed: The kind of the record of each key.
        done: The kind of the last one.
    """

    node: str
    is_site: bool
    begun: str
    destroyed: str
    done: str

    @classmethod
    def of(cls, config: Config, typed: str) -> "Scope":
        """Return what is retired here: this node where its name was typed, or the site.

        Raises:
            UsageError: Another name was typed than this node's.
        """
        own = config.database.node
        if typed and typed != own:
            raise UsageError(
                what=f"{typed[:40]!r} is not the name of this node",
                why=f"it is called {own}" if own else "a single node answers for this site",
                fix="run it on the node that goes" if own else "leave --node out: the box is the site",
            )
        if typed:
            return cls(node=own, is_site=False, begun=NODE_BEGUN, destroyed=NODE_KEY, done=NODE_DONE)
        return cls(node=own, is_site=True, begun=BEGUN, destroyed=erasures.DESTROYED, done=DONE)

    @property
    def named(self) -> dict[str, str]:
        """What its records say of the node; nothing of a site."""
        return {} if self.is_site else {"node": self.node}

    def began(self, ledger: Ledger) -> Leaf | None:
        """Return the first record of the retirement that goes on here; None where none was begun, or it ended."""
        begun, ended = self._newest(ledger, self.begun), self._newest(ledger, self.done)
        # A node that was retired may come back as another machine of its name, and go once more.
        is_over = begun is not None and ended is not None and ended.sequence > begun.sequence
        return None if is_over and not self.is_site else begun

    def ended(self, ledger: Ledger) -> Leaf | None:
        """Return the last record of a retirement that ended here; None where none did, or another one was begun."""
        begun, ended = self._newest(ledger, self.begun), self._newest(ledger, self.done)
        return None if ended is None or (begun is not None and begun.sequence > ended.sequence) else ended

    def keys(self, ledger: Ledger) -> list[Leaf]:
        """Return the records of the keys that are gone, oldest first: of a node, those of this retirement."""
        found = ledger.find(kind=self.destroyed, limit=EVERY, newest_first=False)
        since = None if self.is_site else self._newest(ledger, self.begun)
        return [leaf for leaf in found if since is None or (self._is_own(leaf) and leaf.sequence > since.sequence)]

    def _newest(self, ledger: Ledger, kind: str) -> Leaf | None:
        return next((leaf for leaf in ledger.find(kind=kind, limit=EVERY) if self._is_own(leaf)), None)

    def _is_own(self, leaf: Leaf) -> bool:
        return leaf.via.is_of(self.node)


def require_may_end(config: Config, ledger: Ledger, scope: Scope, gone: Sequence[str]) -> None:
    """Return when no other node is told that keys are gone which it still has.

    Args:
        config: The site file.
        ledger: Knows which nodes there were, and which were retired.
        scope: What is to end.
        gone: Nodes of which people say that their keys went with their machines.

    Raises:
        ConflictError: The site is to end while another node has its keys, or one node while it is the last.
        LedgerUnavailableError: The database server cannot be asked who is there.
        UsageError: A node is named as gone that is not one of the others.
    """
    if not scope.node or config.at.server is None:
        if gone:
            raise UsageError(what="--gone names a node", why="a single node answers for this site", fix="leave it out")
        return
    others = _others(config, ledger)
    if strange := sorted(set(gone) - others):
        raise UsageError(
            what=f"{', '.join(strange)[:80]} is no other node that has keys",
            why=f"those are {', '.join(sorted(others)) or 'none'}",
            fix="leave it out",
        )
    for name in gone:
        with held_out(config.at, name):
            pass
    left = sorted(others - set(gone))
    if scope.is_site and left:
        raise ConflictError(
            what=f"other nodes of this site have the same keys: {', '.join(left)}",
            why="the records would say of these keys that they are destroyed",
            fix=f"for this node alone add --node {scope.node}; the last node ends the site. Of one that is gone for"
            " good: --gone NAME",
        )
    if not scope.is_site and not left:
        raise ConflictError(
            what=f"{scope.node} is the last node",
            why="with it the keys of the site go, and the records have to say so",
            fix="leave --node out",
        )


def _others(config: Config, ledger: Ledger) -> frozenset[str]:
    """Return the other nodes that may have keys: those that are there, and those that started and were not retired."""
    found = {one.name for one in nodes_of(config.at)}
    retired: dict[str, int] = {}
    for leaf in ledger.find(kind=NODE_DONE, limit=EVERY):
        retired.setdefault(leaf.via.node, leaf.sequence)
    for start in ledger.find(kind=STARTED, limit=EVERY):
        if start.via.node and start.sequence > retired.get(start.via.node, -1):
            found.add(start.via.node)
    return frozenset(found - {config.database.node})
