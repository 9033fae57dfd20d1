"""Closing the window of a node that is gone for good, which would keep every further one from opening.

Promises: it is closed while that node neither has the ledger open nor can open it, which the database server decides;
where the server cannot be asked, nothing is closed. The record says who closed it and why.
"""

from appliance.audit.facts import Ledger
from appliance.audit.postgres_sharing import held_out
from appliance.config import Config
from appliance.errors import ConflictError
from appliance.promote.enrolment import require_reason
from appliance.promote.folder import PromoterFolder
from appliance.registry import windows
from appliance.registry.windows import Closing, Ended, Purpose, Window
from media.errors import UsageError


def end(config: Config, ledger: Ledger, *, node: str, person: str, reason: str) -> Window:
    """Close the window that is open on another node; return it.

    Args:
        config: Of a node among several.
        ledger: Where windows are recorded.
        node: Whose window it is.
        person: Who closes it.
        reason: Why.

    Raises:
        UsageError: No reason is given, a single node answers here, or it is this node.
        ConflictError: That node has no window open, or it has the ledger open and ends its window itself.
        LedgerUnavailableError: The database server or the ledger does not answer; nothing was closed.
    """
    require_reason(reason)
    if config.at.server is None or not config.database.node or node == config.database.node:
        raise UsageError(
            what=f"{node[:40]!r} is no other node",
            why="the window of this one is ended here",
            fix="`sealift window end --as PERSON`",
        )
    with held_out(config.at, node):
        window = windows.opened(ledger)
        if window is None or window.node != node:
            raise ConflictError(what=f"node {node[:40]} has no window open", why="", fix="see `sealift window show`")
        is_forward = PromoterFolder(config.at.promoter).production().serves(window.model_digest)
        windows.close(
            ledger,
            window,
            why=Closing.GONE,
            cut_over=window.purpose is Purpose.CUT_OVER and is_forward,
            ended=Ended(person=person, reason=reason),
        )
    return window
