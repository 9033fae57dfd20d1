"""Receiving under fire: killed at any moment, out of room, a medium that lies. It resumes or refuses.

SEALIFT_FAULT_ROUNDS sets how often the copier is killed (200; SEALIFT_DEEP=1 makes that 1,000).
"""

import os
import random
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.store.content import ContentStore, StoredRelease
from appliance.store.incoming import publish
from media import layout
from media.digest import file_sha256
from tests.support.copiers import finish, start
from tests.support.medium import SimulatedMedium, make_medium, tiny_payload
from tests.support.receiving import make_site

pytestmark = pytest.mark.fault

ROUNDS = int(os.environ.get("SEALIFT_FAULT_ROUNDS", "1000" if os.environ.get("SEALIFT_DEEP") == "1" else "200"))
RSS_LIMIT_KIB = 96 * 1024


def require_only_proven_objects(store: ContentStore) -> None:
    """Whatever lies under a name in the store hashes to it."""
    if store.objects.is_dir():
        for path in store.objects.rglob("*"):
            assert path.is_dir() or file_sha256(path) == path.name


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> SimulatedMedium:
    """Two blocks of weights over two volumes, and small files."""
    weights = random.Random(7).randbytes(4096) * (layout.BLOCK_BYTES // 4096) + b"tail" * 2**20
    folder = tmp_path_factory.mktemp("big")
    return make_medium(folder / "m", files=tiny_payload(weights=weights), cut=True)


@pytest.mark.timeout(120 + 3 * ROUNDS)
def test_a_copier_killed_at_any_moment_goes_on_to_success(tmp_path: Path, big: SimulatedMedium) -> None:
    store = ContentStore(tmp_path / "store")
    dice = random.Random(os.environ.get("SEALIFT_FAULT_SEED", "1"))
    begun = time.monotonic()
    code, _ = finish(start(big, tmp_path / "measured"))
    whole = time.monotonic() - begun
    assert code == 0

    for number in range(ROUNDS):
        process = start(big, store.root)
        time.sleep(dice.uniform(0, min(whole, 0.9)))
        process.send_signal(signal.SIGKILL)
        code, lines = finish(process)
        assert store.releases() == ()
        require_only_proven_objects(store)
        if code == 0 and dice.random() < 0.5:  # it was faster than the kill: begin again from nothing
            publish(store, code=big.code, serial=1)
            store = ContentStore(tmp_path / f"store-{number}")
        assert not [line for line in lines if line["event"] == "refused"]

    code, lines = finish(start(big, store.root))
    assert code == 0
    publish(store, code=big.code, serial=1)
    release = StoredRelease.load(store, 1)
    for target in release.files:
        release.verify(target)


def test_what_was_durable_before_a_kill_is_not_read_again(tmp_path: Path, big: SimulatedMedium) -> None:
    medium, store = big.copy_to(tmp_path / "m"), tmp_path / "store"
    process = start(medium, store)
    journal = store / "incoming" / big.code[:12] / "journal"
    while process.poll() is None and not (journal.exists() and b'"blocks":[0]' in journal.read_bytes()):
        time.sleep(0.002)
    process.kill()
    finish(process)

    # Nobody could tell that the first block is gone from the medium now, but a reader would.
    part = medium.path(layout.part_name("data/models/tiny/tiny.gguf", 0, 0))
    part.write_bytes(b"\0" * part.stat().st_size)
    code, lines = finish(start(medium, store))

    assert code == 0, lines[-1]


def test_the_copier_stays_below_its_memory_whatever_the_size(tmp_path: Path, big: SimulatedMedium) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    process = start(big, tmp_path / "store")
    peak = 0
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            said = status.read_text()
        except (FileNotFoundError, ProcessLookupError):
            break
        peak = max([peak, *(int(line.split()[1]) for line in said.splitlines() if line.startswith("VmHWM:"))])
        time.sleep(0.005)
    code, _ = finish(process)

    assert code == 0
    assert 0 < peak < RSS_LIMIT_KIB
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >= before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_store_without_room_says_so_with_both_numbers_and_nothing_is_left_half_done(
    small_disk: Path, big: SimulatedMedium
) -> None:
    code, lines = finish(start(big, small_disk / "store"))

    assert code == 30
    assert "are free" in lines[-1]["error"]["why"]
    assert ContentStore(small_disk / "store").releases() == ()


def test_a_disk_that_fills_up_underway_ends_in_no_space_and_resumes_when_there_is_room(
    tmp_path: Path, small_disk: Path
) -> None:
    # Room is there when the plan is made; somebody else takes it while the copier works.
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    weights = random.Random(9).randbytes(2**20) * 90
    medium = make_medium(tmp_path / "m", files=tiny_payload(weights=weights))
    store = ContentStore(small_disk / "store")
    store.prepare()
    process = start(medium, store.root)
    hog = small_disk / "hog"
    filled = threading.Event()

    def fill() -> None:
        for _ in range(2000):
            if (store.incoming / medium.code[:12] / "journal").exists():
                with hog.open("wb") as stream:
                    try:
                        while True:
                            stream.write(b"x" * 2**20)
                            stream.flush()
                    except OSError:
                        break
            time.sleep(0.001)
        filled.set()

    thread = threading.Thread(target=fill)
    thread.start()
    code, lines = finish(process)
    thread.join()
    hog.unlink(missing_ok=True)

    assert code in {0, 30}, lines[-1]
    require_only_proven_objects(store)
    assert finish(start(medium, store.root))[0] == 0


def test_a_medium_that_changes_while_it_is_read_is_refused_or_what_was_hashed_is_what_is_kept(
    tmp_path: Path, big: SimulatedMedium
) -> None:
    # The first block of the weights is turned back and forth between good and evil while receives run.
    medium = big.copy_to(tmp_path / "lying")
    name = layout.part_name("data/models/tiny/tiny.gguf", 0, 0)
    place = medium.path(name)
    good = place.read_bytes()[: 2**20]
    evil = bytes(byte ^ 0xFF for byte in good)
    stop = threading.Event()

    def lie() -> None:
        with place.open("r+b", buffering=0) as stream:
            while not stop.is_set():
                for content in (evil, good):
                    stream.seek(0)
                    stream.write(content)

    thread = threading.Thread(target=lie)
    thread.start()
    codes = []
    try:
        for number in range(6):
            store = ContentStore(tmp_path / f"store-{number}")
            codes.append(finish(start(medium, store.root))[0])
            require_only_proven_objects(store)
    finally:
        stop.set()
        thread.join()

    assert set(codes) <= {0, 15}


def test_a_medium_that_grows_or_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    weights = random.Random(3).randbytes(2**20) * 60
    medium = make_medium(tmp_path / "m", files=tiny_payload(weights=weights))
    place = medium.path("data/models/tiny/tiny.gguf")
    process = start(medium, tmp_path / "store")
    while process.poll() is None and not (tmp_path / "store/incoming").exists():
        time.sleep(0.001)
    os.truncate(place, len(weights) - 1)

    code, _ = finish(process)

    assert code in {0, 15}  # 0 only when everything had been read before the cut
    require_only_proven_objects(ContentStore(tmp_path / "store"))


def test_a_receive_that_is_killed_leaves_trust_alone_and_the_next_one_succeeds(
    tmp_path: Path, big: SimulatedMedium
) -> None:
    site = make_site(tmp_path / "box", big.root_json)
    child = os.fork()
    if child == 0:
        try:
            site.receive(big)
        finally:
            os._exit(0)
    time.sleep(0.6)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for _ in range(1200):  # the copier outlives its parent by one line at most, and holds the lock until then
        try:
            facts = site.receive(big)
            break
        except Exception as error:  # noqa: BLE001 - only the lock may be in the way
            assert getattr(error, "code", "") == "store-busy"  # noqa: PT017
            time.sleep(0.05)

    assert facts.serial == 1
    assert site.record.serial == 1


def test_a_volume_that_is_a_device_of_its_own_is_received(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m", volumes=1)
    image, place = tmp_path / "volume.img", tmp_path / "mounted"
    place.mkdir()
    with image.open("wb") as stream:
        stream.truncate(32 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-d", str(medium.volumes[0]), str(image)], check=True)
    options = "loop,ro,nosuid,nodev,noexec,noload"
    mounted = subprocess.run(["mount", "-o", options, str(image), str(place)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting needs root")
    try:
        code, lines = finish(start(replace(medium, volumes=[place]), tmp_path / "store"))
    finally:
        subprocess.run(["umount", str(place)], check=True)

    assert code == 0, lines[-1]
