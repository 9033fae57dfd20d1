"""What a courier, one person or a power cut may do to a medium or a box, and the box still receives afterwards."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.config import Config, PlacesSection
from bundler.metadata import signed_file
from media import canonical
from media.errors import SealiftError
from tests.support.medium import SimulatedMedium, make_medium, throwaway_ceremony
from tests.support.receiving import Shelf, Site, make_site, rotated

ROOT_2 = "metadata/2.root.json"


@pytest.fixture
def genuine(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture(scope="module")
def with_one_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A box that has received serial 1; copied for every test."""
    folder = tmp_path_factory.mktemp("site")
    medium = make_medium(folder / "m")
    make_site(folder / "box", medium.root_json).receive(medium)
    return folder / "box"


@pytest.fixture
def site(tmp_path: Path, with_one_release: Path) -> Site:
    shutil.copytree(with_one_release, tmp_path / "box")
    places = PlacesSection(root=str(tmp_path / "box"))
    return Site(config=Config(site="demo-clinic", environment="demo", profile="cpu", places=places))


def with_rotation(genuine: Shelf, *, serial: int = 2) -> SimulatedMedium:
    """Return a medium that brings a second root, in which carol is gone."""
    return genuine(serial=serial, keys=rotated(throwaway_ceremony("demo"), without="carol"))


def edit(medium: SimulatedMedium, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a small file on every volume."""
    for number in range(1, len(medium.volumes) + 1):
        medium.replace(name, change(medium.path(name, volume=number).read_bytes()), volume=number)


def exit_code_of(site: Site, medium: SimulatedMedium) -> int:
    with pytest.raises(SealiftError) as refusal:
        site.receive(medium)
    return refusal.value.exit_code


@pytest.mark.parametrize(
    ("change", "exit_code"),
    [
        pytest.param(lambda raw: raw.replace(b"{", b"{\r", 1), 10, id="carriage return"),
        pytest.param(lambda raw: raw + b"\n", 10, id="line feed"),
        pytest.param(lambda raw: b" " * (5 * 2**20) + raw, 16, id="5 MiB of blanks"),
    ],
)
def test_a_root_whose_bytes_a_courier_changed_is_refused_and_never_kept(
    site: Site, genuine: Shelf, change: Callable[[bytes], bytes], exit_code: int
) -> None:
    carried = with_rotation(genuine)
    edit(carried, ROOT_2, change)
    before = site.untouched()

    assert exit_code_of(site, carried) == exit_code

    assert site.untouched() == before
    assert site.receive(with_rotation(genuine)).outcome == "received"


def test_a_root_that_names_people_beyond_ascii_has_one_form_only() -> None:
    root = rotated(throwaway_ceremony("demo")).root
    root.unrecognized_fields["x-sealift-people"][0]["name"] = "Zoë Ångström"

    written = signed_file(root, ())

    assert "Zoë".encode() in written
    assert canonical.loads_canonical(written) == json.loads(written)
