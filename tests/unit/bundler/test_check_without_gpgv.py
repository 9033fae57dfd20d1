"""The second opinion on a machine that lacks what it needs."""

import os
from pathlib import Path

import pytest

from bundler.check import verify

VOLUMES = Path(__file__).parents[2] / "corpus/v1/valid/medium-full"


def test_a_machine_without_gpgv_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "defpath", "/nonexistent")

    ending = verify.main([str(VOLUMES / "volume-1"), str(VOLUMES / "volume-2")])

    assert ending == 18
    assert capsys.readouterr().err.startswith("NOT CHECKED: gpgv could not be run: ")
