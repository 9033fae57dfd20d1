import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.errors import ReadBackError
from bundler.readback import read_back
from tests.support.otherplaces import on_disk

LARGE = bytes(range(256)) * (5 * 4096) + b"tail"  # more than one read, and an end within a sector


def expected(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def lay(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


FILES = {"a.txt": b"a", "empty": b"", "data/large": LARGE, "data/sector": bytes(4096)}


def test_every_byte_comes_back_and_is_counted(tmp_path: Path) -> None:
    progress: list[tuple[int, int, str]] = []

    proof = read_back(lay(tmp_path, FILES), expected(FILES), progress=lambda *seen: progress.append(seen))

    total = sum(map(len, FILES.values()))
    assert (proof.files, proof.bytes) == (4, total)
    assert progress[-1][:2] == (total, total)


def test_a_disk_is_read_past_its_cache() -> None:
    with on_disk() as folder:
        assert read_back(lay(folder, FILES), expected(FILES)).says == "read back from the device"


def test_memory_is_not_called_a_device() -> None:
    shared = Path("/dev/shm")
    if sys.platform != "linux" or not shared.is_dir():
        pytest.skip("there is no file system in memory here")
    folder = shared / "sealift-read-back-test"
    try:
        proof = read_back(lay(folder, FILES), expected(FILES))
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)

    assert proof.says == "not verified: read back from memory only"


@pytest.mark.parametrize("name", ["a.txt", "data/large"])
def test_one_changed_bit_is_found(tmp_path: Path, name: str) -> None:
    lay(tmp_path, FILES)
    data = bytearray(FILES[name])
    data[-1] ^= 1
    (tmp_path / name).write_bytes(data)

    with pytest.raises(ReadBackError, match=f"{name} came back different"):
        read_back(tmp_path, expected(FILES))


def test_a_file_that_was_not_written_is_found(tmp_path: Path) -> None:
    lay(tmp_path, FILES)
    (tmp_path / "empty").unlink()

    with pytest.raises(ReadBackError, match="empty was not written as planned"):
        read_back(tmp_path, expected(FILES))


def test_a_file_too_many_is_found(tmp_path: Path) -> None:
    lay(tmp_path, {**FILES, "autorun.inf": b"x"})

    with pytest.raises(ReadBackError, match=r"autorun\.inf was not written as planned"):
        read_back(tmp_path, expected(FILES))
