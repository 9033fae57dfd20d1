"""Media that no copying program made: devices, pipes, links, loops and files without end on a file system of their own.

Each is mounted carelessly (devices and all) and given to the very copier that a receive starts. It must neither hang
nor read what it should not. A medium that fails underway is no verdict: it is unreadable, and a better copy completes
what was begun. So does room on a disk that was full.

SEALIFT_FULL_DISKS sets at how many points the disk is full (6; the nightly run takes 100).
"""

import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.store.content import ContentStore
from media import layout
from media.errors import SealiftError
from tests.support.copiers import finish, start
from tests.support.medium import SimulatedMedium, make_medium, tiny_payload
from tests.support.powercut import copy_sparsely, mounted
from tests.support.receiving import make_site

pytestmark = [pytest.mark.fault, pytest.mark.timeout(60)]

Plant = Callable[[Path], object]
TARGET = "data/debs/Packages"
WEIGHTS = "data/models/tiny/tiny.gguf"
MOST_SECONDS = 20
TEBIBYTES = 2**40
FULL_DISKS = int(os.environ.get("SEALIFT_FULL_DISKS", "6"))


@pytest.fixture
def medium(tmp_path: Path) -> SimulatedMedium:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    return make_medium(tmp_path / "m", volumes=1, files=tiny_payload(weights=random.Random(5).randbytes(2**23)))


def image_of(medium: SimulatedMedium, place: Path) -> Path:
    with place.open("wb") as stream:
        stream.truncate(64 * 2**20)
    command = ["mkfs.ext4", "-q", "-b", "4096", "-d", str(medium.volumes[0]), str(place)]
    subprocess.run(command, check=True, capture_output=True)
    return place


@contextmanager
def volume(tmp_path: Path, medium: SimulatedMedium, plant: Plant) -> Iterator[SimulatedMedium]:
    """The medium on a disk of its own, after `plant` was let loose on its root."""
    image, place = image_of(medium, tmp_path / "volume.img"), tmp_path / "mounted"
    place.mkdir()
    with mounted(image, place):
        plant(place)
        yield replace(medium, volumes=[place])


def in_place_of(name: str, plant: Plant) -> Plant:
    def replaced(root: Path) -> None:
        path = root / name
        path.unlink()
        plant(path)

    return replaced


def _device(kind: int, major: int, minor: int) -> Plant:
    return lambda path: os.mknod(path, kind | 0o666, os.makedev(major, minor))


def _socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(before)


