"""The second opinion on a machine that lacks what it needs."""

import os
import runpy
import sys
from pathlib import Path

import pytest

from bundler.check import verify

VOLUMES = Path(__file__).parents[2] / "corpus/v1/valid/medium-full"


def test_a_machine_without_gpgv_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "defpath", "/nonexistent")

    ending = verify.main([str(VOLUMES / "volume-1"), str(VOLUMES / "volume-2")])

    assert ending == 18
    assert capsys.readouterr().err.startswith("NOT CHECKED: gpgv could not be run: ")


def test_an_older_python_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """RHEL 9's own is 3.9, where the file's own words would end in a traceback."""
    monkeypatch.setattr(sys, "version_info", (3, 9, 18, "final", 0))

    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(verify.__file__), run_name="__main__")

    assert ended.value.code == 18
    assert capsys.readouterr().err.startswith("NOT CHECKED: this needs Python 3.10 or newer")


def test_a_file_that_may_not_travel_is_named(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_bytes(b"")

    with pytest.raises(verify.RefusedError, match=r"may not travel: \.DS_Store"):
        list(verify.walk(tmp_path))
