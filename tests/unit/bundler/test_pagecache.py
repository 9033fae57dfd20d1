"""Forgetting a file, and knowing that it is forgotten."""

import os
from pathlib import Path

from bundler import pagecache
from tests.support.otherplaces import on_disk

SIZE = 8 * 2**20


def test_a_file_is_out_of_the_cache_only_when_the_kernel_says_so() -> None:
    with on_disk() as folder, (folder / "file").open("w+b") as source:
        source.write(bytes(SIZE))
        source.flush()
        assert pagecache.resident_pages(source.fileno()) == SIZE // os.sysconf("SC_PAGESIZE")
        os.fsync(source.fileno())
        assert pagecache.drop(source.fileno())
        assert pagecache.resident_pages(source.fileno()) == 0


def test_memory_is_never_out_of_memory() -> None:
    descriptor = os.memfd_create("sealift-page-cache")
    try:
        os.write(descriptor, bytes(SIZE))

        assert not pagecache.drop(descriptor)
    finally:
        os.close(descriptor)


def test_file_systems_without_a_device_of_their_own_are_not_on_one() -> None:
    assert not pagecache.is_on_a_device(Path("/proc"))
    assert not pagecache.is_on_a_device(Path("/dev/shm"))
