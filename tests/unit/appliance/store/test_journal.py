from pathlib import Path

import pytest

from appliance.store.journal import Journal

PAYLOAD, A, B = "cd" * 32, "0a" * 32, "0b" * 32


def reopened(path: Path, *, payload: str = PAYLOAD, full: bool = False) -> Journal:
    journal = Journal.open(path, payload_digest=payload, full=full)
    journal.close()
    return journal


def written(path: Path) -> Path:
    journal = Journal.open(path, payload_digest=PAYLOAD, full=False)
    journal.record_complete({A: 5})
    journal.record_blocks({B: [1]})
    journal.record_blocks({B: [0, 3]})
    journal.close()
    return path


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    journal = reopened(written(tmp_path / "journal"))

    assert (journal.complete, journal.blocks) == ({A: 5}, {B: {0, 1, 3}})


def test_a_complete_object_has_no_open_blocks(tmp_path: Path) -> None:
    journal = Journal.open(written(tmp_path / "journal"), payload_digest=PAYLOAD, full=False)
    journal.record_complete({B: 9})
    journal.close()

    assert reopened(tmp_path / "journal").blocks == {}


def test_another_payload_finds_nothing(tmp_path: Path) -> None:
    journal = reopened(written(tmp_path / "journal"), payload="00" * 32)

    assert (journal.complete, journal.blocks) == ({}, {})


def test_full_forgets_everything(tmp_path: Path) -> None:
    assert reopened(written(tmp_path / "journal"), full=True).complete == {}
    assert reopened(tmp_path / "journal").complete == {}


def test_cut_off_at_any_byte_it_says_only_what_was_durable_before(tmp_path: Path) -> None:
    data = written(tmp_path / "journal").read_bytes()
    for length in range(len(data)):
        (tmp_path / "cut").write_bytes(data[:length])

        journal = reopened(tmp_path / "cut")

        assert journal.complete in ({}, {A: 5})
        assert journal.blocks in ({}, {B: {1}}, {B: {0, 1, 3}})
        assert reopened(tmp_path / "cut").complete == journal.complete


@pytest.mark.parametrize(
    "junk", [b"\0" * 50, b'{"object":1}\n', b"{}\n", b"[1]\n", b"\xff\n", b'{"blocks":["y"],"object":"x"}\n']
)
def test_junk_at_the_end_is_dropped_and_written_over(tmp_path: Path, junk: bytes) -> None:
    path = written(tmp_path / "journal")
    path.write_bytes(path.read_bytes() + junk)

    journal = Journal.open(path, payload_digest=PAYLOAD, full=False)
    journal.record_complete({B: 7})
    journal.close()

    assert reopened(path).complete == {A: 5, B: 7}


def test_a_journal_of_the_first_format_counts_for_nothing_and_gives_way_to_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(
        b'{"format":1,"payload_digest":"%b"}\n{"length":5,"object":"%b"}\n{"blocks":2,"object":"%b"}\n'
        % (PAYLOAD.encode(), A.encode(), B.encode())
    )

    journal = reopened(path)

    assert (journal.complete, journal.blocks) == ({}, {})
    assert path.read_bytes() == b'{"format":2,"payload_digest":"%b"}\n' % PAYLOAD.encode()
