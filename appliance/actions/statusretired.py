"""What the status says of a box that was retired, or of a retirement that was cut off; of any other nothing.

Its services answer from the keys in their memory until somebody stops them, so nothing else would show it.
"""

from typing import Final

from appliance.actions.retiring_scope import Scope
from appliance.actions.statusledger import StatusLedger
from appliance.actions.statuspart import Part
from appliance.audit.facts import EVERY, Ledger
from appliance.audit.leaf import Leaf
from appliance.audit.lives import STARTED
from appliance.config import Config
from media.errors import SealiftError

NAME: Final = "retirement"
_STOP: Final = "systemctl disable sealift.target; systemctl stop sealift.target 'sealift-*'"


def standing(config: Config, asked: StatusLedger) -> Part | None:
    """Return the part; None where no retirement began here, or the ledger cannot be asked, which says so itself."""
    try:
        ledger = asked.ask()
        for typed in dict.fromkeys(("", config.database.node)):
            scope = Scope.of(config, typed)
            ended = scope.ended(ledger)
            if ended is not None and not _came_back(ledger, scope, ended):
                return _part(config, ended, is_over=True)
            if ended is None and (begun := scope.began(ledger)) is not None:
                return _part(config, begun, is_over=False)
    except (SealiftError, PermissionError):
        return None
    return None


def _came_back(ledger: Ledger, scope: Scope, ended: Leaf) -> bool:
    """Tell whether another machine of this node's name started since; without its keys the retired one cannot."""
    if scope.is_site:
        return False
    starts = ledger.find(kind=STARTED, limit=EVERY)
    return any(leaf.via.node == scope.node and leaf.sequence > ended.sequence for leaf in starts)


def _part(config: Config, told: Leaf, *, is_over: bool) -> Part:
    node = str(told.body.get("node", ""))
    what = f"node {node} of {config.site}" if node else config.site
    people = " and ".join(str(each["name"]) for each in told.body["by"])
    fields = {"retired": is_over, "at": told.time, "reason": told.body["reason"], **({"node": node} if node else {})}
    if is_over:
        text = f"{what} was retired at {told.time} by {people}: its keys are destroyed; what still answers: {_STOP}"
    else:
        text = f"{what}: begun at {told.time} by {people} and not ended: the same `sealift retire` goes on"
    return Part(name=NAME, is_good=False, text=text, fields=fields)
