"""The ways into the ledger: `open_ledger` for commands, `SocketLedger` for services that outlive a ledger's restart.

Callers code against `Ledger` and its facts, which are re-exported here.
"""

from appliance.audit.facts import Appended, ConsistencyProof, InclusionProof, Ledger, TreeHead
from appliance.audit.leaf import Leaf, Via
from appliance.audit.offline import OfflineLedger
from appliance.audit.socket_ledger import TIMEOUT_SECONDS, SocketLedger
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
    config: Config,
    door: str,
    *,
    spool: bool = False,
    clock: Clock | None = None,
    patience_seconds: float = TIMEOUT_SECONDS,
) -> SocketLedger | OfflineLedger:
    """Return the ledger through its door, or read-only from its file when nobody answers there.

    Args:
        config: The site file.
        door: One of `appliance.audit.rights.DOORS`.
        spool: While nobody answers, keep facts of receiving for the ledger's next start instead of failing.
        clock: For the times of spooled facts.
        patience_seconds: How long nobody may answer at the door; later questions have the usual time.
    """
    first = SocketLedger(config.at.socket(door), timeout_seconds=patience_seconds)
    try:
        first.head()
    except LedgerUnavailableError:
        first.close()
        return OfflineLedger(config.at, clock=clock or SystemClock(), spool=spool)
    if patience_seconds == TIMEOUT_SECONDS:
        return first
    first.close()
    return SocketLedger(config.at.socket(door))
