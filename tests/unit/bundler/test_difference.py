import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from bundler.cli.main import main
from bundler.contents import Contents
from bundler.difference import Difference, compare
from bundler.sbom import PATH_PROPERTY
from bundler.workfolder import WorkFolder
from media import layout
from media.canonical import dumps, loads
from media.digest import sha256_hex
from media.errors import MissingFileError, WrongVolumeError
from tests.support.candidate import candidate_plan, new_candidate, tiny_payload, write_candidate
from tests.support.debs import deb
from tests.support.medium import SimulatedMedium, make_medium
from tests.support.payload import gguf, safetensors

MODEL = "data/models/tiny"


def work_of(
    folder: Path, payload: dict[str, bytes], *, serial: int = 1, licences: dict[str, str] | None = None
) -> Path:
    work = WorkFolder(root=folder)
    write_candidate(work, candidate_plan(payload, serial=serial), payload)
    components = [
        {
            "name": path.rsplit("/", 1)[-1].split("-")[0],
            "hashes": [{"alg": "SHA-256", "content": sha256_hex(data)}],
            "licenses": [{"license": {"id": (licences or {}).get(path, "MIT")}}],
            "properties": [{"name": PATH_PROPERTY, "value": path}],
        }
        for path, data in payload.items()
        if path.endswith(".whl")
    ]
    statement = {"predicate": {"bomFormat": "CycloneDX", "components": components}}
    (work.attest / "sbom.json").write_bytes(dumps(statement))
    return folder


def compared(before: Path, after: Path) -> Difference:
    return compare(Contents.open(before), Contents.open(after))


def between(tmp_path: Path, first: dict[str, bytes], second: dict[str, bytes], **more: Any) -> Difference:
    return compared(work_of(tmp_path / "a", first), work_of(tmp_path / "b", second, serial=2, **more))


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> SimulatedMedium:
    return make_medium(tmp_path_factory.mktemp("m") / "m")


def test_a_release_against_itself_says_that_nothing_changed(tmp_path: Path) -> None:
    found = between(tmp_path, tiny_payload(), tiny_payload())

    assert found.is_empty
    assert found.to_json()["nothing_changed"] is True
    assert "nothing changed: all 16 payload files are the same, byte by byte" in found.to_text()


def test_files_are_listed_with_their_sizes(tmp_path: Path) -> None:
    before, after = tiny_payload(), tiny_payload()
    del before[f"{MODEL}/LICENSE"]
    after["data/evals/tiny.jsonl"] = b"{}\n"
    del after["data/debs/Release"]

    found = between(tmp_path, before, after)

    assert f"+ {MODEL}/LICENSE  11 bytes" in found.to_text()
    assert "- data/debs/Release  15 bytes" in found.to_text()
    assert f"~ data/evals/tiny.jsonl  {len(before['data/evals/tiny.jsonl'])} -> 3 bytes" in found.to_text()
    assert found.new_bytes == 14


def test_wheels_and_debs_are_named_with_their_versions(tmp_path: Path) -> None:
    before, after = tiny_payload(), tiny_payload()
    after["data/wheels/tiny-1.1-py3-none-any.whl"] = after.pop("data/wheels/tiny-1.0-py3-none-any.whl") + b"x"
    after["data/debs/tiny_1.0_all.deb"] += b"x"

    found = between(tmp_path, before, after)

    assert [(each.kind, each.name, each.before, each.after) for each in found.packages] == [
        ("deb", "tiny", ("1.0",), ("1.0",)),
        ("wheel", "tiny", ("1.0",), ("1.1",)),
    ]
    assert "wheel tiny: 1.0 -> 1.1" in found.to_text()
    assert "deb tiny: 1.0, the same version with other bytes" in found.to_text()


def test_a_package_that_the_plan_does_not_list_is_named_too(tmp_path: Path) -> None:
    before, after = work_of(tmp_path / "a", tiny_payload()), work_of(tmp_path / "b", tiny_payload())
    wheels = after / "candidate" / "data" / "wheels"
    (wheels / "tiny-1.0-py3-none-any.whl").rename(wheels / "tiny-2.0-py3-none-any.whl")

    found = compared(before, after)

    assert [each.path for each in found.added] == ["data/wheels/tiny-2.0-py3-none-any.whl"]
    assert [(each.name, each.before, each.after) for each in found.packages] == [("tiny", ("1.0",), ("2.0",))]
    assert found.notes == ("licences: demo-1 has no bill of materials here that names its files",)


