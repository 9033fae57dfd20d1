"""Boxes that functional tests start from."""

import shutil
from pathlib import Path

import pytest

from appliance.config import Config, PlacesSection
from tests.support.medium import make_medium
from tests.support.receiving import Site, make_site


@pytest.fixture(scope="session")
def with_one_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A box that has received serial 1; copied for every test."""
    folder = tmp_path_factory.mktemp("site")
    medium = make_medium(folder / "m")
    make_site(folder / "box", medium.root_json).receive(medium)
    return folder / "box"


@pytest.fixture
def site(tmp_path: Path, with_one_release: Path) -> Site:
    """A box of the test's own that has received serial 1."""
    shutil.copytree(with_one_release, tmp_path / "box")
    places = PlacesSection(root=str(tmp_path / "box"))
    return Site(config=Config(site="demo-clinic", environment="demo", profile="cpu", places=places))
