import json
from pathlib import Path

import pytest

from bundler.cli.main import main
from bundler.errors import ScanError, SigningError
from bundler.inspect import inspect_model, inspect_work
from bundler.inspectmedium import inspect_medium
from bundler.workfolder import WorkFolder
from media.errors import MissingFileError
from tests.support.medium import make_medium
from tests.support.payload import gguf, safetensors
from tests.support.workshop import candidate


def test_a_candidate_says_what_is_in_it_and_who_has_signed(tmp_path: Path) -> None:
    work = candidate(tmp_path)
    (work.attest / "scan.dsse.json").touch()
    (work.attest / "rehearsal.json").write_text(json.dumps({"predicate": {"level": "installed", "at": "then"}}))

    found = inspect_work(work)

    assert found.statements == {"provenance": False, "rehearsal": False, "sbom": False, "scan": True}
    assert found.rehearsal == "installed, at then"
    assert found.environments == {"engine-llama-cpp": 3, "host": 2, "server": 2}
    assert [(model.name, model.quantization) for model in found.models] == [("tiny", "F32")]
    assert found.files["wheel"] == 3
    assert found.sizes["weights"] == (work.data / "models/tiny/tiny.gguf").stat().st_size
    assert found.to_json()["payload_digest"] == found.plan.payload_digest
    for word in ("small, serial 3", "tiny 1: llama.cpp, F32, MIT", "statement scan: signed", "rehearsal: installed"):
        assert word in found.to_text()


def test_a_folder_without_a_candidate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SigningError):
        inspect_work(WorkFolder(root=tmp_path))


def test_a_model_file_is_read_by_its_header_only(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf())
    (tmp_path / "m.safetensors").write_bytes(safetensors({"a": ("U8", (4,), (0, 4))}, data=4))
    (tmp_path / "m.bin").write_bytes(b"\x80\x04")

    assert inspect_model(tmp_path / "m.gguf")["tensor_types"] == {"F32": 1}
    assert inspect_model(tmp_path / "m.safetensors")["tensors"] == 1
    with pytest.raises(ScanError, match="neither GGUF nor safetensors"):
        inspect_model(tmp_path / "m.bin")


def test_volumes_say_what_they_are_and_that_nothing_was_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    medium = make_medium(tmp_path / "m")
    medium.add_litter(volume=2)
    (medium.volumes[1] / "photo\x1b[2J.jpg").touch()

    with pytest.raises(SystemExit, match="0"):
        main(["--json", "inspect", str(medium.volumes[1])])
    one = json.loads(capsys.readouterr().out)
    both = inspect_medium(medium.folder)

    assert (one["verified"], one["release"], one["missing_volumes"]) == (False, medium.release, [1])
    assert [(each["number"], each["signatures"], each["hand_overs"]) for each in one["volumes"]] == [(2, 2, 1)]
    assert one["volumes"][0]["not_ours"] == ["photo\x1b[2J.jpg"]
    assert "also there: photo?[2J.jpg" in inspect_medium(medium.volumes[1]).to_text()
    assert both.missing == ()
    assert both.to_text().startswith("NOT VERIFIED")
    assert "volume 1 of 2" in both.to_text()
    assert sum(both.files.values()) == len(medium.payload)
    assert sum(both.licenses.values()) > 0


def test_what_is_not_there_cannot_be_looked_into(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["inspect", str(tmp_path / "none")])
    with pytest.raises(MissingFileError):
        inspect_medium(tmp_path)


def test_the_command_prints_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf())

    with pytest.raises(SystemExit, match="0"):
        main(["inspect", str(tmp_path / "m.gguf"), "--json"])
    assert json.loads(capsys.readouterr().out)["architecture"] == "llama"

    with pytest.raises(SystemExit, match="0"):
        main(["inspect", str(tmp_path / "m.gguf")])
    assert "tensor types" in capsys.readouterr().out


def test_a_bill_of_materials_of_other_files_is_told_both_ways(tmp_path: Path) -> None:
    work = candidate(tmp_path)
    assert inspect_work(work).bill.endswith("files and no other")

    (work.data / "more").write_text("x")
    assert inspect_work(work).bill.startswith("WRONG: the bill of materials does not name data/more")
    (work.data / "more").unlink()
    (work.data / "evals/tasks.jsonl").unlink()
    assert inspect_work(work).bill.startswith("WRONG: the bill of materials names data/evals/tasks.jsonl")
