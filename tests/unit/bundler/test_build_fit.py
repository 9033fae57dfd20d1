"""A build stops when an environment would not run on the target, and signs what its wheels need."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.build import build_in
from bundler.errors import SourceError
from bundler.gather import Workshop
from bundler.plan import ReleasePlan
from bundler.processor import V2
from bundler.recipe import Recipe
from bundler.target import WheelTarget
from bundler.workfolder import WorkFolder
from tests.support.payload import locked, recipe_folder, wheel
from tests.support.workshop import workshop


def serving(shop: Workshop, *files: Path) -> Workshop:
    """Lock these wheels for the server's environment, and let the shop's index have them."""

    def fetch(requirements: str, target: WheelTarget, place: Path) -> None:
        named = {file.name.split("-")[0]: file for file in files}
        rest = "".join(line + "\n" for line in requirements.splitlines() if line.partition("==")[0] not in named)
        for line in requirements.splitlines():
            if line.partition("==")[0] in named:
                shutil.copy(named[line.partition("==")[0]], place)
        if rest:
            shop.fetch(rest, target, place)

    (shop.checkout.root / "requirements" / "server.txt").write_text(locked(*files))
    return replace(shop, fetch=fetch)


def test_a_lock_that_leaves_a_dependency_out_stops_the_build(tmp_path: Path) -> None:
    file = wheel(tmp_path, "gamma", license_line="License-Expression: MIT\nRequires-Dist: delta>=2")
    shop = serving(workshop(tmp_path / "shop"), file)
    work = WorkFolder(root=tmp_path / "work")

    with pytest.raises(SourceError) as caught:
        build_in(shop, Recipe.load(recipe_folder(tmp_path / "recipe")), work)

    assert "the environment server is not complete" in caught.value.what
    assert "delta>=2 for gamma 1.0" in caught.value.why
    assert not work.candidate.exists()


def test_what_the_wheels_need_of_a_processor_is_part_of_what_is_signed(tmp_path: Path) -> None:
    shop = serving(workshop(tmp_path / "shop"), wheel(tmp_path, "numpy", "2.4.6"))
    work = WorkFolder(root=tmp_path / "work")

    build_in(shop, Recipe.load(recipe_folder(tmp_path / "recipe")), work)

    assert set(V2) <= set(ReleasePlan.load(work.plan).targets[0]["cpu_flags"])
