"""Environments from stored wheels: exact, checked, repeatable, and undone by nothing but a whole build."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from appliance.config import Places
from appliance.errors import InstallError, NoSpaceError, NotInstalledError, StoreDamagedError
from appliance.install.environment_check import pins, require_exact
from appliance.install.environments import Built, build, site_packages
from appliance.install.releases import InstalledRelease, InstalledReleases
from appliance.store.content import ContentStore, StoredRelease
from tests.support.installable import places_below, requirement, small_release, store_release, wheel

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

SERVER_LIST = "data/server/requirements-server.txt"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return places_below(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Places, Built, list[str]]:
    """One release, built once; tests of this module only read it, or a copy of it."""
    places, told = places_below(tmp_path_factory.mktemp("whole")), list[str]()
    result = build(store_release(places, small_release()), places, with_host=False, progress=told.append)
    return places, result, told


@pytest.fixture
def copied(whole: tuple[Places, Built, list[str]], places: Places) -> Places:
    shutil.copytree(whole[0].root, places.root, symlinks=True, dirs_exist_ok=True)
    return places


def built(stored: StoredRelease, places: Places, *, with_host: bool = False) -> Built:
    return build(stored, places, with_host=with_host, progress=lambda _: None)


def test_a_release_is_built_checked_and_whole(whole: tuple[Places, Built, list[str]]) -> None:
    places, result, told = whole
    folder = places.releases / "1"

    printed = subprocess.run(
        [folder / "server/bin/python", "-I", "-c", "import alpha, beta; print(alpha.NAME, beta.NAME)"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert printed.stdout == "alpha beta\n"
    assert result.changed
    assert sorted(result.installed.environments) == ["engine-llama-cpp", "server"]
    assert len(told) == 2
    assert sorted(path.name for path in folder.iterdir()) == [
        *["ansible", "debs", "engine-llama-cpp", "installed.json", "server", "systemd"]
    ]
    assert not (site_packages(folder / "server") / "pip").exists()
    assert folder.stat().st_mode & 0o777 == 0o755
    assert (folder / "ansible/roles/units").stat().st_mode & 0o777 == 0o755


def test_building_again_changes_nothing(copied: Places) -> None:
    before = (copied.releases / "1/installed.json").stat().st_mtime_ns

    result = built(StoredRelease.load(ContentStore(copied.store), 1), copied)

    assert not result.changed
    assert (copied.releases / "1/installed.json").stat().st_mtime_ns == before


def test_an_environment_that_was_touched_is_built_anew(copied: Places) -> None:
    module = site_packages(copied.releases / "1/server") / "alpha/__init__.py"
    module.write_text("NAME = 'evil'\n")

    result = built(StoredRelease.load(ContentStore(copied.store), 1), copied)

    assert result.changed
    assert module.read_text() == "NAME = 'alpha'\n"


def test_host_files_that_are_not_the_signed_ones_are_laid_anew_also_under_a_program_that_runs_from_there(
    copied: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, stored = copied.releases / "1", StoredRelease.load(ContentStore(copied.store), 1)
    monkeypatch.setattr(sys, "prefix", str(folder / "server"))
    before = {path: path.read_bytes() for path in (folder / "systemd").rglob("*") if path.is_file()}
    for path in before:
        path.write_bytes(b"")  # as a power cut leaves what was not on the disk yet
    (folder / "ansible/roles/units/more.yml").write_text("- name: What nobody signed\n")

    assert built(stored, copied).changed

    assert {path: path.read_bytes() for path in before} == before
    assert not (folder / "ansible/roles/units/more.yml").exists()
    assert not built(stored, copied).changed


def test_what_is_built_on_a_box_is_on_the_disk_before_it_counts_as_whole(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def write(_: InstalledReleases, __: InstalledRelease) -> None:
        steps.append("counts as whole")

    monkeypatch.setattr(os, "sync", lambda: steps.append("on the disk"))
    monkeypatch.setattr(InstalledReleases, "write", write)

    built(store_release(places, small_release()), places, with_host=True)

    assert steps == ["on the disk", "counts as whole"]


def test_a_program_never_builds_anew_what_it_runs_from(copied: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    module = site_packages(copied.releases / "1/server") / "alpha/__init__.py"
    module.write_text("NAME = 'evil'\n")
    monkeypatch.setattr(sys, "prefix", str(copied.releases / "1/server"))

    with pytest.raises(InstallError) as caught:
        built(StoredRelease.load(ContentStore(copied.store), 1), copied)

    assert "bootstrap" in caught.value.fix
    assert module.exists()


def test_a_folder_comes_back_when_building_it_anew_fails(copied: Places) -> None:
    stored = StoredRelease.load(ContentStore(copied.store), 1)
    (copied.releases / "1/server/pyvenv.cfg").write_text("changed")
    (site_packages(copied.releases / "1/server") / "alpha/__init__.py").unlink()
    wheel_path = stored.path_of("data/wheels/beta-1.0-py3-none-any.whl")
    wheel_path.chmod(0o644)
    wheel_path.write_bytes(b"damaged")

    with pytest.raises(StoreDamagedError):
        built(stored, copied)

    assert (copied.releases / "1/server/pyvenv.cfg").read_text() == "changed"
    assert [path.name for path in copied.releases.iterdir() if path.name != ".lock"] == ["1"]


@pytest.mark.parametrize("damage", ["changed", "added", "removed", "without its list", "with an empty list"])
def test_every_kind_of_change_to_an_environment_is_seen(copied: Places, damage: str) -> None:
    packages = site_packages(copied.releases / "1/server")
    if damage == "changed":
        (packages / "alpha/__init__.py").write_text("NAME = 'evil'\n")
    elif damage == "added":
        shutil.copytree(packages / "alpha-1.0.dist-info", packages / "gamma-1.0.dist-info")
        (packages / "gamma-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: gamma\nVersion: 1.0\n")
    elif damage == "removed":
        (packages / "beta/__init__.py").unlink()
    elif damage == "without its list":
        (packages / "beta-1.0.dist-info/RECORD").unlink()
    else:
        (packages / "beta-1.0.dist-info/RECORD").write_bytes(b"")

    with pytest.raises(InstallError):
        require_exact(packages, {"alpha": "1.0", "beta": "1.0"}, environment="server")


def test_a_version_that_is_not_listed_is_named(whole: tuple[Places, Built, list[str]]) -> None:
    packages = site_packages(whole[0].releases / "1/server")

    with pytest.raises(InstallError) as caught:
        require_exact(packages, {"alpha": "1.0", "beta": "2.0"}, environment="server")

    assert "beta" in caught.value.why


def test_the_host_environment_is_built_only_on_a_box(places: Places) -> None:
    files = {path: content for path, content in small_release().items() if "engine" not in path}
    files["data/release.json"] = files["data/release.json"].replace(
        b'"engine-llama-cpp":"data/server/requirements-engine-llama-cpp.txt",', b""
    )

    result = built(store_release(places, files), places, with_host=True)

    assert sorted(result.installed.environments) == ["host", "server"]


def test_a_wheel_that_is_not_the_listed_one_is_refused(places: Places) -> None:
    files = small_release()
    name, _ = wheel("alpha", "1.0", {})
    files[f"data/wheels/{name}"] = wheel("alpha", "1.0", {"alpha/__init__.py": "NAME = 'other'\n"})[1]
    stored = store_release(places, files)

    with pytest.raises(InstallError):
        built(stored, places)

    assert InstalledReleases(places).load(1) is None


def test_a_list_that_lacks_a_dependency_is_refused(places: Places) -> None:
    files = small_release()
    files[SERVER_LIST] = files[SERVER_LIST].splitlines(keepends=True)[1]
    stored = store_release(places, files)

    with pytest.raises(InstallError):
        built(stored, places)


@pytest.mark.parametrize("line", ["alpha>=1.0", "alpha==1.0", "-e .", "alpha @ file:///x"])
def test_a_requirement_without_an_exact_hash_is_refused(line: str) -> None:
    with pytest.raises(InstallError):
        pins(line.encode())


def test_pins_read_continued_lines_and_normalise_names() -> None:
    text = "# by the bundler\n\n" + requirement("Alpha.Beta_x", "1.0", b"").replace(" --", " \\\n    --")

    assert pins(text.encode()) == {"alpha-beta-x": "1.0"}


def test_a_damaged_object_in_the_store_stops_the_build(places: Places) -> None:
    stored = store_release(places, small_release())
    path = stored.path_of("data/host/systemd/sealift.target")
    path.chmod(0o644)
    path.write_bytes(b"[Unix]\n")

    with pytest.raises(StoreDamagedError):
        built(stored, places)


def test_a_full_disk_is_said_before_the_first_write(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = store_release(places, small_release())
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - the shape of shutil's answer
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 0))

    with pytest.raises(NoSpaceError) as caught:
        built(stored, places)

    assert "0 MiB are free" in caught.value.why


def test_a_release_without_server_or_wheels_is_refused(places: Places) -> None:
    files = small_release()
    files["data/release.json"] = b'{"environments":{},"format":1}'
    stored = store_release(places, files)
    with pytest.raises(InstallError):
        built(stored, places)

    without = {path: content for path, content in small_release().items() if not path.startswith("data/wheels")}
    with pytest.raises(InstallError):
        built(store_release(places, without, serial=2), places)


def test_a_strange_environment_name_never_becomes_a_path(places: Places) -> None:
    files = small_release()
    files["data/release.json"] = (
        b'{"environments":{"../x":"data/server/requirements-host.txt","server":"data/server/requirements-server.txt"},"format":1}'
    )
    stored = store_release(places, files)

    with pytest.raises(InstallError):
        built(stored, places)


def test_current_changes_by_one_link_and_back(places: Places) -> None:
    releases = InstalledReleases(places)
    for serial in (1, 2):
        releases.folder(serial).mkdir(parents=True)
        releases.write(InstalledRelease(serial=serial, release="r", environments={}, host_files="0" * 64))

    releases.switch(1)
    releases.switch(2)
    now = releases.require_current()
    releases.switch(1)
    back = releases.require_current()
    releases.switch(None)

    assert (now.serial, back.serial, releases.current()) == (2, 1, None)
    with pytest.raises(NotInstalledError):
        releases.require_current()


def test_current_never_names_a_release_that_is_not_whole(places: Places) -> None:
    with pytest.raises(InstallError):
        InstalledReleases(places).switch(7)


def test_two_installs_at_once_are_one_too_many(places: Places) -> None:
    releases = InstalledReleases(places)

    with releases.locked(), pytest.raises(InstallError), releases.locked():
        pass
