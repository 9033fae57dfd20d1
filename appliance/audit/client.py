"""The ways into the ledger: `open_ledger` for commands, `SocketLedger` for services that outlive a ledger's restart.

Callers code against `Ledger` and its facts, which are re-exported here.
"""

from appliance.audit.facts import Appended, ConsistencyProof, InclusionProof, Ledger, TreeHead
from appliance.audit.leaf import Leaf, Via
from appliance.audit.offline import OfflineLedger
from appliance.audit.socket_ledger import SocketLedger
from appliance.config import Config
from appliance.errors import LedgerUnavailableError
from media.clock import Clock, SystemClock

__all__ = [
    "Appended",
    "ConsistencyProof",
    "InclusionProof",
    "Leaf",
    "Ledger",
    "OfflineLedger",
    "SocketLedger",
    "TreeHead",
    "Via",
    "open_ledger",
]


def open_ledger(
    config: Config, door: str, *, spool: bool = False, clock: Clock | None = None
) -> SocketLedger | OfflineLedger:
    """Return the ledger through its door, or read-only from its file when nobody answers there.

    Args:
        config: The site file.
        door: One of `appliance.audit.rights.DOORS`.
        spool: While nobody answers, keep facts of receiving for the ledger's next start instead of failing.
        clock: For the times of spooled facts.
    """
    through_door = SocketLedger(config.at.socket(door))
    try:
        through_door.head()
    except LedgerUnavailableError:
        through_door.close()
        return OfflineLedger(config.at, clock=clock or SystemClock(), spool=spool)
    return through_door