def _endless(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(15 * TEBIBYTES)


ZERO, DISK = _device(0o020000, 1, 5), _device(0o060000, 7, 0)
PLANTS: dict[str, tuple[Plant, set[int]]] = {
    "a device without end": (in_place_of(f"release/{TARGET}", ZERO), {13}),
    "a device in the place of metadata": (in_place_of("release/metadata/timestamp.json", ZERO), {13}),
    "a device in the place of a manifest": (in_place_of(f"release/{layout.TAG_MANIFEST}", ZERO), {13}),
    "a disk": (in_place_of(f"release/{TARGET}", DISK), {13}),
    "a pipe": (in_place_of(f"release/{TARGET}", os.mkfifo), {13}),
    "a pipe in the place of a root": (lambda root: os.mkfifo(root / "release/metadata/2.root.json"), {13}),
    "a socket": (in_place_of(f"release/{TARGET}", _socket), {13}),
    "a link to a secret": (in_place_of(f"release/{TARGET}", lambda path: path.symlink_to("/etc/shadow")), {13}),
    "a link that leads to itself": (in_place_of(f"release/{TARGET}", lambda path: path.symlink_to(path.name)), {13}),
    "a folder that is a link upwards": (lambda root: (root / "release/data/loop").symlink_to(".."), {13}),
    "a second name": (lambda root: (root / "release/data/more").hardlink_to(root / f"release/{TARGET}"), {13}),
    "a second name in custody": (
        lambda root: (root / "custody/more").hardlink_to(next((root / "custody").iterdir())),
        {13, 26},
    ),
    "a file without end": (in_place_of(f"release/{WEIGHTS}", _endless), {15}),
    "a file without end that nobody named": (lambda root: _endless(root / "release/data/more"), {12}),
    "metadata without end": (in_place_of("release/metadata/volumes.json", _endless), {16}),
    "custody that is a pipe": (lambda root: os.mkfifo(root / "custody/001-000000000000.dsse.json"), {26}),
    "a release without end of depth": (
        lambda root: (root / "release/data" / "/".join("d" * 200)).mkdir(parents=True),
        {13, 16},
    ),
    "litter that is a pipe": (lambda root: os.mkfifo(root / "Thumbs.db"), {0}),
}


@pytest.mark.parametrize("name", PLANTS)
def test_what_is_no_plain_file_neither_hangs_the_copier_nor_is_read(
    tmp_path: Path, medium: SimulatedMedium, name: str
) -> None:
    plant, codes = PLANTS[name]
    store = ContentStore(tmp_path / "store")
    with volume(tmp_path, medium, plant) as spoilt:
        begun = time.monotonic()
        code, lines = finish(start(spoilt, store.root))

    assert code in codes, lines[-1]
    assert time.monotonic() - begun < MOST_SECONDS
    assert store.releases() == ()


def test_folders_that_contain_themselves_end(tmp_path: Path, medium: SimulatedMedium) -> None:
    image, place = image_of(medium, tmp_path / "volume.img"), tmp_path / "mounted"
    place.mkdir()
    command = ["debugfs", "-w", "-R", "link /release/data /release/data/debs/again", str(image)]
    subprocess.run(command, check=True, capture_output=True)
    with mounted(image, place):
        code, lines = finish(start(replace(medium, volumes=[place]), tmp_path / "store"))

    assert code in {12, 13, 18}, lines[-1]


def test_a_medium_that_fails_halfway_is_unreadable_and_a_better_copy_completes_it(
    tmp_path: Path, medium: SimulatedMedium
) -> None:
    image, place, store = image_of(medium, tmp_path / "volume.img"), tmp_path / "mounted", tmp_path / "store"
    place.mkdir()
    copy_sparsely(image, tmp_path / "good.img")
    command = ["debugfs", "-R", f"blocks /release/{WEIGHTS}", str(image)]
    blocks = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    with mounted(image, place):
        with image.open("r+b") as stream:
            stream.truncate(int(blocks[len(blocks) // 2]) * 4096)
        code, lines = finish(start(replace(medium, volumes=[place]), store))
        image.write_bytes((tmp_path / "good.img").read_bytes())

    assert code == 18, lines[-1]
    assert ContentStore(store).releases() == ()
    assert finish(start(medium, store))[0] == 0


@pytest.mark.timeout(60 + 20 * FULL_DISKS)
def test_a_disk_that_is_full_at_any_point_leaves_the_box_old_or_new_and_room_completes_it(
    tmp_path: Path, medium: SimulatedMedium
) -> None:
    # Files run out instead of bytes, because room for bytes is asked for beforehand.
    disk = tmp_path / "disk"
    disk.mkdir()
    endings = set()
    for point in range(FULL_DISKS):
        files = 8 + point * 100 // FULL_DISKS
        command = ["mount", "-t", "tmpfs", "-o", f"size=128m,nr_inodes={files}", "tmpfs", str(disk)]
        subprocess.run(command, check=True)
        try:
            site = make_site(disk / "box", medium.root_json)
            try:
                site.receive(medium)
                endings.add(0)
            except SealiftError as error:
                endings.add(error.exit_code)
            stored = {release.serial for release in site.store.releases()}
            assert stored <= {1}
            assert site.record.serial in {0, *stored}

            subprocess.run(["mount", "-o", "remount,nr_inodes=0", str(disk)], check=True)
            site.receive(medium)
            assert site.record.serial == 1
            assert [release.code for release in site.store.releases()] == [medium.code]
            assert len(site.facts("release.received")) == 1
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    assert endings <= {0, 30, 34, 90}
    assert 30 in endings
