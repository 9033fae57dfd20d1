"""The ledger on a small disk of its own that another process fills: a tmpfs, and an ext4 in a file.

Promise: what was acknowledged is there, what was begun is ended on record, nothing new begins, people's deeds are
recorded, both turns are records, and the ledger goes on by itself once there is room again, its reserve whole.
"""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from appliance.audit import pin
from appliance.audit.reserve import FILE_NAME
from appliance.audit.room import FULL, ROOM, Standing, asked
from appliance.audit.socket_ledger import SocketLedger
from appliance.audit.verify import verify
from appliance.errors import LedgerFullError
from tests.support.ledger import LedgerSite, intent, ledger_site

MIB = 2**20
RESERVE_MIB = 8
BEGUN = 12
BOUND_SECONDS = 60
NOTHING = Standing(closing=True, wanted=0, held=0, free=0)

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root"),
]


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if request.param == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(place)], check=True)
    else:
        image = tmp_path / "image"
        image.touch()
        os.truncate(image, 64 * MIB)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> None:
    """Let another file take every byte that the disk still gives."""
    with suppress(OSError), (disk / "hog").open("ab", buffering=0) as hog:
        while True:
            hog.write(bytes(4096))


def standing(site: LedgerSite) -> Standing:
    found = asked(site.places.socket("ledger-gateway"))
    assert found is not None
    return found


def until(is_so: Callable[[], bool]) -> None:
    ends = monotonic() + BOUND_SECONDS
    while not is_so():
        assert monotonic() < ends
        sleep(0.05)


@contextmanager
def begun(disk: Path) -> Iterator[tuple[LedgerSite, dict[int, str]]]:
    """Lend a site whose ledger acknowledged some intents; yield what it promised, by sequence."""
    promised: dict[int, str] = {}
    with ledger_site(disk, reserve_mib=RESERVE_MIB) as site:
        with site.process():
            until(lambda: standing(site).held == RESERVE_MIB * MIB)
            with at(site) as gateway:
                for number in range(BEGUN):
                    keep(promised, gateway, "request.intent", intent(f"req_{number}"))
        yield site, promised


def keep(promised: dict[int, str], ledger: SocketLedger, kind: str, body: Mapping[str, Any]) -> None:
    done = ledger.append(kind, body)
    promised[done.sequence] = done.leaf_hash


def flood(site: LedgerSite, promised: dict[int, str], kind: str, *, between: Callable[[], None]) -> int:
    """Append large records of a kind until one is refused for want of room; return how many were acknowledged."""
    with at(site) as ledger:
        for number in range(5000):
            try:
                keep(promised, ledger, kind, {"request_id": f"req_{number}", "outcome": "ok", "pad": "x" * 20_000})
            except LedgerFullError:
                return number
            between()
    raise AssertionError("the disk never filled")


@contextmanager
def at(site: LedgerSite, door: str = "ledger-gateway") -> Iterator[SocketLedger]:
    ledger = site.door(door)
    try:
        yield ledger
    finally:
        ledger.close()


def require_kept(site: LedgerSite, promised: dict[int, str]) -> None:
    with at(site) as ledger:
        assert {place: ledger.leaf(place).hash for place in promised} == promised
        told = verify(ledger, pinned=pin.read_pin(site.places))
    assert told.ok, told.findings


def test_a_full_disk_ends_what_was_begun_and_begins_nothing_until_there_is_room(disk: Path) -> None:
    with begun(disk) as (site, promised), site.process(), at(site) as gateway, at(site, "ledger-promoter") as promoter:
        keep(promised, gateway, "request.intent", intent("req_last"))
        fill(disk)

        with pytest.raises(LedgerFullError, match="nothing new begins"):
            gateway.append("request.intent", intent("req_refused"))
        keep(promised, gateway, "request.refused", {"request_id": "req_refused", "code": "ledger_full"})
        keep(promised, gateway, "request.outcome", {"request_id": "req_last", "outcome": "ok"})
        keep(promised, promoter, "stop.made", {"what": "key", "name": "k", "person": "ada", "reason": "so"})
        assert standing(site).closing
        with pytest.raises(LedgerFullError):
            promoter.append("approval.given", {"model_digest": "a" * 64, "person": "ada"})

        (disk / "hog").unlink()
        until(lambda: not standing(site).closing)
        assert standing(site).held == RESERVE_MIB * MIB
        keep(promised, gateway, "request.intent", intent("req_after"))
        turns = [leaf.kind for leaf in gateway.find(kind="ledger.", newest_first=False) if "disk" in leaf.kind]
        assert turns == [FULL, ROOM]
        assert not gateway.find(kind="request.intent", field="request_id", value="req_refused")
        require_kept(site, promised)


def test_the_reserve_alone_holds_the_outcomes_while_another_process_takes_every_byte_it_can(disk: Path) -> None:
    with begun(disk) as (site, promised), site.process():
        fill(disk)
        # A slice at a time, so that the other one did not get all of it at once.
        assert flood(site, promised, "request.outcome", between=lambda: fill(disk)) >= 2 * BEGUN
        assert standing(site).held == 0

        (disk / "hog").unlink()
        until(lambda: standing(site).held == RESERVE_MIB * MIB)
        with at(site) as gateway:
            keep(promised, gateway, "request.intent", intent("req_after"))
        require_kept(site, promised)


def test_refusals_leave_half_of_the_reserve_to_outcomes(disk: Path) -> None:
    with begun(disk) as (site, promised), site.process():
        fill(disk)
        assert flood(site, promised, "request.refused", between=lambda: None) > BEGUN
        assert standing(site).held + standing(site).free >= RESERVE_MIB * MIB // 3
        with at(site) as gateway:
            keep(promised, gateway, "request.outcome", {"request_id": "req_0", "outcome": "ok"})
        require_kept(site, promised)


def test_a_ledger_that_was_killed_starts_on_a_full_disk_and_closes_what_was_open(disk: Path) -> None:
    with begun(disk) as (site, promised):
        fill(disk)
        with site.process(), at(site) as gateway:  # the one before was killed with its requests open
            until(lambda: standing(site).closing)
            ended = gateway.find(kind="request.outcome", limit=100)
            assert [leaf.body["outcome"] for leaf in ended] == ["unknown"] * BEGUN
            with pytest.raises(LedgerFullError):
                gateway.append("request.intent", intent("req_refused"))
            require_kept(site, promised)


def test_with_no_reserve_left_it_waits_for_room_at_its_start_and_then_starts(disk: Path) -> None:
    with begun(disk) as (site, promised):
        (site.places.ledger / FILE_NAME).unlink()
        site.places.socket("ledger-gateway").unlink()
        fill(disk)
        started = site.start()
        try:
            sleep(3)  # longer than a start takes; a slower machine proves less, never something wrong
            assert started.poll() is None  # a burst of restarts would end in a unit that systemd gives up
            assert asked(site.places.socket("ledger-gateway")) is None
            (disk / "hog").unlink()
            until(lambda: (asked(site.places.socket("ledger-gateway")) or NOTHING).held == RESERVE_MIB * MIB)
            require_kept(site, promised)
        finally:
            started.kill()
            started.wait()
