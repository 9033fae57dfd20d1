"""`sealift backup` and `sealift drill` as a person, or the timer, types them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.actions.backups import drill, restoring
from appliance.actions.backups.restoring import Decisions
from appliance.audit.memory import MemoryLedger
from appliance.cli import backup
from appliance.errors import BackupDamagedError, PreflightError
from media.clock import SystemClock
from media.errors import UsageError
from tests.support.commands import Run, typed


@pytest.fixture
def sealift(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    file = tmp_path / "sealift.toml"
    file.write_text(f'format = 1\nsite = "demo"\nenvironment = "demo"\n[places]\nroot = "{tmp_path}"\n')
    return typed(file, (backup,), capsys)


def test_a_backup_that_is_not_there_is_no_fault_of_ours(sealift: Run, tmp_path: Path) -> None:
    ended = sealift("backup", "verify", tmp_path / "b.backup.gpg")

    assert ended.code == BackupDamagedError.exit_code
    assert "b.backup.gpg cannot be read" in ended.err


def test_people_show_what_was_erased_as_a_file_or_as_typed(
    sealift: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Decisions] = []

    def restore(*_: object, decisions: Decisions, **__: object) -> None:
        seen.append(decisions)
        raise BackupDamagedError(what="far enough")

    monkeypatch.setattr(restoring, "restore", restore)
    record = tmp_path / "record.txt"
    record.write_text(f'7  key.destroyed\n{{"digests": ["{"a" * 64}"]}}\n')

    words = ("backup", "restore", "FILE", "--erased", record, "--erased", "B" * 64)
    assert sealift(*words).code == BackupDamagedError.exit_code
    assert seen[0].erased == {"a" * 64, "b" * 64}
    for wrong in ("b" * 63, tmp_path / "missing.txt"):
        assert sealift("backup", "restore", "FILE", "--erased", wrong).code == UsageError.exit_code
    assert len(seen) == 1


def test_the_timer_drills_once_a_month(sealift: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = MemoryLedger(SystemClock())

    @contextmanager
    def ledger_of(_own: Any) -> Iterator[MemoryLedger]:
        yield ledger

    monkeypatch.setattr(backup, "ledger_of", ledger_of)
    assert sealift("drill", "--due").code == PreflightError.exit_code, "it was tried: there is no folder here"
    ledger.append(drill.FAILED, {"level": drill.STREAM})
    assert sealift("drill", "--due").code == PreflightError.exit_code
    ledger.append(drill.DRILLED, {"level": drill.STREAM})
    assert (sealift("drill", "--due").code, sealift("drill").code) == (0, PreflightError.exit_code)
