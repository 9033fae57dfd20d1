"""Sticks as loop devices: what may not be written to, what must be typed, and what is on them afterwards."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.blockdevice import EDGE, BlockDevice
from bundler.burn import burn, require_fits
from bundler.cli.main import main
from bundler.errors import CapacityError, NotEmptyError, ReadBackError
from bundler.images.programs import program
from bundler.measure import no_progress
from bundler.register import Register
from media.errors import UnreadableError
from tests.support.images import PARTITION, loop_device, missing_for
from tests.support.medium import SimulatedMedium, make_medium

pytestmark = [pytest.mark.interop, pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")]

SIZE = 96 * 2**20


@pytest.fixture
def stick(tmp_path: Path) -> Iterator[Path]:
    with loop_device(tmp_path, SIZE) as device:
        yield device


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> SimulatedMedium:
    return make_medium(tmp_path_factory.mktemp("m") / "m")


def put(device: Path, data: bytes, offset: int) -> None:
    with device.open("r+b", buffering=0) as target:
        target.seek(offset)
        target.write(data)
        os.fsync(target.fileno())


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["--json", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_a_blank_stick_is_empty(stick: Path) -> None:
    device = BlockDevice.open(stick)

    device.require_unused()

    assert device.require_empty(()) == ""
    assert (device.size, device.sector, device.is_inside) == (SIZE, 512, False)


@pytest.mark.parametrize("offset", [0, EDGE - 512, SIZE - EDGE, SIZE - 512])
def test_a_sector_at_either_end_is_other_data(stick: Path, offset: int) -> None:
    put(stick, b"x", offset)

    with pytest.raises(NotEmptyError, match="holds other data") as refused:
        BlockDevice.open(stick).require_empty(())

    assert f"--erase {stick}" in refused.value.fix


def test_data_in_the_middle_is_other_data(stick: Path) -> None:
    put(stick, os.urandom(8 * 2**20), SIZE // 2)

    with pytest.raises(NotEmptyError):
        BlockDevice.open(stick).require_empty(())


def test_erased_flash_is_empty(stick: Path) -> None:
    for offset in range(0, SIZE, 2**20):
        put(stick, b"\xff" * 2**20, offset)

    assert BlockDevice.open(stick).content() == ""


@pytest.mark.parametrize(
    ("maker", "said"), [(["mkfs.ext4", "-q"], "ext4"), (["mkfs.vfat", "-I", "-n", "HOLIDAYS"], "vfat, label HOLIDAYS")]
)
def test_what_a_stick_holds_is_named_and_only_the_exact_word_gives_it_up(
    stick: Path, maker: list[str], said: str
) -> None:
    subprocess.run([program(maker[0]), *maker[1:], str(stick)], check=True, capture_output=True)
    device = BlockDevice.open(stick)

    for typed in ((), ("yes",), (stick.name,), (f"{stick} ",)):
        with pytest.raises(NotEmptyError) as refused:
            device.require_empty(typed)
        assert said in refused.value.why

    assert said in device.require_empty((str(stick),))


def test_a_mounted_stick_is_refused_whatever_was_typed(stick: Path, tmp_path: Path) -> None:
    subprocess.run([program("mkfs.ext4"), "-q", str(stick)], check=True, capture_output=True)
    (tmp_path / "mnt").mkdir()
    subprocess.run(["mount", str(stick), str(tmp_path / "mnt")], check=True)
    try:
        device = BlockDevice.open(stick)
        with pytest.raises(NotEmptyError, match="in use"):
            device.require_unused()
        (tmp_path / "i").write_bytes(bytes(2**20))
        with pytest.raises(UnreadableError, match="could not be written"):  # and the kernel refuses it, too
            burn(tmp_path / "i", device, number=1, progress=no_progress)
    finally:
        subprocess.run(["umount", str(tmp_path / "mnt")], check=True)


def test_the_disk_of_this_machine_is_refused() -> None:
    found = Path("/").stat().st_dev
    disk = Path(f"/sys/dev/block/{os.major(found)}:{os.minor(found)}").resolve()
    disk = disk.parent if (disk / "partition").exists() else disk
    if not Path("/dev", disk.name).exists():
        pytest.skip("the root file system has no device here")

    try:
        device = BlockDevice.open(Path("/dev", disk.name))
    except UnreadableError:
        pytest.skip("the disk is shut off from this machine's root")
    with pytest.raises(NotEmptyError, match="in use"):
        device.require_unused()
    with pytest.raises(NotEmptyError):
        device.require_empty(())


def test_a_stick_that_is_too_small_is_refused_with_both_numbers(stick: Path) -> None:
    with pytest.raises(CapacityError) as refused:
        require_fits(SIZE + 1, BlockDevice.open(stick), is_partitioned=True, number=2)

    assert f"{SIZE + 1:,}" in refused.value.why
    assert f"{SIZE:,}" in refused.value.why


def test_a_loop_device_behind_the_cache_gives_no_claim(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(8 * 2**20))
    (tmp_path / "image").write_bytes(os.urandom(2**20 + 512))
    device = subprocess.run(
        [program("losetup"), "-f", "--show", str(tmp_path / "file")], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        assert not burn(tmp_path / "image", BlockDevice.open(Path(device)), number=1, progress=no_progress)
    finally:
        subprocess.run([program("losetup"), "-d", device], check=True)
    assert (tmp_path / "file").read_bytes()[: 2**20 + 512] == (tmp_path / "image").read_bytes()


def test_a_stick_that_gives_other_bytes_back_is_found(stick: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(os.urandom(12 * 2**20))

    def tear(_done: int, _total: int, label: str) -> None:
        if "reading" in label:
            put(stick, b"torn", 9 * 2**20)

    with pytest.raises(ReadBackError, match="came back different"):
        burn(image, BlockDevice.open(stick), number=1, progress=tear)


def test_a_stick_that_is_pulled_out_half_way_looks_empty_at_its_head(stick: Path, tmp_path: Path) -> None:
    put(stick, os.urandom(EDGE), 0)
    image = tmp_path / "image"
    image.write_bytes(os.urandom(12 * 2**20))

    class PulledOutError(Exception):
        pass

    def pull(done: int, _total: int, _label: str) -> None:
        if done > 6 * 2**20:
            raise PulledOutError

    with pytest.raises(PulledOutError):
        burn(image, BlockDevice.open(stick), number=1, progress=pull)

    with stick.open("rb") as source:
        assert source.read(EDGE) == bytes(EDGE)


def test_the_command_writes_a_stick_and_records_what_it_lost(
    medium: SimulatedMedium, stick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if why := missing_for("vfat"):
        pytest.skip(why)
    subprocess.run([program("mkfs.vfat"), "-I", "-n", "HOLIDAYS", str(stick)], check=True, capture_output=True)
    book = tmp_path / "register"
    write = ["write", medium.work.root, f"2={stick}", "--ceremony", medium.ceremony.folder, "--register", book]
    write += ["--format", "vfat", "--person", "alice", "--to", "Carl Courier"]

    assert command(*write) == 113
    assert "HOLIDAYS" in json.loads(capsys.readouterr().out)["error"]["why"]
    assert command(*write, "--erase", stick, "--dry-run") == 0
    assert "HOLIDAYS" in json.loads(capsys.readouterr().out)["destinations"][0]["will_be_erased"]
    assert not book.exists()
    assert command(*write, "--erase", stick) == 0

    told = json.loads(capsys.readouterr().out)["volumes"][0]
    kinds = [(entry.kind, entry.facts.get("by")) for entry in Register(folder=book).entries()]
    assert kinds == [("erased", "alice"), ("written", "alice"), ("sent", "alice")]
    assert (told["verified"], told["read_back"]) == (True, "read back from the device")
    listed = subprocess.run(
        ["mdir", "-b", "-i", f"{stick}@@{PARTITION}", "::/custody"], capture_output=True, text=True, check=True
    ).stdout
    assert "001-" in listed


@pytest.mark.parametrize(("kind", "claim"), [("ext4", True), ("exfat", False)])
def test_a_mounted_stick_is_called_verified_only_without_a_program_in_between(
    *, medium: SimulatedMedium, stick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, claim: bool
) -> None:
    if why := missing_for(kind):
        pytest.skip(why)
    (tmp_path / "mnt").mkdir()
    subprocess.run([program(f"mkfs.{kind}"), str(stick)], check=True, capture_output=True)
    mount = ["mount"] if kind == "ext4" else [program("mount.exfat-fuse")]
    subprocess.run([*mount, str(stick), str(tmp_path / "mnt")], check=True, capture_output=True)
    try:
        write = ["write", medium.work.root, f"1={tmp_path / 'mnt'}", "--ceremony", medium.ceremony.folder]
        assert command(*write, "--register", tmp_path / "register") == 0
    finally:
        subprocess.run(["umount", str(tmp_path / "mnt")], check=True)

    (told,) = json.loads(capsys.readouterr().out)["volumes"]
    assert told["verified"] is claim
    assert told["read_back"].startswith("read back" if claim else "not verified")
