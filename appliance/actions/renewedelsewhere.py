"""Whether a version of a key is another node's: two that make one each have two keys under one name and number.

Records that each made with its own could not be matched by the other one, and the node that renewed the key first would
not start again, since the newest record of a version counts.
"""

from appliance.audit import rotating
from appliance.audit.facts import EVERY, Ledger
from appliance.audit.postgres_sharing import nodes_of
from appliance.config import Config
from appliance.errors import ConflictError


def elsewhere(ledger: Ledger, name: str, *, newest: int, node: str) -> str:
    """Return the node that renewed a key last, where its version is not here yet; empty where it is, or this node did.

    Args:
        ledger: Knows who renewed it in this epoch.
        name: The key's.
        newest: The newest version here.
        node: This node's name; empty where a single one answers.

    Raises:
        LedgerUnavailableError: It does not answer.
    """
    if not node:
        return ""
    origin = ledger.head().origin
    renewed = ledger.find(rotating.ASKED, field="name", value=name, limit=EVERY)
    last = next((leaf for leaf in renewed if leaf.origin == origin), None)
    if last is None or last.via.node == node or int(last.body["version"]) <= newest:
        return ""
    return last.via.node


def require_own(config: Config, ledger: Ledger, name: str, *, newest: int) -> None:
    """Return unless a node that is there has a newer version of a key; one that is gone for good holds nobody up.

    Raises:
        ConflictError: One has.
        LedgerUnavailableError: The ledger does not answer, or the server cannot be asked who is there.
    """
    other = elsewhere(ledger, name, newest=newest, node=config.database.node)
    if other and any(one.name == other for one in nodes_of(config.at)):
        raise ConflictError(what=f"a newer version of {name} is on node {other}", why=_WHY, fix=fix(other))


def fix(other: str) -> str:
    """Return what a person does where a node has a newer version."""
    return f"copy it from /etc/sealift/keys of node {other}, then `sealift box-keys complete`"


_WHY = "another one under its number would match nothing that it hashed, and open nothing that it sealed"
