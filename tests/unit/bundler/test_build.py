import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from bundler import build as building
from bundler.build import build_in
from bundler.buildplan import plan_build
from bundler.errors import RecipeError, ScanError
from bundler.recipe import Recipe
from bundler.target import WheelTarget
from bundler.workfolder import WorkFolder
from tests.support.payload import locked, recipe_folder, wheel
from tests.support.recipes import for_vllm, security_update
from tests.support.workshop import workshop

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_inputs_give_the_same_bytes_on_another_machine(tmp_path: Path) -> None:
    recipe = Recipe.load(recipe_folder(tmp_path / "recipe"))

    first = build_in(workshop(tmp_path / "1"), recipe, WorkFolder(root=tmp_path / "one"))
    second = build_in(workshop(tmp_path / "2"), recipe, WorkFolder(root=tmp_path / "two"))

    assert first.payload_digest == second.payload_digest
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_build_takes_away_what_killed_ones_left_beside_its_work_folder_and_in_the_cache(tmp_path: Path) -> None:
    recipe = Recipe.load(recipe_folder(tmp_path / "recipe"))
    shop = workshop(tmp_path / "1")
    left = [tmp_path / ".sealift-build-held-abcdefgh", shop.cache.root / "tmp" / "held-abcdefgh"]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "0").write_bytes(b"weights")
    (tmp_path / ".sealift-settings").mkdir()  # somebody's own
    told: list[str] = []

    build_in(replace(shop, progress=told.append), recipe, WorkFolder(root=tmp_path / "work"))

    assert [folder.exists() for folder in left] == [False, False]
    assert "took away what builds that were killed had left: 2 folders" in told
    assert (tmp_path / ".sealift-settings").is_dir()
    assert not list(tmp_path.glob(".sealift-build-*"))


def test_a_candidate_holds_what_the_recipe_names_and_says_so(tmp_path: Path) -> None:
    recipe = Recipe.load(recipe_folder(tmp_path / "recipe"))
    work = WorkFolder(root=tmp_path / "work")

    candidate = build_in(workshop(tmp_path), recipe, work)

    assert sorted(tree(work.data)) == [
        "evals/tasks.jsonl",
        "host/ansible/site.yml",
        "host/systemd/sealift.target",
        "models/tiny/LICENSE",
        "models/tiny/chat_template.jinja",
        "models/tiny/descriptor.json",
        "models/tiny/provenance.json",
        "models/tiny/tiny.gguf",
        "release.json",
        "server/requirements-engine-llama-cpp.txt",
        "server/requirements-host.txt",
        "server/requirements-server.txt",
        "wheels/alpha-1.0-py3-none-any.whl",
        "wheels/engine-1.0-py3-none-any.whl",
        "wheels/sealift-0.0.1-py3-none-any.whl",
    ]
    assert (candidate.files, candidate.findings) == (15, 1)  # its model cannot be loaded: the engine is a stand-in
    names = [
        line.split("==")[0]
        for line in (work.data / "server" / "requirements-engine-llama-cpp.txt").read_text().splitlines()
    ]
    assert names == ["alpha", "engine", "sealift"]


def test_the_bill_of_materials_and_the_payload_are_the_same_set_both_ways(tmp_path: Path) -> None:
    work = WorkFolder(root=tmp_path / "work")

    build_in(workshop(tmp_path), Recipe.load(recipe_folder(tmp_path / "recipe")), work)

    bill = json.loads((work.attest / "sbom.json").read_bytes())["predicate"]
    assert {component["bom-ref"] for component in bill["components"]} == {f"data/{name}" for name in tree(work.data)}


