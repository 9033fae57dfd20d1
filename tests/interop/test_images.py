"""Images and sticks written by us, read by the tools of their file systems alone, then checked without our code."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bundler.blockdevice import BlockDevice
from bundler.burn import burn
from bundler.images.facts import ImageFacts
from bundler.images.kinds import KINDS
from bundler.images.make import make_image
from bundler.images.programs import program
from bundler.images.stage import Tree
from bundler.measure import no_progress
from bundler.volumefiles import volume_index
from media import layout
from tests.support.images import PARTITION, laid_out, loop_device, missing_for
from tests.support.medium import SimulatedMedium, make_medium
from tests.support.receiving import make_site

pytestmark = pytest.mark.interop

VERIFY = Path(__file__).resolve().parents[2] / "bundler" / "check" / "verify.py"
BARE = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "MTOOLSRC": "/dev/null"}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices and mounting need root")


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> SimulatedMedium:
    return make_medium(tmp_path_factory.mktemp("m") / "m", volumes=1)


def run(*command: object, folder: Path | None = None) -> str:
    done = subprocess.run([str(each) for each in command], cwd=folder, env=BARE, capture_output=True, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout.decode()


def image_of(medium: SimulatedMedium, kind: str, folder: Path) -> Path:
    if why := missing_for(kind):
        pytest.skip(why)
    volume = volume_index(medium.work).volumes[0]
    facts = ImageFacts(serial=medium.serial, number=1, volume_id=volume.id, at=1_790_000_000)
    image = folder / f"volume.{kind}"
    made = make_image(laid_out(medium, folder / "laid-out"), image, kind=KINDS[kind], facts=facts, progress=no_progress)
    assert made.read_back.files == len(list(filter(Path.is_file, (folder / "laid-out").rglob("*"))))
    return image


@contextmanager
def mounted(kind: str, source: Path, folder: Path, *, offset: int = PARTITION) -> Iterator[Path]:
    folder.mkdir()
    if kind == "exfat":
        device = run(program("losetup"), "-r", "-f", "--show", "-o", offset, source).strip()
        try:
            run(program("mount.exfat-fuse"), "-o", "ro", device, folder)
            yield folder
            run("umount", folder)
        finally:
            run(program("losetup"), "-d", device)
    else:
        run("mount", "-t", kind, "-o", f"loop,ro,noload,offset={offset}", source, folder)
        try:
            yield folder
        finally:
            run("umount", folder)


def require_genuine(medium: SimulatedMedium, volume: Path) -> None:
    """Judge a volume by coreutils, gpgv and the stand-alone verifier, and compare its custody."""
    release = volume / layout.RELEASE
    run("sha256sum", "--check", "--strict", "--quiet", "tagmanifest-sha256.txt", "manifest-sha256.txt", folder=release)
    for person in ("alice", "bob"):
        fingerprint = medium.fingerprint(person)
        keyring, signature = f"./check/signers/{fingerprint}.gpg", f"tagmanifest-sha256.txt.{fingerprint}.sig"
        said = run(
            "gpgv", "--status-fd", "1", "--keyring", keyring, signature, "tagmanifest-sha256.txt", folder=release
        )
        assert re.search(rf"^\[GNUPG:\] VALIDSIG .* {fingerprint}$", said, re.MULTILINE)
    run(sys.executable, "-I", VERIFY, "--code", medium.code, volume)
    wanted = {path.name: path.read_bytes() for path in (medium.volumes[0] / layout.CUSTODY).iterdir()}
    assert {path.name: path.read_bytes() for path in (volume / layout.CUSTODY).iterdir()} == wanted


def test_mtools_give_a_fat32_volume_back(medium: SimulatedMedium, tmp_path: Path) -> None:
    image = image_of(medium, "vfat", tmp_path)
    out = tmp_path / "out"
    out.mkdir()

    run("mcopy", "-s", "-i", f"{image}@@{PARTITION}", "::/release", "::/custody", out)

    require_genuine(medium, out)
    assert "FAT32" in run("minfo", "-i", f"{image}@@{PARTITION}")


@needs_root
def test_fsck_finds_nothing_to_mend(medium: SimulatedMedium, tmp_path: Path) -> None:
    checks: dict[str, list[str]] = {"vfat": ["fsck.vfat", "-n"], "exfat": ["fsck.exfat", "-n"]}
    checks["ext4"] = ["e2fsck", "-f", "-n"]
    for kind, command in checks.items():
        folder = tmp_path / kind
        folder.mkdir()
        image = image_of(medium, kind, folder)
        device = run(program("losetup"), "-r", "-f", "--show", "-o", PARTITION, image).strip()
        try:
            run(*command, device)
        finally:
            run(program("losetup"), "-d", device)


def test_xorriso_gives_an_iso_volume_back(medium: SimulatedMedium, tmp_path: Path) -> None:
    image = image_of(medium, "iso9660", tmp_path)

    run("xorriso", "-osirrox", "on", "-indev", f"stdio:{image}", "-extract", "/", tmp_path / "out")

    require_genuine(medium, tmp_path / "out")


def test_linux_and_windows_see_the_same_names_on_an_iso(medium: SimulatedMedium, tmp_path: Path) -> None:
    image = image_of(medium, "iso9660", tmp_path)

    rock_ridge, joliet = (set(run("isoinfo", flag, "-f", "-i", image).split()) for flag in ("-R", "-J"))

    assert rock_ridge == joliet
    assert f"/release/{layout.TAG_MANIFEST}" in rock_ridge


def test_isoinfo_gives_the_bridge_of_a_udf_volume_back(medium: SimulatedMedium, tmp_path: Path) -> None:
    image = image_of(medium, "udf", tmp_path)
    out = tmp_path / "out"
    for name in run("isoinfo", "-R", "-f", "-i", image).split():
        found = subprocess.run(["isoinfo", "-R", "-i", image, "-x", name], capture_output=True, check=True).stdout
        target = out / name.removeprefix("/")
        if (tmp_path / "laid-out" / name.removeprefix("/")).is_dir():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(found)

    require_genuine(medium, out)
    assert 'TYPE="udf"' in run(program("blkid"), "-p", image)


@pytest.mark.parametrize("kind", ["udf", "iso9660"])
def test_7z_gives_an_optical_volume_back(medium: SimulatedMedium, tmp_path: Path, kind: str) -> None:
    tool = next((each for each in ("7z", "7zz") if Path("/usr/bin", each).exists()), None)
    if tool is None:
        pytest.skip("7z is not installed")
    image = image_of(medium, kind, tmp_path)

    run(tool, "x", f"-o{tmp_path / 'out'}", image)

    require_genuine(medium, tmp_path / "out")


@needs_root
@pytest.mark.parametrize("kind", ["ext4", "exfat"])
def test_a_mounted_image_is_a_volume(medium: SimulatedMedium, tmp_path: Path, kind: str) -> None:
    image = image_of(medium, kind, tmp_path)

    with mounted(kind, image, tmp_path / "mnt") as volume:
        require_genuine(medium, volume)
        assert all(path.stat().st_mode & 0o444 == 0o444 for path in (volume / layout.RELEASE).rglob("*"))


@pytest.mark.parametrize("kind", ["vfat", "ext4", "iso9660"])
def test_equal_volumes_give_equal_images(medium: SimulatedMedium, tmp_path: Path, kind: str) -> None:
    images = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        images.append(image_of(medium, kind, folder).read_bytes())
        for path in (folder / "laid-out" / layout.CUSTODY).iterdir():
            os.utime(path, (1, 1))

    assert images[0] == images[1]


def test_the_appliance_takes_in_what_came_out_of_an_image(medium: SimulatedMedium, tmp_path: Path) -> None:
    image = image_of(medium, "vfat", tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    run("mcopy", "-s", "-i", f"{image}@@{PARTITION}", "::/release", "::/custody", out)

    received = make_site(tmp_path / "site", medium.root_json).receive([out])

    assert received.code == medium.code


@needs_root
@pytest.mark.parametrize("kind", ["vfat", "exfat", "ext4", "iso9660", "udf"])
def test_a_stick_gives_the_image_back_behind_one_partition(medium: SimulatedMedium, tmp_path: Path, kind: str) -> None:
    image = image_of(medium, kind, tmp_path)
    with loop_device(tmp_path, 96 * 2**20) as path:
        device = BlockDevice.open(path)
        device.require_unused()
        assert device.require_empty(()) == ""
        assert burn(image, device, number=1, progress=no_progress)
        size = image.stat().st_size
        with path.open("rb") as source:
            assert source.read(size) == image.read_bytes()
        seen = run(program("blkid"), "-p", path)
        if KINDS[kind].is_partitioned:
            assert 'PTTYPE="dos"' in seen
            part = run(program("blkid"), "-p", "-O", PARTITION, path)
            assert f'TYPE="{kind}"' in part
            assert 'LABEL="SEALIFT_1_1"' in part
        else:
            assert f'TYPE="{kind}"' in seen


@pytest.mark.skipif(os.environ.get("SEALIFT_DEEP") != "1", reason="SEALIFT_DEEP=1 writes 4 GB for each file system")
@pytest.mark.timeout(800)
@pytest.mark.parametrize("kind", list(KINDS))
def test_the_longest_part_comes_back_whole(tmp_path: Path, kind: str) -> None:
    if why := missing_for(kind):
        pytest.skip(why)
    name = f"release/data/{'w' * 75}.gguf.000000-000059"
    digest, block = hashlib.sha256(), os.urandom(layout.BLOCK_BYTES)
    (tmp_path / "t" / name).parent.mkdir(parents=True)
    with (tmp_path / "t" / name).open("xb") as target:
        for number in range(layout.PART_BLOCKS):
            chunk = number.to_bytes(8, "big") + block[8:]
            digest.update(chunk)
            target.write(chunk)
    tree = Tree(folder=tmp_path / "t", sizes={name: layout.PART_BYTES}, sha256={name: digest.hexdigest()})
    facts = ImageFacts(serial=1, number=1, volume_id="0123456789abcdef", at=1_790_000_000)

    made = make_image(tree, tmp_path / "i", kind=KINDS[kind], facts=facts, progress=no_progress)

    assert made.read_back.bytes == layout.PART_BYTES
