import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.artifact import Artifact
from bundler.cache import Cache
from bundler.debfile import listed
from bundler.errors import RecipeError, ScanError, SourceError
from bundler.recipe import Recipe
from bundler.scan import scan
from bundler.sources import ospackages
from bundler.target import Target
from media.clock import FixedClock
from tests.support import archive
from tests.support.debs import archives_with, deb, remembering
from tests.support.gpg import GnuPG
from tests.support.payload import recipe_text
from tests.support.probes import probe

pytestmark = pytest.mark.skipif(shutil.which("apt-ftparchive") is None, reason="needs Debian's apt-utils")


CLOCK = FixedClock(archive.NOW)


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

    assert ospackages.memo_key(recipe, debs, b"") != ospackages.memo_key(later, debs, b"")
    assert ospackages.memo_key(recipe, debs, b"") != ospackages.memo_key(recipe, debs, b"Package: x\n")


@pytest.mark.parametrize("named", ["keyring", "sources"])
def test_other_sources_or_keys_under_the_same_name_ask_apt_again(tmp_path: Path, named: str) -> None:
    """Else a release would go on with the packages, and the signatures, of the sources of before."""
    recipe, debs, _ = remembering(tmp_path)
    debs = debs.model_copy(update={named: "named"})
    absent = ospackages.memo_key(recipe, debs, b"")
    (tmp_path / "named").write_text("deb http://mirror.invalid/debian bookworm main\n")
    before = ospackages.memo_key(recipe, debs, b"")
    (tmp_path / "named").write_text("deb http://mirror.invalid/debian bookworm-security main\n")

    assert len({absent, before, ospackages.memo_key(recipe, debs, b"")}) == 3


def test_a_target_that_names_its_release_of_debian_asks_apt_again(tmp_path: Path) -> None:
    """What was fetched before was not compared with it."""
    recipe, debs, _ = remembering(tmp_path)
    said = 'profile = "single-cpu"\ncodename = "bookworm"'
    other = Recipe.parse(recipe_text().replace('profile = "single-cpu"', said).encode(), folder=tmp_path)

    assert ospackages.memo_key(recipe, debs, b"") != ospackages.memo_key(other, debs, b"")


def test_what_each_machine_has_is_told_by_its_own_list(tmp_path: Path) -> None:
    status = "".join(
        f"Package: {name}\nStatus: install ok {state}\nVersion: 1\nArchitecture: amd64\n\n"
        for name, state in (("gcc", "installed"), ("gone", "config-files"))
    )
    (tmp_path / "status").write_text(status)
    text = f'{recipe_text()}\n[debs]\npackages = ["libnuma1"]\ninstalled_status = "status"\n'
    recipe = Recipe.parse(text.encode(), folder=tmp_path)
    other = Target(profile="other", packages=("libnuma1 2.0 amd64",))

    assert ospackages.present(recipe, recipe.target, is_first=True) == {"gcc"}
    assert ospackages.present(recipe, other, is_first=False) == {"libnuma1"}
    assert ospackages.present(recipe, Target(profile="unknown"), is_first=False) == set()


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
        ospackages.taken_in(tmp_path / "x.deb", Cache(root=tmp_path / "cache"), archives_with())
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


KEYS = '[debs]\npackages = ["alpha"]\nkeyring = "keyring.gpg"\n'


def stand_in(folder: Path, lists: Path, *debs: Path) -> Path:
    """Leave an apt-get that keeps its arguments, has these lists, and fetches these packages."""
    program = folder / "bin" / "apt-get"
    program.parent.mkdir()
    copies = "".join(f'cp {deb} "$archives/"\n' for deb in debs)
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {folder}/asked\n'
        'for word; do case $word in Dir::Cache=*) archives="${word#Dir::Cache=}/archives";; '
        'Dir::State=*) lists="${word#Dir::State=}/lists";; '
        f'Dir::State::status=*) cp "${{word#Dir::State::status=}}" {folder}/status;; esac; done\n'
        f'case "$*" in *" update --error"*) cp {lists}/* "$lists/";; *" install --download"*) {copies or ":"} ;; esac\n'
    )
    program.chmod(0o755)
    return program


@pytest.fixture
def upstream(gnupg: GnuPG, tmp_path: Path) -> Callable[..., Path]:
    """Sign these packages as an archive, and return its lists; the keyring lies beside the recipe."""
    key = gnupg.key("archive")
    archive.keyring(tmp_path, gnupg, key)

    def lists(*files: Path, codename: str = "bookworm") -> Path:
        index = archive.packages(files)
        signed = archive.signed(archive.release(index, codename=codename), gnupg, key)
        return archive.lists(tmp_path / "lists", signed, index, codename=codename)

    return lists


