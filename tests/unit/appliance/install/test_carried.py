"""What a release leaves unchanged comes from the release below it, or the release is refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Places
from appliance.errors import InstallError
from appliance.install.carried import Whole, complete
from appliance.install.releases import InstalledRelease, InstalledReleases
from media import canonical
from tests.support.installable import RELEASE_FACTS, places_below, requirement, small_release, store_release, wheel

ENGINE_LIST = "data/server/requirements-engine-llama-cpp.txt"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """An appliance that runs the full release 5."""
    places = places_below(tmp_path)
    store_release(places, small_release(), serial=5)
    run(places, 5)
    return places


def run(places: Places, serial: int, *, base: int | None = None) -> None:
    """Declare a release installed and the one that runs."""
    releases = InstalledReleases(places)
    releases.folder(serial).mkdir(parents=True)
    releases.write(
        InstalledRelease(serial=serial, release=f"r{serial}", environments={}, host_files="0" * 64, base=base)
    )
    releases.switch(serial)


def completed(places: Places, files: Mapping[str, bytes], *, serial: int = 7) -> Whole:
    return complete(store_release(places, files, serial=serial), InstalledReleases(places))


def facts(environments: Mapping[str, str], **more: Any) -> dict[str, bytes]:
    value = {"format": 1, "environments": dict(environments), "models": [], **more}
    return {RELEASE_FACTS: canonical.dumps(value)}


def server_alone(**more: Any) -> dict[str, bytes]:
    files = {path: content for path, content in small_release().items() if "engine" not in path}
    lists = {name: f"data/server/requirements-{name}.txt" for name in ("server", "host")}
    return files | facts(lists, kind="server", **more)


def update(name: str = "alpha", *, environment: str = "server", **more: Any) -> dict[str, bytes]:
    """Return an update that brings version 2.0 of a package."""
    file, content = wheel(name, "2.0", {f"{name}/__init__.py": "NAME = 'new'\n"})
    path = f"data/server/requirements-{environment}.txt"
    return {
        f"data/wheels/{file}": content,
        path: requirement(name, "2.0", content).encode(),
        **facts({environment: path}, kind="security-update", **{"base": 5, **more}),
    }


def pinned(whole: Whole, environment: str) -> list[str]:
    return [line.partition(" ")[0] for line in whole.requirements[environment].decode().splitlines()]


def refused(places: Places, files: Mapping[str, bytes], *, serial: int = 7) -> str:
    with pytest.raises(InstallError) as caught:
        completed(places, files, serial=serial)
    assert caught.value.fix
    return caught.value.why


def test_a_full_release_stands_alone(places: Places) -> None:
    whole = completed(places, small_release())

    assert (whole.kind, whole.base, whole.kept) == ("full", None, ())
    assert sorted(whole.requirements) == ["engine-llama-cpp", "host", "server"]


def test_a_server_takes_the_engines_of_the_release_that_runs(places: Places) -> None:
    whole = completed(places, server_alone())

    assert (whole.base, whole.kept) == (5, ("models", "engine-llama-cpp"))
    assert "data/wheels/engine-1.0-py3-none-any.whl" in whole.stored.files


def test_a_server_on_a_bare_machine_stands_alone(tmp_path: Path) -> None:
    whole = completed(places_below(tmp_path), server_alone())

    assert (whole.base, sorted(whole.requirements)) == (None, ["host", "server"])


def test_what_was_below_when_a_release_came_stays_below_it(places: Places) -> None:
    run(places, 7, base=5)
    store_release(places, small_release(), serial=8)
    run(places, 8)

    assert completed(places, server_alone(), serial=7).base == 5


def test_an_update_replaces_its_packages_where_they_are(places: Places) -> None:
    whole = completed(places, update())

    assert pinned(whole, "server") == ["alpha==2.0", "beta==1.0"]
    assert whole.requirements["engine-llama-cpp"] == small_release()[ENGINE_LIST]
    assert whole.kept == ("models", "engine-llama-cpp", "host", "playbooks", "units", "Debian packages")


def test_an_update_of_an_update_keeps_what_the_first_one_brought(places: Places) -> None:
    store_release(places, update(), serial=6)
    run(places, 6, base=5)

    assert pinned(completed(places, update("beta", base=6)), "server") == ["alpha==2.0", "beta==2.0"]


def test_debian_packages_of_an_update_take_the_place_of_those_below(places: Places) -> None:
    whole = completed(places, {"data/debs/Packages": b"Package: new\n", **facts({}, kind="security-update", base=5)})

    assert whole.stored.read("data/debs/Packages") == b"Package: new\n"
    assert whole.packages == ("new",)
    assert whole.kept == ("models", "engine-llama-cpp", "host", "server", "playbooks", "units")


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (update(base=4), "it changes release 4, and release 5 runs"),
        (update(base=7), "it names release 7 as the one below it"),
        (update("gamma"), "nothing here has gamma, which it replaces"),
        (update("engine", environment="engine-llama-cpp"), "it would change engine-llama-cpp"),
        (
            {"data/debs/Packages": b"Package: --evil\n", **facts({}, kind="security-update", base=5)},
            "it brings a package called '--evil'",
        ),
        (facts({}, kind="surprise"), "its kind 'surprise' is unknown here"),
    ],
)
def test_a_release_that_does_not_fit_what_is_here_is_refused(
    places: Places, files: Mapping[str, bytes], why: str
) -> None:
    assert refused(places, files) == why


def test_an_update_of_a_release_that_is_not_stored_is_refused(tmp_path: Path) -> None:
    assert refused(places_below(tmp_path), update()) == "it changes release 5, which is not in the store"
