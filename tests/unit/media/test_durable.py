"""Files that are whole under their names, or not there."""

import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from media import durable


def test_replacing_leaves_the_new_content_with_the_exact_mode_and_nothing_beside(tmp_path: Path) -> None:
    place = tmp_path / "record.json"
    place.write_bytes(b"old")
    os.umask(0o077)

    durable.replace(place, b"new", mode=0o644)

    assert place.read_bytes() == b"new"
    assert stat.S_IMODE(place.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("mode", [0o600, 0o444, 0o000])
def test_what_a_cut_left_beside_stops_no_later_replacement(tmp_path: Path, mode: int) -> None:
    left = tmp_path / ".record.json.new"
    left.write_bytes(b"half")
    left.chmod(mode)

    durable.replace(tmp_path / "record.json", b"whole", mode=0o444)

    assert (tmp_path / "record.json").read_bytes() == b"whole"
    assert not left.exists()


def test_a_link_beside_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"kept")
    (tmp_path / ".record.json.new").symlink_to(victim)

    durable.replace(tmp_path / "record.json", b"new", mode=0o644)

    assert victim.read_bytes() == b"kept"


def test_a_new_file_is_never_written_over_another(tmp_path: Path) -> None:
    (tmp_path / "entry").write_bytes(b"first")

    with pytest.raises(FileExistsError):
        durable.write_new(tmp_path / "entry", b"second")

    assert (tmp_path / "entry").read_bytes() == b"first"


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process grows: each write fails, as on a disk without room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("write", [durable.write_new, durable.place_new, durable.replace])
def test_what_could_not_be_written_is_not_there_and_can_be_written_again(
    write: Callable[..., None], tmp_path: Path
) -> None:
    place = tmp_path / "key.v1"

    with full_disk(), pytest.raises(OSError, match="File too large"):
        write(place, b"secret", mode=0o400)
    left = list(tmp_path.iterdir())
    write(place, b"secret", mode=0o400)

    assert left == []
    assert place.read_bytes() == b"secret"


def test_what_is_placed_is_never_placed_over_another_and_leaves_nothing_beside(tmp_path: Path) -> None:
    os.umask(0o077)
    durable.place_new(tmp_path / "key.v1", b"first", mode=0o444)

    with pytest.raises(FileExistsError):
        durable.place_new(tmp_path / "key.v1", b"second", mode=0o444)

    assert (tmp_path / "key.v1").read_bytes() == b"first"
    assert stat.S_IMODE((tmp_path / "key.v1").stat().st_mode) == 0o444
    assert list(tmp_path.iterdir()) == [tmp_path / "key.v1"]


def test_a_device_is_not_replaced_nor_a_link_to_what_is_no_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "stdout").symlink_to(pipe)
    (tmp_path / "null").symlink_to("/dev/null")

    for place in (tmp_path / "stdout", tmp_path / "null"):
        with pytest.raises(FileExistsError, match="no file"):
            durable.replace(place, b"new", mode=0o644)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["null", "pipe", "stdout"]
    assert (tmp_path / "null").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="root makes devices")
def test_root_puts_no_file_in_the_place_of_a_device(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except OSError:
        pytest.skip("no devices can be made here")

    with pytest.raises(FileExistsError, match="no file"):
        durable.replace(device, b"new", mode=0o644)

    assert device.is_char_device()
