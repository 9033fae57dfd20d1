"""Who may let leave what was drawn from the audit record: evidence and figures, by the roles that the site names.

`media.auditors` of the site file names roles of the site's people. What the sender needs for the next medium (receipt,
inventory, probe) is carried by whoever may ask for jobs. By itself the key names every role, so nobody is refused.

Promises: a person's roles are those of the promoter's list as it is now; who a person on the page is, the page says, as
in every job. At the machine a member of the group sealift-operators counts as an operator and as nothing else. Root is
refused nothing. A refusal is recorded.
"""

import os
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import PrivilegeError
from appliance.install import jobrights
from appliance.install.decided import EXPORTED
from appliance.install.jobs import Job, Kind
from appliance.promote import people
from appliance.promote.folder import PromoterFolder
from appliance.wire import Peer
from media.errors import SealiftError

REFUSED: Final = "job.refused"
DRAWN: Final = frozenset({"evidence", "figures"})
"""Types of EXPORT that are drawn from the audit record."""


def needed(config: Config, kind: str) -> tuple[str, ...]:
    """Return the roles of which a person has one to let an EXPORT of this type leave; empty where each will do."""
    named = tuple(config.media.auditors)
    return named if kind in DRAWN and not set(people.ROLES) <= set(named) else ()


def lacks(config: Config, kind: str, roles: Collection[str]) -> tuple[str, ...]:
    """Return of which roles somebody with these needs one, and has none; empty where they may."""
    wanted = needed(config, kind)
    return () if set(wanted) & set(roles) else wanted


def either(roles: Collection[str]) -> str:
    """Return in words that it takes one of these."""
    return " or ".join(f"an {role}" for role in roles)


def require_may_let_leave(config: Config, ledger: Ledger, peer: Peer, job: Job) -> None:
    """Return when who asks may have evidence made, or it or figures written to a medium; other jobs are not judged.

    Raises:
        ConflictError, MalformedError: The list of people is damaged.
        LedgerUnavailableError: What type an EXPORT is of cannot be known.
        PrivilegeError: They have none of the roles; it is recorded.
    """
    kind = _type_of(ledger, job)
    if not needed(config, kind):
        return
    roles = _roles(config, peer, job.person)
    wanted = lacks(config, kind, roles)
    if not wanted:
        return
    account = jobrights.account_of(peer)
    with suppress(SealiftError):  # nothing is let out because it cannot be written down
        body = {**job.to_json(), "account": account, "door": peer.door, "type": kind, "needs": list(wanted)}
        ledger.append(REFUSED, body)
    raise PrivilegeError(
        what=f"it takes {either(wanted)} to let {kind} leave",
        why=f"roles of {job.person if peer.door == jobrights.ADMIN else account}: {', '.join(roles) or 'none'}",
        fix=f"let {either(wanted)} do it on the page, or root at the machine; see `media.auditors`",
    )


def _type_of(ledger: Ledger, job: Job) -> str:
    if job.kind is Kind.MAKE_EVIDENCE:
        return "evidence"
    if job.kind is not Kind.CARRY_EXPORT:
        return ""
    found = ledger.find(kind=EXPORTED, field="sha256", value=job.digest, limit=1)
    return str(found[0].body.get("type")) if found else ""


def _roles(config: Config, peer: Peer, person: str) -> tuple[str, ...]:
    if peer.door == jobrights.ADMIN:
        active = PromoterFolder(config.at.promoter).people().active
        return next((one.roles for one in active if one.id == person), ())
    return people.ROLES if _is_root(peer) else (people.OPERATOR,)


def _is_root(peer: Peer) -> bool:
    return peer.uid in {0, os.getuid()}  # the job service is root on a box, and its own user elsewhere
