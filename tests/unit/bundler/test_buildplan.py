"""What a build would do is said before anything is fetched, and nothing is changed by saying it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.build import build_sites, folders_of
from bundler.buildplan import BuildPlan, plan_build
from bundler.cache import Cache
from bundler.cli.main import main
from bundler.errors import RecipeError, SourceError
from bundler.recipe import Recipe
from tests.support.debs import deb, remembering
from tests.support.payload import recipe_text
from tests.support.recipes import for_vllm, security_update, two_sites
from tests.support.workshop import workshop


def planned(recipe: Recipe, folder: Path) -> BuildPlan:
    shop = workshop(folder / "shop")
    return plan_build(recipe, folders_of(recipe, folder / "work"), cache=shop.cache, checkout=shop.checkout)


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_each_site_is_told_what_it_gets(tmp_path: Path) -> None:
    plan = planned(Recipe.load(two_sites(tmp_path / "recipe", weights_bytes=1024)), tmp_path)

    north, south = plan.releases
    assert (north.sites, north.targets, north.work, north.rehearsal) == (("north",), ("ward",), "north", "")
    assert (south.sites, south.targets, south.rehearsal) == (("south",), ("rack",), "answered-on-cpu")
    assert north.models == ("shared 1, F32, llama.cpp",)
    assert [item.what for item in south.items[:2]] == ["shared.gguf", "own.gguf"]
    assert all(item.origin == "here" and item.length for item in south.items[:2])


def test_what_two_sites_share_is_fetched_once(tmp_path: Path) -> None:
    plan = planned(Recipe.load(two_sites(tmp_path / "recipe", weights_bytes=1024)), tmp_path)

    assert sorted(item.what for item in plan.to_fetch) == ["alpha 1.0", "engine 1.0"]
    assert [item.length for item in plan.to_fetch] == [None, None]


@pytest.mark.slow
def test_what_the_cache_holds_is_not_fetched_and_its_size_is_known(tmp_path: Path) -> None:
    recipe = Recipe.load(two_sites(tmp_path / "recipe", weights_bytes=1024))
    shop = workshop(tmp_path / "shop")
    build_sites(shop, recipe, tmp_path / "built")

    plan = plan_build(recipe, folders_of(recipe, tmp_path / "work"), cache=shop.cache, checkout=shop.checkout)

    held = {item.what: item for item in plan.releases[0].items if item.origin == "cache"}
    assert sorted(held) == ["alpha 1.0", "engine 1.0"]
    assert all(item.length for item in held.values())
    assert plan.to_fetch == ()


def test_what_lies_beside_a_models_weights_is_fetched_too(tmp_path: Path) -> None:
    """Weights of gigabytes were left out; and of two files of one name one was counted."""
    draft = (
        'draft = {{ license = "MIT", origin = "x", source = {{ kind = "http", license_path = "LICENSE", '
        'urls = ["https://example.invalid/{name}"], sha256 = "{digit}" }} }}\nruntime ='
    ).replace("{digit}", "b" * 64)
    text = recipe_text("a" * 64).replace(
        'kind = "file", path = "tiny.gguf"', 'kind = "http", urls = ["https://example.invalid/tiny.gguf"]'
    )
    text = text.replace("runtime =", draft.format(name="tiny.gguf"), 1)
    text = text.replace("n_ctx = 256", "n_ctx = 256, llama_cpp = { draft_tokens = 4 }")
    recipe = Recipe.parse(text.encode(), folder=tmp_path)

    plan = planned(recipe, tmp_path)

    assert [item.sha256[:1] for item in plan.to_fetch if item.what == "tiny.gguf"] == ["a", "b"]


def test_debian_packages_that_were_fetched_before_are_not_fetched_again(tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")
    recipe, _, cache = remembering(tmp_path, deb(tmp_path, "alpha"), deb(tmp_path, "beta"))
    shop = workshop(tmp_path / "shop")

    def origins() -> set[str]:
        plan = plan_build(recipe, folders_of(recipe, tmp_path / "work"), cache=cache, checkout=shop.checkout)
        return {item.origin for item in plan.releases[0].items if item.what.startswith("Debian")}

    assert origins() == {"cache"}
    shutil.rmtree(cache.root / "files")
    assert origins() == {"fetch"}


def test_a_plan_changes_nothing(tmp_path: Path) -> None:
    recipe = Recipe.load(two_sites(tmp_path / "recipe", weights_bytes=1024))
    shop = workshop(tmp_path / "shop")
    before = files(tmp_path)

    plan_build(recipe, folders_of(recipe, tmp_path / "work"), cache=shop.cache, checkout=shop.checkout)

    assert files(tmp_path) == before


def test_an_update_says_what_it_brings_and_leaves_unchanged(tmp_path: Path) -> None:
    debs = '[debs]\npackages = ["openssl"]\n'
    path = security_update(tmp_path / "recipe", tmp_path / "index", more=debs)
    with pytest.raises(SourceError, match="a security update needs to know what the target has"):
        planned(Recipe.load(path), tmp_path / "first")

    path.write_text(path.read_text() + 'installed_status = "status"\n')
    (path.parent / "status").write_text("Package: openssl\nVersion: 1\nStatus: install ok installed\n")
    text = str(planned(Recipe.load(path), tmp_path))

    assert "security-update: 1 release" in text
    assert "leaves unchanged: models, engines, the server's own code, playbooks and units" in text
    assert "alpha 2.0" in text
    assert "Debian package openssl: what the security archive has newer" in text
    assert "sealift's own wheel" not in text

    path.write_text(path.read_text().replace('packages = ["openssl"]\n', ""))
    assert "fetch    unknown  Debian packages: what the security archive has newer" in str(
        planned(Recipe.load(path), tmp_path / "unnamed")
    )


def test_a_download_of_known_size_is_counted(tmp_path: Path) -> None:
    text = recipe_text("a" * 64).replace(
        'kind = "file", path = "tiny.gguf"', 'kind = "http", urls = ["https://example.invalid/tiny.gguf"]'
    )

    plan = planned(Recipe.parse(text.encode(), folder=tmp_path), tmp_path)

    assert ("tiny.gguf", "fetch", "a" * 64) in {(item.what, item.origin, item.sha256) for item in plan.to_fetch}
    assert "3 files, 0 of them of known size" in str(plan)


def test_a_lock_that_is_not_there_is_named_by_its_key(tmp_path: Path) -> None:
    vllm, update = for_vllm(tmp_path / "a", tmp_path / "index"), security_update(tmp_path / "b", tmp_path / "index")
    (vllm.parent / "engine-vllm.txt").unlink()
    (update.parent / "urgent.txt").unlink()

    for path, key in ((vllm, "locks.engine-vllm"), (update, "update.wheels")):
        with pytest.raises(RecipeError, match=f"^{key}: there is no such lock"):
            planned(Recipe.load(path), tmp_path / path.parent.name)


@pytest.mark.parametrize("make", [two_sites, lambda folder: for_vllm(folder, folder / "index")])
def test_the_command_prints_the_plan_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], Path]
) -> None:
    shop = workshop(tmp_path / "shop")
    recipe = make(tmp_path / "recipe")
    words = ["build", recipe, "--work", tmp_path / "work", "--cache", shop.cache.root, "--dry-run"]

    with pytest.raises(SystemExit) as ended:
        main(["--json", *map(str, [*words, "--checkout", shop.checkout.root])])

    told = json.loads(capsys.readouterr().out)
    assert not ended.value.code
    assert told["recipe_sha256"] == Recipe.load(recipe).sha256
    assert told["to_fetch"]
    assert not (tmp_path / "work").exists()
    assert Cache(root=shop.cache.root).peek("0" * 64) is None
