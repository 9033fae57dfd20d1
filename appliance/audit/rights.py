"""Which door may append which kinds, and which users may stand at it. All doors may read.

Rights follow the socket that was connected to; the kernel's word on who connected (SO_PEERCRED) is checked besides.
Where the box's accounts do not exist (demo, rehearsal), only the ledger's own user may come in.
"""

import grp
import os
import pwd
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from appliance.errors import LedgerRefusedError
from appliance.stages import Stage
from appliance.wire import Peer

GATEWAY: Final = "ledger-gateway"
TEST_GATEWAY: Final = "ledger-test"
ADMIN: Final = "ledger-admin"
PROMOTER: Final = "ledger-promoter"
ACTIONS: Final = "ledger-actions"
BENCH: Final = "ledger-bench"
SWITCH: Final = "ledger-switch"
OPERATOR: Final = "ledger-operator"
METRICS: Final = "ledger-metrics"
SIEM: Final = "ledger-siem"
DOORS: Final = (GATEWAY, ADMIN, ACTIONS, PROMOTER, BENCH, SWITCH, OPERATOR, METRICS, SIEM, TEST_GATEWAY)
_OPERATORS: Final = "sealift-operators"

_OWN: Final = "ledger."
_GATEWAY_KINDS: Final = frozenset({"request.intent", "request.outcome", "request.refused", "request.feedback"})
# What of a list of names a node's gateway finds beside it; production's alone, where such a list is looked at.
_LOOKED: Final = "census.seen"
_BENCH_KINDS: Final = frozenset({"gate.result", "model.registered"})
# Reading is anybody's right at a door; that evidence was read or taken out is recorded by whoever did it.
_OPERATOR_KINDS: Final = frozenset(
    {"evidence.exported", "evidence.listed", "evidence.read", "evidence.reported", "stage.loaded", "stage.unloaded"}
)
_FAMILIES: Final = {
    ADMIN: ("admin.",),
    PROMOTER: ("person.", "approval.", "promotion.", "stop.", "emergency.", "automation."),
}
# Only the promoter knows what serves or may serve next, so it alone says that a version goes, or stays on hold.
_DELETION_KINDS: Final = ("model.deleted", "model.held", "model.hold-lifted")
# The page hands judgements in by the promoter, which checks the person's password; commands of root record them too.
_JUDGED: Final = "answers.judged"
_MORE_KINDS: Final = {PROMOTER: frozenset({*_DELETION_KINDS, _JUDGED}), ADMIN: frozenset({"evidence.read"})}
_TAKEN: Final = (
    _OWN,
    "request.",
    _LOOKED,
    *_DELETION_KINDS,
    *(family for families in _FAMILIES.values() for family in families),
)
_ACCOUNTS: Final = {
    GATEWAY: "sealift-gateway",
    TEST_GATEWAY: "sealift-gateway-test",
    ADMIN: "sealift-admin",
    PROMOTER: "sealift-promoter",
    BENCH: "sealift-bench",
    SWITCH: "sealift-switch",
    METRICS: "sealift-metrics",
    SIEM: "sealift-siem",
}
# After these the tree is signed at once: what they change must not wait for the hour.
_PRIVILEGED: Final = (
    "tls.",
    *("promotion.", "person.", "approval.", "trust.", "release.", "custody.", "model.", "key.", "install."),
    *("admin.", "export.", "backup.", "retire.", "standby.", "clock.", "network.", "stop.", _OWN),
    *("evidence.", "retention.", "erasure.", "review.", "emergency.", "stage.", "window.", "census."),
    *("automation.made", "automation.revoked"),
)
# Who may come in by the door of actions with their own families only.
RECEIVE_ACCOUNT: Final = "sealift-receive"
BACKUP_ACCOUNT: Final = "sealift-backup"
CLOCK_ACCOUNT: Final = "sealift-clock"
STANDBY_ACCOUNT: Final = "sealift-standby"
REVIEW_ACCOUNT: Final = "sealift-review"
NETWORK_ACCOUNT: Final = "sealift-network"
EXPORT_ACCOUNT: Final = "sealift-export"
CLOCK_SETTER_ACCOUNT: Final = "sealift-clock-set"
_OWN_FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    # It reads media that come from outside: what is found on them, and in the store, and what is made of records.
    RECEIVE_ACCOUNT: (
        *("release.", "custody.", "trust.", "medium.", "store.", "model.damaged", "model.sound"),
        *("export.", "evidence."),
    ),
    BACKUP_ACCOUNT: ("backup.",),
    CLOCK_ACCOUNT: ("clock.",),
    STANDBY_ACCOUNT: ("standby.",),
    REVIEW_ACCOUNT: ("review.",),
    NETWORK_ACCOUNT: ("network.",),
    # That one leaves; that one was made is recorded by whoever makes it.
    EXPORT_ACCOUNT: ("export.carried",),
    CLOCK_SETTER_ACCOUNT: ("clock.set",),
}