def test_the_statements_are_about_this_payload(tmp_path: Path) -> None:
    work = WorkFolder(root=tmp_path / "work")

    candidate = build_in(workshop(tmp_path), Recipe.load(recipe_folder(tmp_path / "recipe")), work)

    for name in ("sbom", "scan"):
        subject = json.loads((work.attest / f"{name}.json").read_bytes())["subject"]
        assert subject == [{"name": "payload", "digest": {"sha256": candidate.payload_digest}}]
    provenance = json.loads((work.attest / "provenance.json").read_bytes())
    uris = {item["uri"] for item in provenance["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert {"git+sealift", "pkg:pypi/alpha@1.0", "file:tiny.gguf"} <= uris


def test_a_payload_that_may_not_travel_leaves_no_candidate(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    (shop.checkout.root / "systemd" / "x.service").write_text("Environment=TOKEN=q8ZrT2nVx1LmYp4Kd7Wc3Hb6\n")
    work = WorkFolder(root=tmp_path / "work")

    with pytest.raises(ScanError, match="secret"):
        build_in(shop, Recipe.load(recipe_folder(tmp_path / "recipe")), work)

    assert not work.root.exists()


def test_an_engine_without_a_lock_is_named(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    (shop.checkout.root / "requirements" / "engine-llama-cpp.txt").unlink()

    with pytest.raises(RecipeError, match=r"locks\.engine-llama-cpp"):
        build_in(shop, Recipe.load(recipe_folder(tmp_path / "recipe")), WorkFolder(root=tmp_path / "work"))


def test_a_second_build_asks_nobody_for_anything(tmp_path: Path) -> None:
    recipe = Recipe.load(recipe_folder(tmp_path / "recipe"))
    shop = workshop(tmp_path)
    work = WorkFolder(root=tmp_path / "work")

    def nobody(requirements: str, target: WheelTarget, place: Path) -> None:
        raise AssertionError(requirements, target, place)

    first = build_in(shop, recipe, work)
    second = build_in(replace(shop, fetch=nobody), recipe, work)

    assert first.payload_digest == second.payload_digest


def test_a_release_without_models_carries_no_engine(tmp_path: Path) -> None:
    recipe = Recipe.load(recipe_folder(tmp_path / "recipe")).model_copy(update={"models": ()})

    found = building.gather(workshop(tmp_path), recipe)

    facts = json.loads(next(item.content for item in found.artifacts if item.target == "data/release.json"))
    assert sorted(facts["environments"]) == ["host", "server"]
    assert facts["models"] == []


def test_one_release_carries_models_of_both_engines_each_with_its_environment(tmp_path: Path) -> None:
    recipe = Recipe.load(for_vllm(tmp_path / "recipe", tmp_path / "index"))
    work = WorkFolder(root=tmp_path / "work")

    build_in(workshop(tmp_path), recipe, work)

    for name, engine in (("tiny", "engine-llama-cpp"), ("ward", "engine-vllm")):
        descriptor = json.loads((work.data / f"models/{name}/descriptor.json").read_bytes())
        requirements = (work.data / f"server/requirements-{engine}.txt").read_bytes()
        assert descriptor["environment"] == hashlib.sha256(requirements).hexdigest()
    facts = json.loads((work.data / "release.json").read_bytes())
    assert sorted(facts["environments"]) == ["engine-llama-cpp", "engine-vllm", "host", "server"]
    weights = json.loads((work.data / "models/ward/descriptor.json").read_bytes())["files"]
    assert [file["role"] for file in weights] == ["config", "weights", "tokenizer"]


def test_a_lock_for_vllm_that_does_not_hold_vllm_is_refused(tmp_path: Path) -> None:
    path = for_vllm(tmp_path / "recipe", tmp_path / "index")
    (path.parent / "engine-vllm.txt").write_text((tmp_path / "recipe" / "engine-vllm.txt").read_text())
    path.write_text(path.read_text().replace('"engine-vllm.txt"', '"other.txt"'))
    shop = workshop(tmp_path)
    (path.parent / "other.txt").write_text((shop.checkout.root / "requirements/server.txt").read_text())

    recipe, work = Recipe.load(path), WorkFolder(root=tmp_path / "work")

    with pytest.raises(RecipeError, match=r"locks\.engine-vllm: it does not lock vllm"):
        build_in(shop, recipe, work)
    with pytest.raises(RecipeError, match=r"locks\.engine-vllm: it does not lock vllm"):
        plan_build(recipe, [(recipe, work)], cache=shop.cache, checkout=shop.checkout)


def test_an_update_carries_the_wheels_it_names_and_nothing_of_the_server(tmp_path: Path) -> None:
    work = WorkFolder(root=tmp_path / "work")
    recipe = Recipe.load(security_update(tmp_path / "recipe", tmp_path / "index"))

    made = build_in(workshop(tmp_path), recipe, work)

    assert sorted(tree(work.data)) == [
        "release.json",
        "server/requirements-host.txt",
        "server/requirements-server.txt",
        "wheels/alpha-2.0-py3-none-any.whl",
    ]
    facts = json.loads((work.data / "release.json").read_bytes())
    assert (facts["kind"], facts["base"], facts["models"]) == ("security-update", 5, [])
    assert (made.kind, made.unchanged) == ("security-update", recipe.unchanged)


def test_an_update_never_brings_sealift_or_an_engine(tmp_path: Path) -> None:
    path = security_update(tmp_path / "recipe", tmp_path / "index")
    (path.parent / "urgent.txt").write_text(locked(wheel(tmp_path / "index", "llama-cpp-python")))

    with pytest.raises(RecipeError, match=r"update\.wheels: "):
        build_in(workshop(tmp_path), Recipe.load(path), WorkFolder(root=tmp_path / "work"))
