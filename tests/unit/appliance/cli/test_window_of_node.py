"""`sealift window end --node`: in whose name and why, and only where there are other nodes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.audit.memory import MemoryLedger
from appliance.cli import window
from media.errors import UsageError
from tests.support.commands import Run, typed


@pytest.fixture
def sealift(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    @contextmanager
    def ledger_of(_own: Any) -> Iterator[MemoryLedger]:
        yield MemoryLedger()

    monkeypatch.setattr(window, "ledger_of", ledger_of)
    monkeypatch.setattr(window, "require_enrolled", lambda *_: None)
    file = tmp_path / "sealift.toml"
    file.write_text(f'format = 1\nsite = "demo"\nenvironment = "demo"\n[places]\nroot = "{tmp_path}"\n')
    return typed(file, (window,), capsys)


@pytest.mark.parametrize(
    "words", [("--node", "b"), ("--reason", "burnt"), ("--node", "b", "--reason", " ")], ids=" ".join
)
def test_the_node_and_the_reason_are_given_together(sealift: Run, words: tuple[str, ...]) -> None:
    ended = sealift("window", "end", "--as", "ada", *words)

    assert ended.code == UsageError.exit_code
    assert "go together" in ended.err


def test_a_box_alone_knows_no_other_node(sealift: Run) -> None:
    ended = sealift("window", "end", "--as", "ada", "--node", "b", "--reason", "burnt")

    assert ended.code == UsageError.exit_code
    assert "no other node" in ended.err
