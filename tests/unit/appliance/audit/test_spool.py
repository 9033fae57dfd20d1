import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.audit.spool import Spool
from appliance.errors import LedgerRefusedError, LedgerUnavailableError
from media.clock import FixedClock
from tests.support.ledger import bodies

CLOCK = FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))
BODY = bodies()["release.received"]


class Recorder:
    def __init__(self) -> None:
        self.seen: list[tuple[str, Mapping[str, Any], str, int]] = []

    def __call__(self, kind: str, body: Mapping[str, Any], key: str, uid: int) -> None:
        self.seen.append((kind, body, key, uid))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", clock=CLOCK)


def test_facts_are_handed_on_in_order_with_the_time_they_were_spooled_and_then_gone(spool: Spool) -> None:
    spool.append("release.received", BODY)
    CLOCK.advance(-3600)
    spool.append("trust.rotated", {"version": 2})
    CLOCK.advance(3600)
    recorder = Recorder()

    assert spool.drain(recorder) == 2

    assert [kind for kind, *_ in recorder.seen] == ["release.received", "trust.rotated"]
    assert recorder.seen[0][1] == {**BODY, "spooled_at": "2026-11-20T08:00:00Z"}
    assert recorder.seen[0][3] == os.getuid()
    assert len({key for _, _, key, _ in recorder.seen}) == 2
    assert spool.pending() == []
    assert spool.drain(recorder) == 0


def test_a_fact_keeps_its_key_until_it_is_recorded(spool: Spool) -> None:
    spool.append("trust.rotated", {"version": 2})
    keys: list[str] = []

    def fails(_kind: str, _body: Mapping[str, Any], key: str, _uid: int) -> None:
        keys.append(key)
        raise LedgerUnavailableError(what="full")

    with pytest.raises(LedgerUnavailableError):
        spool.drain(fails)
    recorder = Recorder()
    spool.drain(recorder)

    assert [keys[0]] == [key for _, _, key, _ in recorder.seen]


def test_two_equal_facts_are_two_facts(spool: Spool) -> None:
    for _ in range(2):
        spool.append("trust.rotated", {"version": 2})
    recorder = Recorder()
    spool.drain(recorder)

    assert len({key for _, _, key, _ in recorder.seen}) == 2


def test_what_the_ledger_would_refuse_is_not_spooled(spool: Spool) -> None:
    for kind, body in (("no kind", {}), ("a.b", {"x": b""}), ("release.received", {"serial": 1})):
        with pytest.raises(LedgerRefusedError):
            spool.append(kind, body)

    assert spool.pending() == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"nonsense",
        b'{"at":"2026-11-20T08:00:00Z","body":{},"format":2,"kind":"a.b"}',
        b'{"at":"2026-11-20T08:00:00Z","body":[],"format":1,"kind":"a.b"}',
        b'{"at":1,"body":{},"format":1,"kind":"a.b"}',
        b'{"at":"2026-11-20T08:00:00Z","body":{},"format":1,"kind":"A"}',
        b'{"at": "2026-11-20T08:00:00Z","body":{},"format":1,"kind":"a.b"}',
    ],
)
def test_a_file_that_does_not_read_is_kept_aside_and_stops_nobody(spool: Spool, tmp_path: Path, content: bytes) -> None:
    spool.append("trust.rotated", {"version": 2})
    bad = tmp_path / "spool/000000-00000000.json"
    bad.write_bytes(content)
    recorder = Recorder()

    assert spool.drain(recorder) == 1

    assert spool.rejected() == [bad.name]
    assert (tmp_path / "spool/rejected" / bad.name).read_bytes() == content


def test_a_fact_that_is_refused_for_its_content_is_kept_aside(spool: Spool) -> None:
    name = spool.append("trust.rotated", {"version": 2})

    def refuses(*_: object) -> None:
        raise LedgerRefusedError(what="no")

    assert spool.drain(refuses) == 0
    assert spool.rejected() == [name]


def test_other_files_and_unfinished_ones_are_left_alone(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    for name in (".000001-00000000.json.new", "notes.txt", "1-00000000.json"):
        (tmp_path / "spool" / name).write_text("{}")

    assert spool.pending() == []


def test_what_is_no_ordinary_file_is_put_aside_unread(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "spool/000001-00000000.json").symlink_to(tmp_path / "secret")
    (tmp_path / "spool/000002-00000000.json").mkdir()
    os.mkfifo(tmp_path / "spool/000003-00000000.json")
    recorder = Recorder()

    assert spool.drain(recorder) == 0

    assert len(spool.rejected()) == 3
    assert recorder.seen == []


def test_a_spool_that_was_never_used_is_empty(spool: Spool) -> None:
    assert spool.drain(Recorder()) == 0
    assert spool.rejected() == []


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(LedgerUnavailableError) as refusal:
        Spool(tmp_path / "file/spool").append("trust.rotated", {})
    assert "room" not in refusal.value.fix
    with pytest.raises(LedgerUnavailableError):
        Spool(tmp_path / "file").pending()


def test_what_is_kept_aside_can_be_counted_by_the_group_whatever_the_units_umask(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(exist_ok=True)
    (tmp_path / "spool/000000-00000000.json").write_bytes(b"not a fact")
    before = os.umask(0o077)
    try:
        spool.drain(Recorder())
    finally:
        os.umask(before)

    assert (tmp_path / "spool/rejected").stat().st_mode & 0o777 == 0o750


def test_a_folder_of_what_was_refused_that_is_another_users_keeps_no_ledger_from_starting(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a boot it was another's, and the next fact that did not read ended the ledger's start."""
    (tmp_path / "spool/rejected").mkdir(parents=True)
    (tmp_path / "spool/000000-00000000.json").write_bytes(b"not a fact")

    def is_not_ours(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", is_not_ours)
    assert spool.drain(Recorder()) == 0

    assert spool.rejected() == ["000000-00000000.json"]
