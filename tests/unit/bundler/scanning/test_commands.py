"""The command `scan`, candidates as it reads them, and the statement as `inspect` shows it."""

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from bundler.artifact import Artifact
from bundler.cli.main import main
from bundler.errors import ScanError
from bundler.inspect import inspect_work
from bundler.recipe import AllowedFinding
from bundler.scan import judge, scan
from bundler.scanning.candidate import of_candidate, of_folder
from bundler.scanning.record import ScanRecord
from bundler.workfolder import WorkFolder
from media import canonical
from media.errors import MalformedError, MediaError, UnsupportedFormatError
from tests.support.payload import artifact, gguf, wheel
from tests.support.workshop import candidate

CALL = b"cposix\nsystem\n(Vid\ntR."


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a recipe and the work folder made of it; tests copy it before they change it."""
    folder = tmp_path_factory.mktemp("built")
    candidate(folder)
    return folder


def test_a_candidate_is_scanned_as_it_was_built(
    tmp_path: Path, built: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEALIFT_CACHE", str(tmp_path / "cache"))

    with pytest.raises(SystemExit, match="0"):
        main(["scan", str(built / "work"), "--json"])

    said = json.loads(capsys.readouterr().out)
    before = json.loads((built / "work/attest/scan.json").read_bytes())["predicate"]
    assert (said["result"], said["refused"]) == ("passed", [])
    assert said["findings"] == before["findings"]
    assert said["loads"] == before["loads"]
    assert said["templates"] == before["templates"]


def test_inspect_shows_what_was_scanned(built: Path) -> None:
    shown = inspect_work(WorkFolder(root=built / "work")).to_text()

    assert "scan: model tiny NOT loaded: its engine's environment has no llama-cpp-python" in shown
    assert "scan: template data/models/tiny/chat_template.jinja: rendered, sha256 " in shown


@pytest.mark.parametrize("change", ["extra", "missing", "link"])
def test_a_candidate_that_is_not_its_plan_is_not_scanned_in_part(tmp_path: Path, built: Path, change: str) -> None:
    work = WorkFolder(root=Path(shutil.copytree(built / "work", tmp_path / "work")))
    template = work.data / "models/tiny/chat_template.jinja"
    if change == "extra":
        (work.data / "models/tiny/more.txt").write_bytes(b"x")
    else:
        template.unlink()
    if change == "link":
        template.symlink_to("/etc/passwd")

    with pytest.raises(ScanError, match=r"is not in the plan|is not there, or is no regular file"):
        of_candidate(work)


def test_any_folder_is_scanned_to_the_end_and_every_finding_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "download"
    (folder / "deep").mkdir(parents=True)
    (folder / "m.gguf").write_bytes(gguf()[:-1])
    (folder / "deep/config.json").write_bytes(b'{"auto_map": {"a": "b"}}')
    (folder / "deep/vocab.txt").write_bytes(CALL)
    wheel(folder, "a", files={"a.pth": b"import a\n"})

    with pytest.raises(SystemExit, match="63"):
        main(["scan", str(folder)])

    shown = capsys.readouterr()
    rules = sorted(line.split()[1] for line in shown.out.splitlines() if line.startswith("REFUSED"))
    assert rules == ["malformed", "pickle", "pth-file", "remote-code"]
    assert "4 findings may not travel" in shown.err
    assert str(tmp_path) not in shown.out


def test_what_breaks_its_own_format_cannot_be_allowed(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf()[:-1])
    allowed = AllowedFinding(path="*", rule="malformed", reason="never mind")

    assert [found.rule for found in judge(of_folder(tmp_path), allowed=[allowed]).refused] == ["malformed"]


def test_one_file_is_scanned_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf())

    with pytest.raises(SystemExit, match="0"):
        main(["scan", str(tmp_path / "m.gguf")])

    assert capsys.readouterr().out == "1 files, 0 findings refused, 0 in all\n"


def test_what_is_no_regular_file_is_refused_without_opening_it(tmp_path: Path) -> None:
    folder = tmp_path / "download"
    folder.mkdir()
    os.mkfifo(folder / "m.gguf")

    for path, why in ((folder, "m.gguf is no regular file"), (tmp_path / "absent", "absent is not there")):
        with pytest.raises(ScanError, match=why):
            of_folder(path)
    (folder / "m.gguf").unlink()
    with pytest.raises(ScanError, match="download cannot be scanned"):
        of_folder(folder)


def test_the_command_judges_by_a_recipe_where_it_is_given_one(
    tmp_path: Path, built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        (built / "recipe/recipe.toml").read_text()
        + '\n[[scan.allowed]]\npath = "*"\nrule = "pickle"\nreason = "looked at"\n'
    )

    with pytest.raises(SystemExit, match="0"):
        main(["scan", str(built / "work"), "--recipe", str(recipe), "--no-load", "--json"])

    assert json.loads(capsys.readouterr().out)["loads"] == []


def test_the_statement_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    report = scan([artifact(wheel(tmp_path, "a", license_line="License-Expression: GPL-3.0-only"))])

    record = ScanRecord.from_predicate(report.predicate())

    assert record.findings == report.findings
    assert record.checks["wheel"] == 1
    assert [line.partition(":")[0] for line in record.lines()] == [
        "license-terms in data/wheels/a-1.0-py3-none-any.whl"
    ]


def test_many_listed_findings_share_a_line(tmp_path: Path) -> None:
    wheels = [artifact(wheel(tmp_path, name, license_line="License: GPL")) for name in "abcd"]

    record = ScanRecord.from_predicate(scan(wheels).predicate())

    assert list(record.lines()) == ["license-terms: listed for 4 files; --json names them"]


def test_statements_of_the_first_format_still_read() -> None:
    old = {"format": 1, "rules": [], "files": 3, "result": "passed", "findings": []}

    assert ScanRecord.from_predicate(old).files == 3
    with pytest.raises(UnsupportedFormatError):
        ScanRecord.from_predicate({**old, "format": 3})


_SECOND = canonical.loads((Path(__file__).parents[3] / "corpus/v1/valid/scan--format-2").read_bytes())


@pytest.mark.parametrize(
    "changed",
    [
        {"findings": [{"path": "a\x1b[2J", "rule": "r", "detail": "", "reason": ""}]},
        {"findings": {}},
        {"files": "3"},
        {"files": True},
        {"format": "2"},
        {"format": 1},
        {"loads": [{**_SECOND["loads"][0], "loaded": "yes"}]},
        {"antivirus": {"program": "x"}},
        {"templates": [3]},
    ],
)
def test_a_statement_that_does_not_read_is_refused(changed: dict[str, object]) -> None:
    ScanRecord.from_predicate(_SECOND)

    with pytest.raises(MediaError):
        ScanRecord.from_predicate({**_SECOND, **changed})


_PLACES: list[tuple[str | int, ...]] = [
    (),
    ("checks", 0),
    ("findings", 0),
    ("templates", 0),
    ("loads", 0),
    ("antivirus",),
]


@pytest.mark.parametrize("place", _PLACES, ids=str)
def test_a_field_more_or_less_anywhere_in_a_statement_is_refused(place: tuple[str | int, ...]) -> None:
    def changed(*, more: bool) -> Any:
        value = copy.deepcopy(_SECOND)
        value["antivirus"] = _CLAMAV.copy()
        found = value
        for step in place:
            found = found[step]
        if more:
            found["approved_by"] = "nobody"
        else:
            found.popitem()
        return value

    ScanRecord.from_predicate({**_SECOND, "antivirus": _CLAMAV})

    for more in (True, False):
        with pytest.raises(MalformedError):
            ScanRecord.from_predicate(changed(more=more))


_CLAMAV = {
    "program": "ClamAV 1.0.9",
    "database_files": 3,
    "database_time": "2026-11-20T08:00:00Z",
    "database_age_days": 0,
    "database_sha256": "ab" * 32,
    "files": 12,
    "too_large": 0,
}


def test_every_check_and_how_many_files_it_saw_are_in_the_statement(tmp_path: Path) -> None:
    made = Artifact.of_bytes(b"{}", target="data/evals/e.jsonl", kind="eval")

    said = scan([made, artifact(wheel(tmp_path, "a"))]).predicate()

    counts = {check["check"]: check["files"] for check in said["checks"]}
    assert said["format"] == 2
    assert (counts["wheel"], counts["clinical-data"], counts["gguf"], counts["antivirus"]) == (1, 1, 0, 0)
    assert counts["secret"] == 6  # one task set and five members of the wheel
