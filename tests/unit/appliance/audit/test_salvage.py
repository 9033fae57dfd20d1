"""A damaged file: what is on other pages is found, and it is said that something is missing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.audit import salvage, tree
from appliance.audit.backend import Row
from appliance.audit.leaf import Via, encode
from appliance.audit.sqlite_backend import FILE_NAME, open_writer

PAGE = 4096
MANY = 3000
WANTED = "key.destroyed"


def row(sequence: int) -> Row:
    kind = WANTED if sequence % 10 == 0 else "a.b"
    via, body = Via(door="ledger-actions", uid=0), b'{"n":"number-%d"}' % sequence
    origin, time = "sealift/demo/00000000", "2027-03-04T08:00:00Z"
    raw = encode(origin=origin, sequence=sequence, time=time, kind=kind, via=via, body=body)
    return Row(sequence, kind, raw, tree.leaf_hash(raw), bytes(32), "", "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    backend = open_writer(tmp_path / FILE_NAME)
    backend.append([row(sequence) for sequence in range(MANY)], [])
    backend.close()
    return tmp_path


def wiped(folder: Path, is_hit: Callable[[bytes], bool]) -> None:
    """Overwrite the pages of the file that are looked for, but never the first."""
    file = folder / FILE_NAME
    content = file.read_bytes()
    pages = [content[at : at + PAGE] for at in range(0, len(content), PAGE)]
    hit = [number for number, page in enumerate(pages) if number and is_hit(page)]
    assert hit
    for number in hit:
        pages[number] = b"\xff" * PAGE
    file.write_bytes(b"".join(pages))


def found(folder: Path) -> tuple[list[int], bool]:
    leaves, is_whole = salvage.salvaged(folder, (WANTED, "ledger.restored"))
    return sorted(leaf.sequence for leaf in leaves), is_whole


def test_all_is_found_where_nothing_is_damaged(folder: Path) -> None:
    assert found(folder) == (list(range(0, MANY, 10)), True)


def test_a_page_that_does_not_read_hides_the_records_on_it_alone(folder: Path) -> None:
    wiped(folder, lambda page: b"number-1500" in page)

    read, is_whole = found(folder)

    assert not is_whole
    assert 1500 not in read
    assert {*range(0, 1450, 10), *range(1550, MANY, 10)} <= set(read)


def test_the_table_is_read_where_the_index_does_not(folder: Path) -> None:
    wiped(folder, lambda page: page.count(WANTED.encode()) > PAGE // 50)

    assert found(folder) == (list(range(0, MANY, 10)), False)


def test_a_record_that_is_not_what_its_row_hashes_is_taken_and_told(folder: Path) -> None:
    file = folder / FILE_NAME
    file.write_bytes(file.read_bytes().replace(b"number-1500", b"number-15o0"))

    assert found(folder) == (list(range(0, MANY, 10)), False)


def test_a_file_that_is_none_has_nothing(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 1000)

    assert found(tmp_path) == ([], False)
