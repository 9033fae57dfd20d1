"""The trust record survives cuts and refuses to be guessed."""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.verify import trust
from appliance.verify.trust import Checkpoint, TrustRecord
from media import canonical
from media.errors import LimitExceededError, MalformedError, NoTrustError

RECORD = TrustRecord(
    root_chain=('{"signed":{"version":1}}', '{"signed":{"version":2}}\n'),
    serial=7,
    timestamp_version=7001,
    snapshot_version=7,
    targets_version=7,
    payload_digest="ab" * 32,
    floor=datetime(2026, 11, 20, 8, 0, tzinfo=UTC),
    checkpoint=Checkpoint(origin="sealift.example/demo", size=12, root="cd" * 32),
)


def places(folder: Path, *, pinned: str | None = RECORD.root_chain[0]) -> tuple[Path, Path]:
    for name in ("trust", "pinned"):
        (folder / name).mkdir()
    if pinned is not None:
        (folder / "pinned" / trust.PINNED_ROOT).write_text(pinned)
    return folder / "trust", folder / "pinned"


@pytest.mark.parametrize("record", [RECORD, replace(RECORD, checkpoint=None), TrustRecord(root_chain=("{}",))])
def test_a_record_reads_as_it_was_written(record: TrustRecord) -> None:
    assert TrustRecord.from_bytes(record.to_bytes()) == record


def test_a_saved_record_is_loaded_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    where, pinned = places(tmp_path)

    trust.save(where, RECORD)

    assert trust.load(where, pinned, may_begin=False) == RECORD
    assert sorted(path.name for path in where.iterdir()) == [trust.ROOTS, trust.RECORD]
    assert [path.name for path in (where / trust.ROOTS).iterdir()] == ["2.root.json"]
    assert trust.kept_root(where, 2) == RECORD.root_chain[1].encode()


@pytest.mark.parametrize("root", ['{"signed":1}\r', "{}" + " " * (4 * 2**20)])
def test_what_could_not_be_loaded_again_is_not_saved(tmp_path: Path, root: str) -> None:
    where, pinned = places(tmp_path)
    trust.save(where, RECORD)

    with pytest.raises(MalformedError):
        trust.save(where, replace(RECORD, root_chain=(*RECORD.root_chain, root)))

    assert trust.load(where, pinned, may_begin=False) == RECORD


def test_saving_replaces_the_whole_record(tmp_path: Path) -> None:
    where, pinned = places(tmp_path)
    trust.save(where, RECORD)

    trust.save(where, replace(RECORD, serial=8))

    assert trust.load(where, pinned, may_begin=False).serial == 8


def test_a_box_that_never_accepted_anything_begins_with_the_pinned_root(tmp_path: Path) -> None:
    assert trust.load(*places(tmp_path), may_begin=True) == TrustRecord(root_chain=(RECORD.root_chain[0],))


def test_a_lost_record_stops_receiving_and_tells_who_mends_it(tmp_path: Path) -> None:
    with pytest.raises(NoTrustError, match="lost") as refusal:
        trust.load(*places(tmp_path), may_begin=False)

    assert "two people" in refusal.value.fix


@pytest.mark.parametrize("may_begin", [True, False])
def test_without_a_pinned_root_nothing_is_believed(tmp_path: Path, may_begin: bool) -> None:  # noqa: FBT001
    with pytest.raises(NoTrustError, match="no root is pinned"):
        trust.load(*places(tmp_path, pinned=None), may_begin=may_begin)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\0" * 100, RECORD.to_bytes()[:-1], RECORD.to_bytes() + b"\n"])
def test_a_damaged_record_stops_receiving_even_where_one_could_begin(tmp_path: Path, damage: bytes) -> None:
    where, pinned = places(tmp_path)
    (where / trust.RECORD).write_bytes(damage)

    with pytest.raises(NoTrustError, match="damaged"):
        trust.load(where, pinned, may_begin=True)


def test_a_record_of_another_root_is_not_believed(tmp_path: Path) -> None:
    where, pinned = places(tmp_path, pinned='{"another":"root"}')
    trust.save(where, RECORD)

    with pytest.raises(NoTrustError, match="pinned root"):
        trust.load(where, pinned, may_begin=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("serial", -1),
        ("serial", "7"),
        ("root_chain", []),
        ("root_chain", "x"),
        ("floor", "yesterday"),
        ("payload_digest", "AB" * 32),
        ("checkpoint", {"origin": "x", "size": 1}),
        ("extra", 1),
    ],
)
def test_every_field_is_strict(field: str, value: object) -> None:
    changed = canonical.dumps({**RECORD.to_json(), field: value})

    with pytest.raises(MalformedError):
        TrustRecord.from_bytes(changed)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_one_of_our_errors(untrusted: bytes) -> None:
    with contextlib.suppress(MalformedError, LimitExceededError):
        TrustRecord.from_bytes(untrusted)
