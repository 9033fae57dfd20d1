import os

import pytest

from appliance.audit import rights
from appliance.audit.rights import (
    ACTIONS,
    ADMIN,
    BENCH,
    DOORS,
    GATEWAY,
    METRICS,
    OPERATOR,
    PROMOTER,
    SIEM,
    SWITCH,
    TEST_GATEWAY,
    is_privileged,
    require_may_append,
    require_may_enter,
    require_own_stage,
)
from appliance.errors import LedgerRefusedError
from appliance.wire import Peer

ALLOWED = {
    GATEWAY: {"request.intent", "request.outcome", "request.refused"},
    ADMIN: {"admin.login", "admin.logout", "evidence.read"},
    PROMOTER: {"person.enrolled", "approval.given", "promotion.made", "promotion.requested", "promotion.stopped"},
    ACTIONS: {
        "evidence.exported",
        "evidence.listed",
        "evidence.read",
        "evidence.reported",
        "release.received",
        "custody.accepted",
        "trust.rotated",
        "model.registered",
        "gate.result",
        "key.created",
        "stage.loaded",
        "stage.unloaded",
    },
    BENCH: {"gate.result", "model.registered"},
    SWITCH: set(),
    OPERATOR: {
        "evidence.exported",
        "evidence.listed",
        "evidence.read",
        "evidence.reported",
        "stage.loaded",
        "stage.unloaded",
    },
    METRICS: set(),
    SIEM: set(),
    TEST_GATEWAY: {"request.intent", "request.outcome", "request.refused"},
}
NOBODYS = {"ledger.opened", "ledger.started", "request.other"}
KINDS = sorted({kind for kinds in ALLOWED.values() for kind in kinds} | NOBODYS)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_door_takes_its_own_kinds_and_no_other(door: str, kind: str) -> None:
    if kind in ALLOWED[door]:
        require_may_append(door, kind)
        return

    with pytest.raises(LedgerRefusedError, match=kind):
        require_may_append(door, kind)


@pytest.mark.parametrize("kind", ["request.intent", "request.outcome", "request.refused", "request.feedback"])
def test_what_one_stage_answered_cannot_be_recorded_as_the_others(kind: str) -> None:
    require_own_stage(TEST_GATEWAY, kind, {"stage": "test"})
    require_own_stage(GATEWAY, kind, {})
    require_own_stage(ACTIONS, "stage.loaded", {"stage": "test"})

    for door, body in ((TEST_GATEWAY, {}), (TEST_GATEWAY, {"stage": "production"}), (GATEWAY, {"stage": "test"})):
        with pytest.raises(LedgerRefusedError, match="another stage"):
            require_own_stage(door, kind, body)


def test_an_unknown_door_takes_nothing() -> None:
    for kind in KINDS:
        with pytest.raises(LedgerRefusedError):
            require_may_append("ledger-back", kind)


@pytest.mark.parametrize("door", DOORS)
def test_only_the_ledgers_own_user_enters_where_the_accounts_do_not_exist(door: str) -> None:
    require_may_enter(Peer(door=door, pid=1, uid=os.getuid(), gid=0))

    with pytest.raises(LedgerRefusedError):
        require_may_enter(Peer(door=door, pid=1, uid=54321, gid=0))


def test_root_may_use_the_door_of_actions() -> None:
    require_may_enter(Peer(door=ACTIONS, pid=1, uid=0, gid=0))


def test_what_changes_what_is_trusted_or_served_is_signed_at_once() -> None:
    assert is_privileged("promotion.made")
    assert is_privileged("trust.rotated")
    assert not is_privileged("request.intent")


def test_members_of_the_group_of_operators_and_root_use_the_door_of_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "_is_operator", lambda uid: uid == 54321)

    require_may_enter(Peer(door=OPERATOR, pid=1, uid=54321, gid=0))
    require_may_enter(Peer(door=OPERATOR, pid=1, uid=0, gid=0))
    for door in set(DOORS) - {OPERATOR}:
        with pytest.raises(LedgerRefusedError):
            require_may_enter(Peer(door=door, pid=1, uid=54321, gid=0))


def test_what_tells_monitoring_comes_in_by_its_own_door_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "_uid", lambda account: 777 if account == "sealift-metrics" else -1)

    require_may_enter(Peer(door=METRICS, pid=1, uid=777, gid=777))

    for door in set(DOORS) - {METRICS}:
        with pytest.raises(LedgerRefusedError):
            require_may_enter(Peer(door=door, pid=1, uid=777, gid=777))


@pytest.mark.parametrize(
    ("account", "own"),
    [
        (rights.NETWORK_ACCOUNT, "network.tested"),
        (rights.EXPORT_ACCOUNT, "export.carried"),
        (rights.CLOCK_SETTER_ACCOUNT, "clock.set"),
    ],
)
def test_some_come_in_by_the_door_of_actions_and_record_what_they_are_there_for_alone(
    monkeypatch: pytest.MonkeyPatch, account: str, own: str
) -> None:
    monkeypatch.setattr(rights, "_uid", lambda name: 778 if name == account else -1)
    peer = Peer(door=ACTIONS, pid=1, uid=778, gid=778)

    require_may_enter(peer)
    rights.require_account_may(peer, own)

    # That an EXPORT was made is what lets one leave, so what carries it cannot say that.
    for kind in ("install.done", "standby.took-over", "trust.rotated", "export.written"):
        with pytest.raises(LedgerRefusedError, match="may not come from user"):
            rights.require_account_may(peer, kind)
    for door in set(DOORS) - {ACTIONS}:
        with pytest.raises(LedgerRefusedError):
            require_may_enter(Peer(door=door, pid=1, uid=778, gid=778))


def test_who_reads_media_records_what_was_found_on_them_and_nothing_that_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scenario: a medium takes the copier over; it lifts a legal hold, passes a gate, or ends a key."""
    monkeypatch.setattr(rights, "_uid", lambda name: 778 if name == rights.RECEIVE_ACCOUNT else -1)
    peer = Peer(door=ACTIONS, pid=1, uid=778, gid=778)

    require_may_enter(peer)
    for kind in (
        *("release.received", "release.refused", "custody.rejected", "trust.root-rotated", "trust.doubted"),
        *("medium.arrived", "medium.refused", "store.scrubbed", "store.set-aside", "model.damaged", "model.sound"),
        *("export.receipt", "export.written", "evidence.proven", "evidence.reported"),
    ):
        rights.require_account_may(peer, kind)

    for kind in (
        *("retention.released", "retention.expiring", "erasure.done", "review.read", "gate.result", "key.created"),
        *("key.revoked", "key.destroyed", "model.registered", "stage.loaded", "backup.made", "clock.set"),
        *("install.done", "standby.taken-over", "retire.done", "tls.revoked", "window.opened", "census.imported"),
    ):
        with pytest.raises(LedgerRefusedError, match="may not come from user"):
            rights.require_account_may(peer, kind)