def require_may_append(door: str, kind: str) -> None:
    """Return when records of this kind may come through this door.

    Raises:
        LedgerRefusedError: They may not.
    """
    if door in {GATEWAY, TEST_GATEWAY}:
        allowed = kind in _GATEWAY_KINDS or (door == GATEWAY and kind == _LOOKED)
    elif door == BENCH:
        allowed = kind in _BENCH_KINDS
    elif door == OPERATOR:
        allowed = kind in _OPERATOR_KINDS
    elif door == ACTIONS:
        allowed = not kind.startswith(_TAKEN)
    else:
        more = _MORE_KINDS.get(door, frozenset())
        allowed = kind.startswith(_FAMILIES.get(door, ())) or kind in more
    if not allowed:
        raise LedgerRefusedError(
            what=f"records of kind {kind} may not come through the door {door}",
            why="each process records what it is there for",
            fix="report it: a fault of ours, or a misuse",
        )


def require_own_stage(door: str, kind: str, body: Mapping[str, Any]) -> None:
    """Return when a record of a request says the stage whose gateway stands at this door.

    Raises:
        LedgerRefusedError: What the test stage answered would pass for production's, or the other way round.
    """
    if not kind.startswith("request.") or (body.get("stage") == Stage.TEST) is (door == TEST_GATEWAY):
        return
    raise LedgerRefusedError(
        what=f"a record of kind {kind} names another stage than the door {door} serves",
        why="requests of the test stage are recorded as such, and no others",
        fix="report it: a fault of ours, or a misuse",
    )


def require_account_may(peer: Peer, kind: str) -> None:
    """Return when the user at the other end may append this kind through the door it stands at.

    Raises:
        LedgerRefusedError: The user is there for some families of records only, e.g. backups or the clock.
    """
    for account, families in _OWN_FAMILIES.items():
        if peer.uid == _uid(account) != os.getuid() and not kind.startswith(families):
            raise LedgerRefusedError(
                what=f"records of kind {kind} may not come from user {peer.uid}",
                why=f"{account} records {', '.join(f'{family}*' for family in families)} only",
                fix="report it: a fault of ours, or a misuse",
            )


def require_may_enter(peer: Peer) -> None:
    """Return when the user at the other end may use this door.

    Raises:
        LedgerRefusedError: The user may not.
    """
    allowed = {os.getuid(), _uid(_ACCOUNTS.get(peer.door, ""))}
    if peer.door == ACTIONS:
        allowed |= {0, *map(_uid, _OWN_FAMILIES)}
    if peer.door == OPERATOR:
        allowed |= {0}
    if peer.uid not in allowed and not (peer.door == OPERATOR and _is_operator(peer.uid)):
        raise LedgerRefusedError(
            what=f"user {peer.uid} may not use the door {peer.door}",
            why="the socket's owner and this rule disagree",
            fix="check the socket's owner and mode",
        )


def require_is_one_of(peer: Peer, *, account: str, operators: bool = False) -> None:
    """Return when the user at another service's door is its own, or that service's, or one of the people it is for.

    Args:
        peer: Who speaks, as the kernel says.
        account: Whose door it is; empty for none.
        operators: Whether root and the operators may stand there.

    Raises:
        LedgerRefusedError: The user may not.
    """
    allowed = {os.getuid(), _uid(account), *({0} if operators else set())}
    if peer.uid not in allowed and not (operators and _is_operator(peer.uid)):
        raise LedgerRefusedError(
            what=f"user {peer.uid} may not use the door {peer.door}",
            why="the socket's owner and this rule disagree",
            fix="check the socket's owner and mode",
        )


def is_privileged(kind: str) -> bool:
    """Tell whether a record of this kind is followed by a signed checkpoint at once."""
    return kind.startswith(_PRIVILEGED)


def _is_operator(uid: int) -> bool:
    try:
        account, group = pwd.getpwuid(uid), grp.getgrnam(_OPERATORS).gr_gid
    except KeyError:
        return False
    return group in os.getgrouplist(account.pw_name, account.pw_gid)


@cache
def _uid(account: str) -> int:
    try:
        return pwd.getpwnam(account).pw_uid
    except KeyError:
        return -1
