"""Who reads what next: one reader for a stick, all for a fast disk, and several devices side by side."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.store import streams
from appliance.store.cargo import StoredPiece
from appliance.store.streams import Streams, is_slow
from tests.support.cargo import load

BUFFER = memoryview(bytearray(1))


def device(folder: Path, name: str, *, rotational: str = "0", partition: bool = False) -> Path:
    """Lay down what the kernel says of device 8:1 that lies at this place below /sys/devices."""
    place = folder / "devices" / name
    whole = place.parent if partition else place
    (whole / "queue").mkdir(parents=True)
    (whole / "queue/rotational").write_text(f"{rotational}\n")
    place.mkdir(exist_ok=True)
    blocks = folder / "block"
    blocks.mkdir()
    (blocks / "8:1").symlink_to(place)
    return blocks


@pytest.mark.parametrize(
    ("name", "rotational", "partition", "slow"),
    [
        ("pci0000:00/nvme/nvme0/nvme0n1", "0", False, False),
        ("pci0000:00/nvme/nvme0/nvme0n1/nvme0n1p1", "0", True, False),
        ("pci0000:00/usb2/2-1/host6/block/sdb/sdb1", "0", True, True),
        ("pci0000:00/ata1/host0/block/sda/sda1", "1", True, True),
        ("pci0000:00/ata2/host1/block/sr0", "0", False, True),
        ("pci0000:00/virtio1/block/vda", "1", False, False),
        ("platform/mmc_host/mmc0/block/mmcblk0/mmcblk0p1", "0", True, True),
    ],
)
def test_a_devices_kind_says_how_many_read_it(
    tmp_path: Path, name: str, rotational: str, *, partition: bool, slow: bool
) -> None:
    blocks = device(tmp_path, name, rotational=rotational, partition=partition)

    assert is_slow(0x801, blocks) is slow


def test_what_is_no_block_device_is_read_by_one(tmp_path: Path) -> None:
    assert is_slow(0x23, tmp_path)


def work(given: Streams, *, threads: int) -> None:
    """Let so many threads work until nothing is left."""
    workers = [threading.Thread(target=given.work, args=(BUFFER,)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=10)
        assert not worker.is_alive()


class Readers:
    """Counts who reads at one time; a task waits for a moment so that others could join in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.order: list[int] = []

    def task(self, number: int) -> Callable[[memoryview, Callable[[], None]], None]:
        def run(_: memoryview, read: Callable[[], None]) -> None:
            with self._lock:
                self._now += 1
                self.most = max(self.most, self._now)
                self.order.append(number)
            threading.Event().wait(0.005)
            with self._lock:
                self._now -= 1
            read()

        return run


@pytest.mark.parametrize(("slow", "most"), [(True, 1), (False, 4)])
def test_a_slow_device_is_read_from_front_to_back_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, slow: bool, most: int
) -> None:
    monkeypatch.setattr(streams, "is_slow", lambda device: slow)
    (origin,) = load(tmp_path / "v", 10).cargo.origins
    given, readers = Streams(threads=4), Readers()
    for number in range(12):
        given.put(origin.piece, readers.task(number))

    work(given, threads=4)

    assert readers.most <= most
    assert sorted(readers.order) == list(range(12))
    assert not slow or readers.order == list(range(12))


def test_two_devices_are_read_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "is_slow", lambda device: True)
    (origin,) = load(tmp_path / "v", 10).cargo.origins
    stored = StoredPiece(place=tmp_path, sha256="00" * 32, length=10)
    given, meeting = Streams(threads=2), threading.Barrier(2, timeout=10)

    def meet(_: memoryview, read: Callable[[], None]) -> None:
        meeting.wait()

    for piece in (origin.piece, stored):
        given.put(piece, meet)

    work(given, threads=2)

    assert not meeting.broken


def test_nothing_begins_after_a_stop(tmp_path: Path) -> None:
    (origin,) = load(tmp_path / "v", 10).cargo.origins
    given, readers = Streams(threads=2), Readers()
    given.put(origin.piece, readers.task(1))

    given.stop()
    work(given, threads=2)

    assert readers.order == []


def test_a_task_that_fails_gives_its_place_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "is_slow", lambda device: True)
    (origin,) = load(tmp_path / "v", 10).cargo.origins
    given, readers = Streams(threads=1), Readers()

    def failing(_: memoryview, read: Callable[[], None]) -> None:
        raise KeyError

    given.put(origin.piece, failing)
    given.put(origin.piece, readers.task(2))

    with pytest.raises(KeyError):
        given.work(BUFFER)
    given.work(BUFFER)

    assert readers.order == [2]
