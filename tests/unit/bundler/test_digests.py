import hashlib
import os
import time
from pathlib import Path

import pytest

from bundler.digests import Digests, copy_of, file_sha256, remembering
from tests.support.otherplaces import on_another_file_system

LARGE = 16 * 2**20


def settled(path: Path, content: bytes) -> Path:
    """Write a file whose content changed long ago, as far as its clock says."""
    path.write_bytes(content)
    os.utime(path, ns=(10**18, 10**18))
    return path


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_read_once_in_a_run_under_all_its_names(tmp_path: Path) -> None:
    first = settled(tmp_path / "a", b"weights")
    (tmp_path / "b").hardlink_to(first)

    with remembering(Digests()) as digests:
        found = [file_sha256(path) for path in (first, tmp_path / "b", first)]

    assert found == [digest(b"weights")] * 3
    assert digests.bytes_read == len(b"weights")


def test_outside_a_run_nothing_is_remembered(tmp_path: Path) -> None:
    file = settled(tmp_path / "a", b"weights")

    assert file_sha256(file) == digest(b"weights")
    settled(file, b"Weights")

    assert file_sha256(file) == digest(b"Weights")


def test_a_change_that_the_clock_of_the_file_could_not_show_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "a"

    with remembering(Digests()):
        for content in (b"one", b"two", b"six"):
            file.write_bytes(content)
            assert file_sha256(file) == digest(content)


def test_a_large_fresh_file_is_waited_for_and_then_remembered(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(bytes(LARGE))

    with remembering(Digests()) as digests:
        file_sha256(file)
        file_sha256(file)

    assert digests.bytes_read == LARGE


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    file = settled(tmp_path / "a", bytes(LARGE))

    def grow(done: int, total: int, label: str) -> None:
        del total, label
        if done < LARGE:
            os.utime(file, ns=(time.time_ns(), time.time_ns()))

    with remembering(Digests(told=grow)), pytest.raises(OSError, match="changed"):
        file_sha256(file)


def test_weights_of_another_file_system_are_copied_by_the_reading_that_hashes_them(tmp_path: Path) -> None:
    content = os.urandom(LARGE + 5)
    with on_another_file_system(tmp_path) as elsewhere:
        file = settled(elsewhere / "a", content)
        with remembering(Digests(spool=tmp_path)) as digests:
            found = [file_sha256(file), file_sha256(file)]
            copy = copy_of(found[0])

    assert found == [digest(content)] * 2
    assert copy is not None
    assert copy.read_bytes() == content
    assert digests.bytes_read == len(content)
    assert copy_of(found[0]) is None
