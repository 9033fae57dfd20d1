"""`sealift-bundler probe`, as a person types it."""

import io
import json
from pathlib import Path

import pytest

from bundler.cli.main import main
from bundler.probe.facts import Probe
from bundler.probe.questions import QUESTIONS
from tests.support.probes import PROGRAM, gpu_probe


def typed(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["probe", *words])
    return int(ended.value.code or 0)


def test_the_program_is_written_out_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "p.sh"

    assert typed("file", "-o", str(out)) == 0
    assert out.read_bytes() == PROGRAM.read_bytes()
    assert typed("file", "-o", str(out)) == 113


def test_a_filled_form_becomes_a_probe_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blank, filled, out = tmp_path / "blank.txt", tmp_path / "filled.txt", tmp_path / "probe.json"
    assert typed("form", "-o", str(blank)) == 0
    text = blank.read_text()
    for question in QUESTIONS:
        text = text.replace(f"\n{question.key}: \n", f"\n{question.key}: {question.example}\n")
    filled.write_text(text)

    assert typed("enter", str(filled), "-o", str(out), "--dry-run") == 0
    assert not out.exists()
    assert typed("enter", str(filled), "-o", str(out)) == 0
    assert Probe.load(out).driver == "570.86.15"
    assert "2 x NVIDIA L40S" in capsys.readouterr().err


def test_a_form_on_paper_is_a_pdf(tmp_path: Path) -> None:
    assert typed("form", "-o", str(tmp_path / "form.pdf")) == 0
    assert (tmp_path / "form.pdf").read_bytes().startswith(b"%PDF-")


def test_questions_are_asked_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = "".join(f"{question.example}\n" for question in QUESTIONS)
    monkeypatch.setattr("sys.stdin", io.StringIO(answers))

    assert typed("enter", "-o", str(tmp_path / "probe.json")) == 0
    assert Probe.load(tmp_path / "probe.json").cores == 16
    assert "read it from: nproc" in capsys.readouterr().err


def test_a_probe_is_shown_as_text_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.json").write_bytes(gpu_probe().to_bytes())

    assert typed("show", str(tmp_path / "p.json")) == 0
    assert "GPU driver     570.86.15" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--json", "probe", "show", str(tmp_path / "p.json")])
    assert json.loads(capsys.readouterr().out)["cuda"] == "12.8"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"cores: many\n"])
def test_what_is_no_form_or_probe_ends_with_its_exit_code(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)

    assert typed("enter", str(tmp_path / "x")) == 119
    assert typed("show", str(tmp_path / "x")) == 119
    assert typed("enter", str(tmp_path / "none")) == 119
