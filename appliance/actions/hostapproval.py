"""One person says yes to a change of the host: the plan is read by its digest, shown whole, and signed.

Promises: what is shown is what the digest names, hashed again here; the private key is used by GnuPG, never read; the
promoter verifies what comes out.
"""

from collections.abc import Callable

from appliance.actions.production import Proofs
from appliance.actions.ways import Way
from appliance.config import Config
from appliance.errors import ApprovalRefusedError, HostChangeError
from appliance.install import plans
from appliance.install.plans import Plan
from appliance.promote.client import PromoterClient
from appliance.promote.hostchange import HostRequest
from media.clock import to_text

_SHORTEST = 6


def approve(
    config: Config,
    promoter: PromoterClient,
    untrusted_plan: str,
    *,
    person: str,
    way: Way,
    agrees: Callable[[str], bool],
    source: Proofs | None = None,
) -> HostRequest:
    """Show the plan that waits, and sign its statement when the person agrees.

    Args:
        config: The site file.
        promoter: Where the statement waits.
        untrusted_plan: The plan's digest, or its beginning.
        person: Who approves, by id.
        way: How the person approves.
        agrees: Shows the text and returns the answer.
        source: Where the plan is read by who may not read the box's folders.

    Raises:
        HostChangeError: No such plan waits, or it is about something else than its statement.
        ApprovalRefusedError: The person did not agree.
        UnknownPersonError: Nobody of that id is enrolled, or has what this way takes; said before anything is shown.
        RemoteError: The promoter refused the signature.
    """
    way.require(promoter, person)
    request = _waiting(promoter, untrusted_plan)
    statement = request.statement
    plan = (
        plans.read(config.at, statement.plan_digest)
        if source is None
        else Plan.from_bytes(source.text("plan", statement.plan_digest))
    )
    if (plan.serial, plan.site) != (statement.serial, statement.site):
        raise HostChangeError(
            what="the statement is not about its plan", why="site or serial differ", fix="do not approve; ask who asked"
        )
    head = (
        f"Meaning      {statement.meaning}\n"
        f"Requested    by {statement.requested_by}, {to_text(statement.requested_at)}\n"
        f"Expires      {to_text(statement.expires)}\n"
        f"Approved     {', '.join(one.shown for one in request.approvals) or 'by nobody yet'}\n"
    )
    if not agrees(head + plan.to_text()):
        raise ApprovalRefusedError(what="nothing was signed", why="you did not agree", fix="run the command again")
    return promoter.approve_host(statement.sha256, way.present(promoter, person, statement.to_bytes()))


def _waiting(promoter: PromoterClient, untrusted_plan: str) -> HostRequest:
    found = [one for one in promoter.pending_hosts() if one.statement.plan_digest.startswith(untrusted_plan)]
    if not found or len(untrusted_plan) < _SHORTEST:
        raise HostChangeError(
            what=f"no change of the host {ascii(untrusted_plan)[:40]} waits",
            why=f"give {_SHORTEST} or more digits of a plan's digest",
            fix="see `sealift host list`",
        )
    return found[-1]
