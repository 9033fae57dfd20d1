"""One recipe, several sites: a release for each, that differs only where it must, from bytes read and stored once."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.build import build_in, build_sites, folders_of
from bundler.errors import NotEmptyError, RecipeError, ScanError
from bundler.plan import ReleasePlan
from bundler.recipe import Recipe
from bundler.workfolder import WorkFolder
from tests.support.otherplaces import on_another_file_system
from tests.support.recipes import two_sites
from tests.support.workshop import workshop

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

MIB = 2**20


def bytes_read() -> int:
    """Return how many bytes this process has read, through whatever call."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


def built(folder: Path, *, weights_bytes: int = MIB) -> dict[str, WorkFolder]:
    recipe = Recipe.load(two_sites(folder / "recipe", weights_bytes=weights_bytes))
    build_sites(workshop(folder / "shop"), recipe, folder / "work")
    return {name: WorkFolder(root=folder / "work" / name) for name in ("north", "south")}


def names(work: WorkFolder) -> set[str]:
    return {str(path.relative_to(work.data)) for path in work.data.rglob("*") if path.is_file()}


def test_each_site_gets_a_release_that_names_it_and_its_targets_alone(tmp_path: Path) -> None:
    works = built(tmp_path)

    plans = {name: ReleasePlan.load(work.plan) for name, work in works.items()}

    assert {name: plan.sites for name, plan in plans.items()} == {"north": ("north",), "south": ("south",)}
    assert [target["profile"] for target in plans["north"].targets] == ["ward"]
    assert plans["north"].targets[0]["cpu_flags"] == ["ssse3"]
    assert (plans["south"].targets[0]["gpu"], plans["south"].targets[0]["driver"]) == ("NVIDIA L4", "550.54")
    assert (plans["north"].rehearsal, plans["south"].rehearsal) == ("", "answered-on-cpu")


def test_releases_of_one_recipe_differ_only_where_they_must(tmp_path: Path) -> None:
    works = built(tmp_path)

    shared = names(works["north"]) & names(works["south"])
    differing = {
        name
        for name in shared
        if (works["north"].data / name).read_bytes() != (works["south"].data / name).read_bytes()
    }

    assert names(works["south"]) - shared == {
        f"models/own/{name}"
        for name in ("own.gguf", "LICENSE", "chat_template.jinja", "descriptor.json", "provenance.json")
    }
    assert names(works["north"]) == shared
    assert differing == {"release.json"}


def test_shared_weights_are_stored_once(tmp_path: Path) -> None:
    works = built(tmp_path)

    inodes = {(work.data / "models/shared/shared.gguf").stat().st_ino for work in works.values()}

    assert len(inodes) == 1


def test_a_second_site_costs_no_second_reading_of_the_weights(tmp_path: Path) -> None:
    weights_bytes = 32 * MIB
    recipe = Recipe.load(two_sites(tmp_path / "recipe", weights_bytes=weights_bytes))
    shop = workshop(tmp_path / "shop")
    build_sites(shop, recipe, tmp_path / "first")  # what is cached and imported once is not in question

    before = bytes_read()
    build_sites(shop, recipe, tmp_path / "second")

    assert weights_bytes <= bytes_read() - before < 1.5 * weights_bytes


def test_weights_of_another_file_system_are_copied_once_for_all_sites(tmp_path: Path) -> None:
    weights_bytes = 32 * MIB
    with on_another_file_system(tmp_path) as elsewhere:
        recipe = Recipe.load(two_sites(elsewhere / "recipe", weights_bytes=weights_bytes))
        shop = workshop(tmp_path / "shop")
        build_sites(shop, recipe, tmp_path / "first")
        before = bytes_read()
        build_sites(shop, recipe, tmp_path / "second")
        read = bytes_read() - before

    files = [tmp_path / "second" / site / "candidate/data/models/shared/shared.gguf" for site in ("north", "south")]
    assert read < 1.5 * weights_bytes
    assert len({file.stat().st_ino for file in files}) == 1
    assert not list(tmp_path.glob(".sealift-*"))


def test_nothing_is_written_for_any_site_when_one_of_them_is_refused(tmp_path: Path) -> None:
    path = two_sites(tmp_path / "recipe", weights_bytes=MIB)
    path.write_text(path.read_text().replace('origin = "made', 'system_prompt = "SSN 219-09-9999"\norigin = "made'))

    with pytest.raises(ScanError):
        build_sites(workshop(tmp_path / "shop"), Recipe.load(path), tmp_path / "work")

    assert not (tmp_path / "work").exists()


def test_a_signed_release_of_one_site_stops_the_build_of_all(tmp_path: Path) -> None:
    works = built(tmp_path)
    works["south"].signatures.mkdir()
    recipe = Recipe.load(tmp_path / "recipe" / "recipe.toml")
    before = works["north"].plan.stat().st_mtime_ns

    with pytest.raises(NotEmptyError):
        build_sites(workshop(tmp_path / "other"), recipe, tmp_path / "work")

    assert works["north"].plan.stat().st_mtime_ns == before


def test_a_recipe_of_sites_makes_no_single_candidate(tmp_path: Path) -> None:
    recipe = Recipe.load(two_sites(tmp_path / "recipe", weights_bytes=MIB))

    with pytest.raises(RecipeError, match="each gets a release of its own"):
        build_in(workshop(tmp_path / "shop"), recipe, WorkFolder(root=tmp_path / "work"))


def test_the_wheel_of_this_checkout_is_built_once_for_all_sites(tmp_path: Path) -> None:
    told: list[str] = []
    recipe = Recipe.load(two_sites(tmp_path / "recipe", weights_bytes=MIB))

    build_sites(replace(workshop(tmp_path / "shop"), progress=told.append), recipe, tmp_path / "work")

    assert len([line for line in told if line.startswith("building the sealift wheel")]) == 1


def test_work_folders_are_named_by_site_and_alone_by_nothing(tmp_path: Path) -> None:
    recipe = Recipe.load(two_sites(tmp_path / "recipe", weights_bytes=MIB))

    assert [work.root.name for _, work in folders_of(recipe, tmp_path / "w")] == ["north", "south"]
    assert [
        work.root.name for _, work in folders_of(recipe.releases()[0].model_copy(update={"site": ()}), tmp_path)
    ] == [tmp_path.name]


def test_the_statements_of_a_site_name_it_alone(tmp_path: Path) -> None:
    works = built(tmp_path)

    for name, work in works.items():
        made = json.loads((work.attest / "provenance.json").read_bytes())["predicate"]
        assert made["buildDefinition"]["externalParameters"]["sites"] == [name]