def test_apt_works_in_private_folders_and_takes_nothing_unsigned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Callable[..., Path]
) -> None:
    file = deb(tmp_path, "alpha", "2:1.0-1")
    program = stand_in(tmp_path, upstream(file), file)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    recipe = Recipe.parse(recipe_text(more=KEYS).encode(), folder=tmp_path)
    cache = Cache(root=tmp_path / "cache")
    assert recipe.debs is not None

    first = ospackages.gather(recipe, recipe.debs, cache=cache, clock=CLOCK)
    program.unlink()
    second = ospackages.gather(recipe, recipe.debs, cache=cache, clock=CLOCK)

    assert by_target(first.artifacts) == by_target(second.artifacts)
    assert first.materials == second.materials
    assert "data/debs/alpha_1.0-1_amd64.deb" in by_target(first.artifacts)
    signed = first.materials[-1]
    assert (signed.uri, "signed by" in signed.note) == ("deb-archive:bookworm", True)
    asked = (tmp_path / "asked").read_text()
    for option in ("Dir::State::status=", "AllowUnauthenticated=false", "AllowInsecureRepositories=false"):
        assert option in asked
    assert "update --error-on=any" in asked
    assert " install --download-only --yes --no-remove alpha\n" in asked


def test_a_package_that_no_signed_list_names_does_not_travel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Callable[..., Path]
) -> None:
    lists = upstream(deb(tmp_path / "real", "alpha"))
    program = stand_in(tmp_path, lists, deb(tmp_path / "forged", "alpha", script="#!/bin/sh\nexit 0\n"))
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    recipe = Recipe.parse(recipe_text(more=KEYS).encode(), folder=tmp_path)
    cache = Cache(root=tmp_path / "cache")
    assert recipe.debs is not None

    with pytest.raises(SourceError, match=r"alpha 1\.0-1 is not one that a signed list names"):
        ospackages.gather(recipe, recipe.debs, cache=cache, clock=CLOCK)

    assert not list((tmp_path / "cache").rglob("*.deb"))


def test_a_security_update_takes_what_is_newer_than_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Callable[..., Path]
) -> None:
    newer, same = deb(tmp_path / "1", "alpha", "1.0-1+deb12u1"), deb(tmp_path / "2", "beta", "1.0-1")
    program = stand_in(tmp_path, upstream(newer, same, codename="bookworm-security"), newer)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    (tmp_path / "probe.json").write_bytes(probe(packages=("alpha 1.0-1 amd64", "beta 1.0-1 amd64")).to_bytes())
    text = (
        recipe_text(release='kind = "security-update"\nbase = 2', more='[debs]\nkeyring = "keyring.gpg"\n')
        .replace('profile = "single-cpu"\ncpu_flags = ["ssse3", "popcnt"]', 'profile = "x"\nprobe = "probe.json"')
        .partition("[[models]]")
    )
    recipe = Recipe.parse((text[0] + text[2][text[2].index("[debs]") :]).encode(), folder=tmp_path)
    assert recipe.debs is not None

    found = ospackages.gather(recipe, recipe.debs, cache=Cache(root=tmp_path / "cache"), clock=CLOCK)

    assert "data/debs/alpha_1.0-1+deb12u1_amd64.deb" in by_target(found.artifacts)
    assert " install --download-only --yes --no-remove alpha=1.0-1+deb12u1\n" in (tmp_path / "asked").read_text()
    assert b"Package: beta\nStatus: install ok installed" in (tmp_path / "status").read_bytes()


def test_packages_of_another_release_of_debian_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Callable[..., Path]
) -> None:
    file = deb(tmp_path, "alpha")
    program = stand_in(tmp_path, upstream(file, codename="trixie-updates"), file)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    (tmp_path / "probe.json").write_bytes(probe(codename="bookworm").to_bytes())
    text = recipe_text(more=KEYS).replace('cpu_flags = ["ssse3", "popcnt"]', 'probe = "probe.json"')
    recipe = Recipe.parse(text.encode(), folder=tmp_path)
    assert recipe.debs is not None

    with pytest.raises(SourceError, match="those of trixie-updates, the target has bookworm"):
        ospackages.gather(recipe, recipe.debs, cache=Cache(root=tmp_path / "cache"), clock=CLOCK)


def test_a_security_update_for_an_unknown_target_is_refused(tmp_path: Path) -> None:
    recipe = Recipe.parse(recipe_text(more=KEYS).encode(), folder=tmp_path)
    assert recipe.debs is not None
    update = recipe.model_copy(update={"release": recipe.release.model_copy(update={"kind": "security-update"})})

    with pytest.raises(SourceError, match=r"debs\.installed_status"):
        ospackages.gather(update, recipe.debs, cache=Cache(root=tmp_path / "cache"), clock=CLOCK)


def test_packages_that_the_target_has_already_are_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Callable[..., Path]
) -> None:
    program = stand_in(tmp_path, upstream(deb(tmp_path, "alpha")))
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    recipe = Recipe.parse(recipe_text(more=KEYS).encode(), folder=tmp_path)
    assert recipe.debs is not None

    with pytest.raises(SourceError) as caught:
        ospackages.gather(recipe, recipe.debs, cache=Cache(root=tmp_path / "cache"), clock=CLOCK)

    assert "the target has all of them" in caught.value.why


def test_a_file_of_sources_that_is_not_there_is_named(tmp_path: Path) -> None:
    text = recipe_text(more='[debs]\npackages = ["alpha"]\nsources = "none.list"\n')
    recipe = Recipe.parse(text.encode(), folder=tmp_path)
    assert recipe.debs is not None

    with pytest.raises(SourceError, match=r"debs\.sources"):
        ospackages.gather(recipe, recipe.debs, cache=Cache(root=tmp_path / "cache"), clock=CLOCK)
