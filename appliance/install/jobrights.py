"""Who may ask for which jobs: by the door that was connected to, and by the user the kernel names besides.

Doors are sockets with groups of their own. Where the box's accounts do not exist (demo, rehearsal), only the service's
own user may come in, through any door.
"""

import grp
import os
import pwd
from typing import Final

from appliance.audit.rights import CLOCK_SETTER_ACCOUNT
from appliance.errors import PrivilegeError
from appliance.install.exported import WRITER
from appliance.install.jobs import WINDOWS, Kind, Lane
from appliance.wire import Peer

ADMIN: Final = "jobs-admin"
OPERATOR: Final = "jobs-operator"
BENCH: Final = "jobs-bench"
SWITCH: Final = "jobs-switch"
RECEIVE: Final = "jobs-receive"
DOORS: Final = (ADMIN, OPERATOR, BENCH, SWITCH, RECEIVE)
OPERATORS: Final = "sealift-operators"

_PEOPLE: Final = frozenset(
    {Kind.VALIDATE, Kind.SWITCH, Kind.SWITCH_WARM, Kind.HALT, Kind.PLAN, Kind.INSTALL, Kind.SET_CLOCK} | {Kind.ROTATE}
)
# At the machine: whoever opens one sees what becomes of it.
_WINDOWS: Final = frozenset({*WINDOWS, Kind.END_WINDOW})
_MEDIA: Final = frozenset({Kind.RECEIVE, Kind.EJECT, Kind.MAKE_EVIDENCE, Kind.CARRY_EXPORT, Kind.REPORT, Kind.PROVE})
_TESTED: Final = frozenset({Kind.START_TEST, Kind.STOP_TEST, Kind.KILL_TEST})
_MAY_ASK: Final = {
    ADMIN: _PEOPLE | _MEDIA,
    OPERATOR: _PEOPLE | _MEDIA | _TESTED | _WINDOWS,
    BENCH: _TESTED,
    SWITCH: frozenset({Kind.START_PRODUCTION, Kind.STOP_PRODUCTION}),
}
_ACCOUNTS: Final = {
    ADMIN: ("sealift-admin",),
    BENCH: ("sealift-bench",),
    SWITCH: ("sealift-switch",),
    RECEIVE: ("sealift-receive", WRITER, CLOCK_SETTER_ACCOUNT),
}
_REPORTS: Final = {BENCH: Lane.BENCH, SWITCH: Lane.PRODUCTION, RECEIVE: Lane.MEDIA}
_READERS: Final = frozenset({ADMIN, OPERATOR})


def require_may_enter(peer: Peer) -> None:
    """Return when the user at the other end may use the door at all.

    Raises:
        PrivilegeError: The user may not.
    """
    own = os.getuid()
    allowed = peer.uid == own or (peer.door == OPERATOR and (peer.uid == 0 or _is_operator(peer.uid)))
    if not allowed and peer.uid not in {_uid(account) for account in _ACCOUNTS.get(peer.door, ())}:
        raise _refused(peer, "use this door")


def require_may_ask(peer: Peer, kind: Kind) -> None:
    """Return when jobs of this kind may be asked here.

    Raises:
        PrivilegeError: They may not.
    """
    if kind not in _MAY_ASK.get(peer.door, frozenset()):
        raise _refused(peer, f"ask for {kind}")


def require_may_read(peer: Peer) -> None:
    """Return when jobs and what they found may be read here: by people, not by the units that carry jobs out.

    The one unit that may is what writes an EXPORT: its instance says which medium, and the job which export.

    Raises:
        PrivilegeError: They may not.
    """
    if peer.door not in _READERS and not (peer.door == RECEIVE and peer.uid in {os.getuid(), _uid(WRITER)}):
        raise _refused(peer, "read jobs")


def lane_of(peer: Peer) -> Lane:
    """Return the lane whose running job this peer carries out and may tell about.

    Raises:
        PrivilegeError: It carries none out.
    """
    if (peer.door == OPERATOR and peer.uid in {0, os.getuid()}) or _sets_clock(peer):
        return Lane.HOST
    found = _REPORTS.get(peer.door)
    if found is None:
        raise _refused(peer, "tell how a job goes")
    return found


def require_may_tell(peer: Peer, kind: Kind) -> None:
    """Return when this peer may tell how a job of this kind goes, of those in its lane.

    Raises:
        PrivilegeError: It sets the clock, and this is another job.
    """
    if _sets_clock(peer) and kind is not Kind.SET_CLOCK:
        raise _refused(peer, f"tell how {kind} goes")


def account_of(peer: Peer) -> str:
    """Return the name of the user at the other end, as the ledger keeps it."""
    try:
        return pwd.getpwuid(peer.uid).pw_name
    except KeyError:
        return str(peer.uid)


def _sets_clock(peer: Peer) -> bool:
    return peer.door == RECEIVE and peer.uid == _uid(CLOCK_SETTER_ACCOUNT) != os.getuid()


def _is_operator(uid: int) -> bool:
    try:
        account = pwd.getpwuid(uid)
        group = grp.getgrnam(OPERATORS).gr_gid
    except KeyError:
        return False
    return group in os.getgrouplist(account.pw_name, account.pw_gid)


def _uid(account: str) -> int:
    try:
        return pwd.getpwnam(account).pw_uid
    except KeyError:
        return -1


def _refused(peer: Peer, what: str) -> PrivilegeError:
    return PrivilegeError(
        what=f"user {peer.uid} may not {what} through {peer.door}",
        why="each door serves one kind of asker",
        fix="ask as a member of the group sealift-operators, or on the admin page",
    )
