"""Allowances that people paste: one for each file and rule, for that very file, and never without a reason."""

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from bundler.artifact import Artifact
from bundler.errors import ScanError
from bundler.recipe import AllowedFinding
from bundler.scan import judge, scan
from bundler.scanning.proposed import proposals
from tests.support.payload import artifact, wheel

PICKLED = b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00C\x01a\x94."


def carried(folder: Path, version: str = "1.0") -> list[Artifact]:
    files = {"torch/a.pkl": PICKLED, "torch/b.pkl": PICKLED, "torch/c.pkl": PICKLED, "torch/d.pkl": PICKLED}
    file = wheel(folder, "torch", version, files={"torch/__init__.py": b"", "run.pth": b"import x\n", **files})
    return [artifact(file)]


def read(text: str, **changed: object) -> list[AllowedFinding]:
    return [AllowedFinding(**{**each, **changed}) for each in tomllib.loads(text)["scan"]["allowed"]]


def test_many_findings_of_a_kind_in_one_file_are_one_line_to_review(tmp_path: Path) -> None:
    artifacts = carried(tmp_path)

    text = proposals(judge(artifacts).refused, artifacts)

    assert "# 4 findings" in text
    assert "and 1 more" in text
    made = read(text, reason="Ann and Ben looked at it")
    assert sorted(each.rule for each in made) == ["pickle", "pth-file"]
    assert {each.sha256 for each in made} == {artifacts[0].sha256}
    assert scan(artifacts, allowed=made).findings


def test_pasting_alone_allows_nothing(tmp_path: Path) -> None:
    artifacts = carried(tmp_path)

    with pytest.raises(ValidationError):
        read(proposals(judge(artifacts).refused, artifacts))


def test_an_allowance_ends_with_the_file_that_was_looked_at(tmp_path: Path) -> None:
    artifacts = carried(tmp_path / "old")
    made = read(proposals(judge(artifacts).refused, artifacts), reason="Ann and Ben looked at it", path="*")

    with pytest.raises(ScanError, match="may not travel"):
        scan(carried(tmp_path / "new", "1.1"), allowed=made)


def test_what_breaks_its_own_format_is_named_and_not_proposed(tmp_path: Path) -> None:
    artifacts = carried(tmp_path)
    assert artifacts[0].file is not None
    artifacts[0].file.write_bytes(b"PK")

    text = proposals(judge(artifacts).refused, artifacts)

    assert "that nobody can allow" in text
    assert "[[scan.allowed]]" not in text
