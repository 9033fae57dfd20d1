"""The candidate that `make demo` built, looked at file by file, and built again from the same cache."""

import json
from pathlib import Path

import pytest

from bundler.build import build
from bundler.cache import Cache, default_root
from bundler.gguf_header import read as read_header
from bundler.inspect import inspect_work
from bundler.plan import ReleasePlan
from bundler.recipe import Recipe
from bundler.wheelfile import read as read_wheel
from bundler.workfolder import WorkFolder
from media.clock import SystemClock
from media.digest import file_sha256

pytestmark = pytest.mark.demo

ROOT = Path(__file__).resolve().parents[2]
WORK = WorkFolder(root=ROOT / "build/demo/work")


def payload(work: WorkFolder) -> dict[str, str]:
    return {
        f"data/{path.relative_to(work.data).as_posix()}": file_sha256(path)
        for path in work.data.rglob("*")
        if path.is_file()
    }


def test_the_bill_of_materials_and_the_payload_are_the_same_set_both_ways() -> None:
    bill = json.loads((WORK.attest / "sbom.json").read_bytes())["predicate"]

    assert {item["bom-ref"]: item["hashes"][0]["content"] for item in bill["components"]} == payload(WORK)


def test_every_wheel_is_true_and_each_environment_names_wheels_that_travel() -> None:
    travelling = {file_sha256(path): read_wheel(path) for path in (WORK.data / "wheels").iterdir()}

    for listed in (WORK.data / "server").glob("requirements-*.txt"):
        for line in listed.read_text().splitlines():
            name, _, sha256 = line.partition(" --hash=sha256:")
            assert name == f"{travelling[sha256].name}=={travelling[sha256].version}"


def test_the_engine_brings_a_library_for_every_processor() -> None:
    wheel = next((WORK.data / "wheels").glob("llama_cpp_python-*.whl"))

    variants = [member for member in read_wheel(wheel).members if "libggml-cpu-" in member]

    assert len(variants) >= 10
    assert any(member.endswith("libggml-cpu-x64.so") for member in variants)


def test_our_wheel_brings_every_playbook_and_unit_that_travels_beside_it() -> None:
    wheel = next((WORK.data / "wheels").glob("sealift-*.whl"))
    beside = {
        path.relative_to(WORK.data / "host").as_posix() for path in (WORK.data / "host").rglob("*") if path.is_file()
    }

    inside = {
        member.removeprefix("appliance/_host/")
        for member in read_wheel(wheel).members
        if member.startswith("appliance/_host/")
    }

    assert beside
    assert beside <= inside


def test_the_model_travels_with_its_own_template_and_licence() -> None:
    folder = WORK.data / "models/smollm2-135m-instruct"
    header = read_header(next(folder.glob("*.gguf")))

    assert (folder / "chat_template.jinja").read_text() == header.chat_template
    assert "Apache License" in (folder / "LICENSE").read_text()


def test_the_rehearsal_is_about_this_payload_and_a_model_answered_in_it() -> None:
    predicate = json.loads((WORK.attest / "rehearsal.json").read_bytes())["predicate"]

    assert predicate["payload_digest"] == ReleasePlan.load(WORK.plan).payload_digest
    assert predicate["level"] == "answered-on-cpu"
    assert "empty network namespace" in predicate["network"]


def test_a_release_that_was_signed_says_so() -> None:
    found = inspect_work(WORK)

    assert all(found.statements.values())
    assert {"provenance", "sbom", "scan", "rehearsal"} <= set(found.statements)


def test_two_builds_from_the_cache_are_equal_bytes_and_quick(tmp_path: Path) -> None:
    recipe = Recipe.load(ROOT / "examples" / "demo.toml")
    made = [
        build(recipe, WorkFolder(root=tmp_path / name), cache=Cache(root=default_root()), clock=SystemClock())[0]
        for name in ("one", "two")
    ]

    assert made[0].payload_digest == made[1].payload_digest
    assert payload(WorkFolder(root=tmp_path / "one")) == payload(WorkFolder(root=tmp_path / "two"))
    assert min(candidate.seconds for candidate in made) < 60  # without a cache it is ten minutes
