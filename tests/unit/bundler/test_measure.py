import hashlib
import os
from pathlib import Path

import pytest

from bundler.measure import measure, measure_tree, run_digest
from media.errors import UnreadableError, UnsafePathError
from media.layout import BLOCK_BYTES


def test_a_small_file_has_one_block_that_is_the_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")

    found = measure(tmp_path / "a")

    assert found.length == 5
    assert found.blocks == (found.sha256,) == (hashlib.sha256(b"hello").hexdigest(),)


def test_an_empty_file_has_no_blocks(tmp_path: Path) -> None:
    (tmp_path / "a").touch()

    assert measure(tmp_path / "a").blocks == ()


def test_a_large_file_is_hashed_whole_and_by_blocks(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as sparse:
        sparse.truncate(BLOCK_BYTES + 1)
    seen: list[int] = []

    found = measure(tmp_path / "a", advance=seen.append)

    zeros = bytes(BLOCK_BYTES)
    assert found.blocks == (hashlib.sha256(zeros).hexdigest(), hashlib.sha256(b"\0").hexdigest())
    assert found.sha256 == hashlib.sha256(zeros + b"\0").hexdigest()
    assert seen == [BLOCK_BYTES, 1]


def test_a_tree_is_measured_in_sorted_order_under_its_names_on_the_medium(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"1")
    (tmp_path / "a").write_bytes(b"22")
    progress: list[tuple[int, int, str]] = []

    found = measure_tree(tmp_path, prefix="data", progress=lambda *seen: progress.append(seen))

    assert list(found) == ["data/a", "data/b/x"]
    assert progress == [(2, 3, "data/a"), (3, 3, "data/b/x")]


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/hostname"), os.mkfifo])
def test_links_and_pipes_do_not_travel(tmp_path: Path, make: object) -> None:
    make(tmp_path / "odd")  # type: ignore[operator]

    with pytest.raises(UnsafePathError, match="not a regular file"):
        measure_tree(tmp_path, prefix="data")


def test_a_linked_folder_does_not_travel(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "linked").symlink_to(tmp_path / "real")

    with pytest.raises(UnsafePathError):
        measure_tree(tmp_path / "tree", prefix="data")


@pytest.mark.parametrize("name", ["with space", "trailing.", "CON", "naïve"])
def test_names_that_may_not_travel_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()

    with pytest.raises(UnsafePathError):
        measure_tree(tmp_path, prefix="data")


def test_a_run_of_bytes_is_hashed_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")

    assert run_digest(tmp_path / "a", offset=2, length=3) == hashlib.sha256(b"234").hexdigest()


def test_a_run_beyond_the_end_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")

    with pytest.raises(UnreadableError, match="shorter than planned"):
        run_digest(tmp_path / "a", offset=8, length=3)


def test_a_file_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="cannot be read"):
        measure(tmp_path / "a")