def test_a_licence_that_changed_is_shown(tmp_path: Path) -> None:
    wheel = "data/wheels/tiny-1.0-py3-none-any.whl"
    after = tiny_payload()
    after[wheel] += b"x"

    found = between(tmp_path, tiny_payload(), after, licences={wheel: "GPL-3.0-only"})

    assert "licence of tiny: MIT -> GPL-3.0-only" in found.to_text()


def test_a_component_with_another_digest_than_the_file_says_nothing_about_it(tmp_path: Path) -> None:
    folder = work_of(tmp_path / "a", tiny_payload())
    path = WorkFolder(root=folder).attest / "sbom.json"
    statement = loads(path.read_bytes())
    statement["predicate"]["components"][0]["hashes"][0]["content"] = "0" * 64
    path.write_bytes(dumps(statement))

    assert Contents.open(folder).stated() == {}


def test_what_a_package_newly_runs_as_root_is_shown(tmp_path: Path) -> None:
    before, after = tiny_payload(), tiny_payload()
    before["data/debs/tiny_1.0_all.deb"] = deb(tmp_path / "1", "tiny").read_bytes()
    after["data/debs/tiny_1.0_all.deb"] = deb(tmp_path / "2", "tiny", script="#!/bin/sh\ntrue\n").read_bytes()

    (found,) = between(tmp_path, before, after).as_root

    assert found.package == "tiny"
    assert found.added[0].startswith("maintainer-script: postinst, 15 bytes")
    assert found.removed == ()


def test_a_package_that_cannot_be_read_is_a_note(tmp_path: Path) -> None:
    after = tiny_payload()
    after["data/debs/tiny_1.0_all.deb"] += b"x"

    found = between(tmp_path, tiny_payload(), after)

    assert "not compared: data/debs/tiny_1.0_all.deb of demo-1 is not a readable package" in found.to_text()


def test_tensors_are_told_from_gguf_headers(tmp_path: Path) -> None:
    before, after = tiny_payload(), tiny_payload()
    before[f"{MODEL}/tiny.gguf"] = gguf(tensors={"a": (8, 4), "b": (16,)})
    after[f"{MODEL}/tiny.gguf"] = gguf(tensors={"a": (8, 8), "c": (16,)}, metadata={"general.name": "new"})

    (model,) = between(tmp_path, before, after).models

    assert (model.added, model.removed) == (("c",), ("b",))
    assert [(each.name, each.before, each.after) for each in model.retyped] == [("a", "F32 8x4", "F32 8x8")]
    assert [(each.name, each.after) for each in model.fields] == [("header.general.name", "new")]
    assert "tensors retyped: 1: a (F32 8x4 -> F32 8x8)" in "\n".join(model.to_text())


def test_tensors_are_told_from_safetensors_shards(tmp_path: Path) -> None:
    before, after = tiny_payload(), tiny_payload()
    for payload in (before, after):
        del payload[f"{MODEL}/tiny.gguf"]
    before[f"{MODEL}/one.safetensors"] = safetensors({"a": ("F16", (2,), (0, 4))}, data=4)
    after[f"{MODEL}/one.safetensors"] = safetensors({"a": ("F32", (1,), (0, 4))}, data=4)
    after[f"{MODEL}/two.safetensors"] = safetensors({"b": ("F32", (), (0, 4))}, data=4)

    (model,) = between(tmp_path, before, after).models

    assert (model.added, model.removed, model.tensors) == (("b",), (), 2)
    assert [(each.before, each.after) for each in model.retyped] == [("F16 2", "F32 1")]


def test_weights_with_the_same_header_and_other_values_say_so(tmp_path: Path) -> None:
    before, after = tiny_payload(), tiny_payload()
    before[f"{MODEL}/tiny.gguf"] = gguf()
    after[f"{MODEL}/tiny.gguf"] = gguf()[:-1] + b"\x01"

    (model,) = between(tmp_path, before, after).models

    assert model.notes == ("the weights changed: the same 1 tensors with the same types, other values",)


def test_weights_without_a_header_are_a_note_and_no_failure(tmp_path: Path) -> None:
    (model,) = between(tmp_path, tiny_payload(), tiny_payload(serial=2)).models

    assert "no header that can be read" in model.notes[0]


