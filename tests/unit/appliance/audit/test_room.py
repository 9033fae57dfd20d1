"""Which records are written as the disk fills, when the reserve is given and taken back, and that turns are told."""

from pathlib import Path
from typing import Any

import pytest

from appliance.audit.leaf import Via
from appliance.audit.log import Entry
from appliance.audit.reserve import FILE_NAME, SLICES, Reserve, default_bytes
from appliance.audit.room import FULL, ROOM, Room, asked
from appliance.audit.writer import Writer
from appliance.errors import LedgerFullError, LedgerUnavailableError
from tests.support.ledger import LedgerSite, intent

MIB = 2**20
GIB = 2**30
VIA = Via(door="ledger-gateway", uid=0)


class SmallDisk(Reserve):
    """A reserve on a disk whose free bytes a test says; what the reserve holds is really allocated."""

    def __init__(self, folder: Path, wanted: int, *, disk: int) -> None:
        super().__init__(folder, wanted)
        self.used = 0
        self._disk = disk

    def free(self) -> int:
        return max(self._disk - self.used - self.held(), 0)


class Silent:
    """A line to a ledger, whose answers a test gives."""

    def __init__(self, *_: object, **__: object) -> None:
        """To whichever door."""

    def close(self) -> None:
        """End it."""


def entry(kind: str) -> Entry:
    return Entry.of(kind, intent("req_1") if kind == "request.intent" else {"request_id": "req_1"}, via=VIA)


def kinds_refused(room: Room) -> set[str]:
    kinds = ("request.intent", "approval.given", "request.refused", "admin.login", "request.outcome", "ledger.started")
    return {one for one, refusal in zip(kinds, room.refusal_of([entry(one) for one in kinds]), strict=True) if refusal}


@pytest.mark.parametrize(
    ("disk", "small", "throwaway", "wanted"),
    [
        (20 * GIB, False, False, 20 * GIB // 200),
        (4 * GIB, False, False, 64 * MIB),
        (900 * GIB, False, False, 256 * MIB),
        (900 * GIB, True, False, 128 * MIB),
        (100 * MIB, False, False, 10 * MIB),
        (900 * GIB, False, True, 4 * MIB),
    ],
)
def test_the_default_follows_from_the_disk_within_bounds(
    disk: int, wanted: int, *, small: bool, throwaway: bool
) -> None:
    assert default_bytes(disk, is_small=small, is_throwaway=throwaway) == wanted


def test_the_reserve_is_allocated_given_slice_by_slice_and_taken_back(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path, MIB)

    assert (reserve.held(), reserve.give()) == (0, 0)
    assert reserve.fill()
    assert reserve.held() == MIB
    assert (tmp_path / FILE_NAME).stat().st_blocks * 512 >= MIB  # allocated, not a hole
    assert reserve.give() == MIB // SLICES
    assert [reserve.give() > 0 for _ in range(SLICES)] == [True] * (SLICES - 1) + [False]
    assert reserve.held() == 0


def test_a_link_in_the_reserves_place_is_never_written_through(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"x" * 10)
    (tmp_path / FILE_NAME).symlink_to(tmp_path / "other")
    reserve = Reserve(tmp_path, MIB)

    assert not reserve.fill()
    assert reserve.give() == 0
    assert (tmp_path / "other").read_bytes() == b"x" * 10


def test_what_may_be_written_shrinks_with_the_room_and_both_turns_are_told_once(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path, MIB, disk=8 * MIB)
    room = Room(disk)
    assert (room.look(), kinds_refused(room)) == ([], set())
    assert disk.held() == MIB

    disk.used = 7 * MIB - room.low_bytes + 1
    (turn,) = room.look()
    assert turn.kind == FULL
    room.recorded(1)
    assert (room.look(), room.standing().closing) == ([], True)
    assert kinds_refused(room) == {"request.intent", "approval.given"}

    disk.used = 8 * MIB
    for _ in range(SLICES // 2 + 1):
        assert room.give()
    assert kinds_refused(room) == {"request.intent", "approval.given", "request.refused"}
    for _ in range(SLICES // 2 - 4):
        room.give()
    assert kinds_refused(room) == {"request.intent", "approval.given", "request.refused", "admin.login"}
    while room.give():
        pass
    assert "request.outcome" not in kinds_refused(room)

    disk.used = 8 * MIB - 2 * room.low_bytes - MIB + 1
    assert (room.look(), room.standing().closing) == ([], True)  # a byte too little to stay open afterwards
    disk.used -= 1
    (turn,) = room.look()
    assert (turn.kind, disk.held(), kinds_refused(room)) == (ROOM, MIB, set())


def test_a_turn_that_found_no_room_is_told_again_until_it_is_recorded(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path, MIB, disk=8 * MIB)
    room = Room(disk)
    disk.used = 8 * MIB
    assert [one.kind for one in room.look()] == [FULL]
    disk.used = 0
    assert [one.kind for one in room.look()] == [FULL, ROOM]
    room.recorded(1)
    assert [one.kind for one in room.look()] == [ROOM]


def test_the_writer_spends_the_reserve_on_what_closes_and_refuses_what_begins(site: LedgerSite, tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path, MIB, disk=8 * MIB)
    room = Room(disk)
    with site.running() as log:
        writer = Writer(log, on_failure=lambda: None, room=room)
        writer.start()
        try:
            assert not isinstance(writer.append([entry("request.intent")])[0], Exception)
            disk.used = 8 * MIB
            begun, ended = writer.append([entry("request.intent"), entry("request.outcome")])
            assert isinstance(begun, LedgerFullError)
            assert isinstance(begun, LedgerUnavailableError)  # whoever knows only that one still records nothing
            assert not isinstance(ended, Exception)
            assert [leaf.kind for leaf in log.leaves(log.head().size - 2, 2)] == [FULL, "request.outcome"]
            disk.used = 0
            assert writer.turns(10)
            assert log.leaf(log.head().size - 1).kind == ROOM
        finally:
            writer.stop()


def test_the_service_tells_its_room_through_any_door_and_no_door_tells_none(site: LedgerSite) -> None:
    assert asked(site.places.socket("ledger-metrics")) is None
    with site.process():
        found = asked(site.places.socket("ledger-metrics"))
    assert found is not None
    assert (found.wanted, found.closing) == (MIB, False)
    assert (found.size > found.free, found.apart) == (True, False)


@pytest.mark.parametrize(("more", "told"), [({}, (0, False)), ({"size": 90, "apart": True}, (90, True))])
def test_a_ledger_of_a_release_before_says_nothing_of_a_disk_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], told: tuple[int, bool]
) -> None:
    def call(_: object, do: str) -> dict[str, Any]:
        return {"closing": False, "wanted": 4, "held": 3, "free": 9, **more} if do == "room" else {}

    monkeypatch.setattr("appliance.audit.room.Line", type("Told", (Silent,), {"call": call}))

    found = asked(tmp_path)

    assert found is not None
    assert (found.held, found.size, found.apart) == (3, *told)


def test_a_folder_that_is_a_file_system_of_its_own_is_told_from_others(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()

    assert Reserve(Path("/proc"), MIB).is_apart()
    assert not Reserve(tmp_path / "ledger", MIB).is_apart()
    assert not Reserve(tmp_path / "none", MIB).is_apart()
