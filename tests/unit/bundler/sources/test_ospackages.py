import shutil
from pathlib import Path

import pytest

from bundler.artifact import Artifact
from bundler.cache import Cache
from bundler.debfile import listed
from bundler.errors import RecipeError, ScanError, SourceError
from bundler.recipe import Recipe
from bundler.scan import scan
from bundler.sources import ospackages
from tests.support.debs import deb, remembering
from tests.support.payload import recipe_text

pytestmark = pytest.mark.skipif(shutil.which("apt-ftparchive") is None, reason="needs Debian's apt-utils")


def by_target(artifacts: tuple[Artifact, ...]) -> dict[str, bytes]:
    return {artifact.target: artifact.read() for artifact in artifacts}


def test_packages_travel_with_an_index_dated_by_the_recipe(tmp_path: Path) -> None:
    recipe, debs, cache = remembering(tmp_path, deb(tmp_path, "alpha", "2:1.0-1"), deb(tmp_path, "beta"))

    first = by_target(ospackages.gather(recipe, debs, cache=cache).artifacts)
    second = by_target(ospackages.gather(recipe, debs, cache=cache).artifacts)

    assert first == second
    assert sorted(first) == [
        "data/debs/Packages",
        "data/debs/Release",
        "data/debs/alpha_1.0-1_amd64.deb",
        "data/debs/beta_1.0-1_amd64.deb",
    ]
    assert b"Filename: ./alpha_1.0-1_amd64.deb" in first["data/debs/Packages"]
    assert b"Date: Fri, 20 Nov 2026 08:00:00 +0000" in first["data/debs/Release"]


def test_a_new_release_asks_apt_again(tmp_path: Path) -> None:
    recipe, debs, _ = remembering(tmp_path)
    later = Recipe.parse(recipe_text().replace("2026-11-20", "2026-11-21").encode(), folder=tmp_path)

    assert ospackages._key(recipe, debs, b"") != ospackages._key(later, debs, b"")
    assert ospackages._key(recipe, debs, b"") != ospackages._key(recipe, debs, b"Package: x\n")


def test_the_targets_package_list_must_be_there(tmp_path: Path) -> None:
    recipe, debs, cache = remembering(tmp_path)

    with pytest.raises(SourceError, match=r"debs\.installed_status"):
        ospackages.gather(recipe, debs.model_copy(update={"installed_status": "none"}), cache=cache)


@pytest.mark.parametrize("name", ["-o=Dir::State=/", "Upper", "a b", "a;b"])
def test_names_that_are_no_package_names_are_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=r"debs\.packages"):
        Recipe.parse(recipe_text(more=f'[debs]\npackages = ["{name}"]\n').encode(), folder=Path())


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.deb").write_bytes(b"x")

    with pytest.raises(SourceError, match="not a Debian package"):
        ospackages._taken_in(tmp_path / "x.deb", Cache(root=tmp_path / "cache"))
    with pytest.raises(ScanError):
        list(listed(tmp_path / "x.deb"))


def test_what_a_package_does_as_root_is_listed_for_the_people_who_sign(tmp_path: Path) -> None:
    file = deb(tmp_path, "alpha", script="#!/bin/sh\nexit 0\n", is_setuid=True)
    recipe, debs, cache = remembering(tmp_path, file)

    report = scan(ospackages.gather(recipe, debs, cache=cache).artifacts)

    assert sorted((found.rule, found.detail.split(",")[0]) for found in report.findings) == [
        ("maintainer-script", "postinst"),
        ("set-user-id", "./usr/bin/alpha with mode -rwsr-xr-x"),
    ]
    assert {found.reason for found in report.findings} == {"listed for the people who sign"}


def test_apt_works_in_private_folders_and_takes_nothing_unsigned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An apt-get of the test's own stands for the real one: it keeps its arguments and leaves a package."""
    file = deb(tmp_path, "alpha", "2:1.0-1")
    program = tmp_path / "bin" / "apt-get"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n'
        'for word; do case $word in Dir::Cache=*) archives="${word#Dir::Cache=}/archives";; esac; done\n'
        f'case "$*" in *install*) cp {file} "$archives/alpha_2%3a1.0-1_amd64.deb";; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    recipe = Recipe.parse(recipe_text(more='[debs]\npackages = ["alpha"]\n').encode(), folder=tmp_path)
    cache = Cache(root=tmp_path / "cache")
    assert recipe.debs is not None

    first = by_target(ospackages.gather(recipe, recipe.debs, cache=cache).artifacts)
    program.unlink()
    second = by_target(ospackages.gather(recipe, recipe.debs, cache=cache).artifacts)

    assert first == second
    assert "data/debs/alpha_1.0-1_amd64.deb" in first
    asked = (tmp_path / "asked").read_text()
    for option in ("Dir::State::status=", "AllowUnauthenticated=false", "AllowInsecureRepositories=false"):
        assert option in asked
    assert asked.rstrip().endswith("install --download-only --yes alpha")


def test_packages_that_the_target_has_already_are_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "apt-get"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    recipe = Recipe.parse(recipe_text(more='[debs]\npackages = ["alpha"]\n').encode(), folder=tmp_path)
    assert recipe.debs is not None

    with pytest.raises(SourceError) as caught:
        ospackages.gather(recipe, recipe.debs, cache=Cache(root=tmp_path / "cache"))

    assert "the target has all of them" in caught.value.why
