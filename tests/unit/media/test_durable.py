"""Files that are whole under their names, or not there."""

import os
import stat
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
