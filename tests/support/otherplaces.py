"""Folders for tests that are about the file system below them: `tmp_path` lies in memory where tests are in a hurry."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_IN_MEMORY = {"tmpfs", "ramfs", "overlayfs"}
_PLACES = (Path(tempfile.gettempdir()), Path("/var/tmp"), Path("/tmp"))
_MEMORY = Path("/dev/shm")


@contextmanager
def on_disk() -> Iterator[Path]:
    """Yield a folder on a disk; the test is skipped where there is none."""
    place = next((one for one in _PLACES if one.is_dir() and _kind(one) not in _IN_MEMORY), None)
    if place is None:
        pytest.skip("no temporary folder is on a disk")
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


@contextmanager
def on_another_file_system(than: Path) -> Iterator[Path]:
    """Yield a folder on another file system than a path's; the test is skipped where there is none."""
    places = [one for one in (_MEMORY, *_PLACES) if one.is_dir() and one.stat().st_dev != than.stat().st_dev]
    if not places:
        pytest.skip("there is no second file system here")
    with tempfile.TemporaryDirectory(dir=places[0]) as folder:
        yield Path(folder)


def _kind(place: Path) -> str:
    told = subprocess.run(["stat", "-f", "-c", "%T", str(place)], capture_output=True, text=True, check=True)
    return told.stdout.strip()
