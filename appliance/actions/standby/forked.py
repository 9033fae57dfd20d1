"""Whether this box still is the one that a paired box mirrored: else its disk was put back, or its ledger was cut.

Each box records of every bundle that it took which tree of the other one it holds now (`standby.imported`: size and
root). That record comes back in the mirror of its ledger, so a box that lost records learns it from there, by itself,
over the network as by medium, and also once its new history is longer than the one that was lost.
"""

from typing import Final

from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.standby import mirror, whole
from appliance.standby.pairing import Paired
from media import canonical
from media.clock import Clock

IMPORTED: Final = "standby.imported"


def require_whole(config: Config, pair: Paired, ledger: Ledger, *, clock: Clock, holds: int = 0) -> None:
    """Return while this ledger contains the newest tree of it that the other box says it holds.

    Args:
        config: The site file.
        pair: With the other box.
        ledger: This box's own.
        clock: That the mirror is opened with.
        holds: How many records of it the other box just said that it holds.

    Raises:
        LedgerDamagedError: The mirror of the other box is damaged.
        LedgerUnavailableError: This box's ledger does not answer, or that mirror cannot be read.
        MalformedError: What the other box recorded of this one is of another shape.
        PairingRefusedError: It does not: this box lost records.
    """
    size, root = _held(config, pair, clock)
    for one, over in ((holds, ""), (size, root)):
        if why := whole.lacks(ledger, size=one, root=over):
            raise whole.lost(pair.peer.name, why)


def _held(config: Config, pair: Paired, clock: Clock) -> tuple[int, str]:
    """Return size and root of this box's ledger as the other box recorded them last; 0 where it never did."""
    if not mirror.is_begun(config.at, pair.peer):
        return 0, ""  # nothing was ever brought
    copy = mirror.reader(config.at, pair.peer, clock=clock)
    found = copy.find(kind=IMPORTED, field="sender", value=pair.own.origin, limit=1)
    if not found:
        return 0, ""
    untrusted = found[0].body
    size = canonical.integer(untrusted.get("size"), f"{IMPORTED}.size")
    return size, canonical.sha256_hex(untrusted.get("root"), f"{IMPORTED}.root")