def test_runtime_prompt_and_template_are_compared(tmp_path: Path) -> None:
    before, after = tiny_payload(), tiny_payload()
    descriptor = loads(after[f"{MODEL}/descriptor.json"])
    descriptor["runtime"]["n_ctx"] = 4096
    descriptor["system_prompt"] = "Answer \x1b[31m briefly."
    after[f"{MODEL}/descriptor.json"] = dumps(descriptor)
    after[f"{MODEL}/chat_template.jinja"] = b"{{ messages }}"

    found = between(tmp_path, before, after)

    assert [each.name for each in found.models[0].fields] == ["runtime.n_ctx", "system_prompt"]
    assert "runtime.n_ctx: 512 -> 4096" in found.to_text()
    assert "template +{{ messages }}" in found.to_text()
    assert "\x1b" not in found.to_text()


def test_models_come_and_go(tmp_path: Path) -> None:
    before, after = tiny_payload(), tiny_payload()
    before["data/models/old/LICENSE"] = after["data/models/new/LICENSE"] = b"MIT\n"

    found = between(tmp_path, before, after)

    assert [(model.name, model.state) for model in found.models] == [("new", "added"), ("old", "removed")]


def test_a_medium_equals_the_work_folder_it_was_written_from(medium: SimulatedMedium) -> None:
    assert compared(medium.volumes[0], medium.work.root).is_empty
    assert Contents.open(medium.volumes[1]).facts == Contents.open(medium.work.root).facts


def test_a_folder_of_volumes_is_seen_as_a_whole(medium: SimulatedMedium, tmp_path: Path) -> None:
    for number, volume in enumerate(medium.volumes, start=1):
        shutil.copytree(volume, tmp_path / "all" / str(number))
    contents = Contents.open(tmp_path / "all")

    assert all(contents.whole(path) is not None for path in contents.files)
    assert compared(tmp_path / "all", medium.work.root).is_empty


def test_volumes_of_two_releases_are_not_one(medium: SimulatedMedium, tmp_path: Path) -> None:
    other = make_medium(tmp_path / "other", serial=2)
    shutil.copytree(medium.volumes[0], tmp_path / "all" / "1")
    shutil.copytree(other.volumes[1], tmp_path / "all" / "2")

    with pytest.raises(WrongVolumeError, match="different releases"):
        Contents.open(tmp_path / "all")


def test_metadata_alone_names_files_and_packages_and_says_what_is_not_seen(
    medium: SimulatedMedium, tmp_path: Path
) -> None:
    payload = dict(medium.payload)
    payload[f"{MODEL}/tiny.gguf"] += b"x"
    payload["data/debs/tiny_1.0_all.deb"] += b"x"
    lists = tmp_path / "lists"
    lists.mkdir()
    for path in medium.work.metadata.iterdir():
        (lists / path.name).write_bytes(path.read_bytes())

    found = compared(lists, work_of(tmp_path / "w", payload, serial=2))

    assert [each.path for each in found.changed] == ["data/debs/tiny_1.0_all.deb", f"{MODEL}/tiny.gguf"]
    assert any("runs as root: it does not lie here" in note for note in found.notes)
    assert any("does not lie here, so its tensors are not compared" in note for note in found.models[0].notes)


def test_a_header_is_read_from_the_first_part_of_a_cut_file(tmp_path: Path) -> None:
    folder = work_of(tmp_path / "a", tiny_payload())
    contents = Contents.open(folder)
    weights = folder / "candidate" / MODEL / "tiny.gguf"
    weights.rename(layout.part_name(str(weights), 0, 59))

    assert contents.whole(f"{MODEL}/tiny.gguf") is None
    assert contents.head(f"{MODEL}/tiny.gguf", 4) == struct.pack("4B", 0, 1, 2, 3)


def test_a_folder_without_a_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="there is no release"):
        Contents.open(tmp_path)


def test_the_command_prints_text_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = new_candidate(tmp_path / "one").root, work_of(tmp_path / "two", tiny_payload(serial=2), serial=2)

    for arguments in (["diff"], ["--json", "diff"]):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, str(one), str(two)])
        assert ended.value.code == 0

    text, _, document = capsys.readouterr().out.partition("{")
    assert text.startswith("demo-1 -> demo-2\n  release: demo-1 -> demo-2\n  serial: 1 -> 2\n")
    assert json.loads("{" + document)["nothing_changed"] is False
