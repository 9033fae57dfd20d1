"""The ledger's word on who speaks: told once, to root alone, of exactly whoever asked for it."""

import os

import pytest

from appliance.audit.client import SocketLedger
from appliance.audit.introductions import Introduced, Introductions
from appliance.audit.rights import ACTIONS, DOORS, OPERATOR
from appliance.errors import LedgerRefusedError
from appliance.wire import Peer
from tests.support.ledger import LedgerSite

ROOT = Peer(door=ACTIONS, pid=1, uid=0, gid=0)


def given(introductions: Introductions, uid: int, pid: int = 7) -> str:
    answer = introductions.answer(Peer(door=OPERATOR, pid=pid, uid=uid, gid=uid), {"do": "introduce"})
    assert answer is not None
    return str(answer["introduction"])


def told(introductions: Introductions, untrusted: object, peer: Peer = ROOT) -> object:
    return introductions.answer(peer, {"do": "introduced", "introduction": untrusted})


def test_root_is_told_once_whom_the_kernel_named() -> None:
    introductions = Introductions()
    iris, omar = given(introductions, 1001, pid=70), given(introductions, 1002, pid=71)

    assert told(introductions, omar) == {"uid": 1002, "pid": 71}
    assert told(introductions, iris) == {"uid": 1001, "pid": 70}
    for again in (iris, "0" * 64, "", None, 7, ["x"]):
        with pytest.raises(LedgerRefusedError, match="nobody was introduced"):
            told(introductions, again)
    assert introductions.answer(ROOT, {"do": "head"}) is None


@pytest.mark.parametrize("door", DOORS)
def test_nobody_else_is_told(door: str) -> None:
    introductions = Introductions()
    introduction = given(introductions, 1001)

    for uid in (1001, 54321) if door == ACTIONS else (0, os.getuid(), 1001):
        with pytest.raises(LedgerRefusedError, match="may not ask"):
            told(introductions, introduction, Peer(door=door, pid=1, uid=uid, gid=0))
    assert told(introductions, introduction) == {"uid": 1001, "pid": 7}


def test_whoever_asks_for_many_crowds_out_its_own_alone() -> None:
    introductions = Introductions()
    iris = given(introductions, 1001)
    many = [given(introductions, 1002) for _ in range(100)]

    assert told(introductions, iris) == {"uid": 1001, "pid": 7}
    with pytest.raises(LedgerRefusedError):
        told(introductions, many[0])
    assert told(introductions, many[-1]) == {"uid": 1002, "pid": 7}


def test_it_goes_through_the_ledgers_doors(site: LedgerSite) -> None:
    with site.running():
        asks, service = (SocketLedger(site.places.socket(door)) for door in ("ledger-gateway", "ledger-actions"))
        introduction = asks.introduce()

        assert service.introduced(introduction) == Introduced(uid=os.getuid(), pid=os.getpid())
        with pytest.raises(LedgerRefusedError):
            service.introduced(introduction)
        with pytest.raises(LedgerRefusedError):
            asks.introduced(asks.introduce())
        asks.close()
        service.close()
