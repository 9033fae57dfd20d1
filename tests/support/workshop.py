"""A build without a network: a small checkout whose locks name wheels of a folder that stands for the index."""

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from bundler.build import Workshop, build_in
from bundler.cache import Cache
from bundler.recipe import Recipe
from bundler.sources.server import Checkout
from bundler.target import WheelTarget
from bundler.toolchain import Toolchain
from bundler.workfolder import WorkFolder
from media.clock import FixedClock
from tests.support.payload import checkout, locked, recipe_folder, wheel

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def workshop(folder: Path) -> Workshop:
    """Return what a build works with; everything lies below `folder`."""
    tree = checkout(folder / "tree")
    index = {"alpha": wheel(folder / "index", "alpha"), "engine": wheel(folder / "index", "engine")}
    (tree / "requirements" / "server.txt").write_text(locked(index["alpha"]))
    (tree / "requirements" / "host.txt").write_text(locked(index["alpha"]))
    (tree / "requirements" / "engine-llama-cpp.txt").write_text(locked(index["alpha"], index["engine"]))

    def fetch(requirements: str, target: WheelTarget, place: Path) -> None:
        del target
        for line in requirements.splitlines():
            name, _, version = line.partition(" ")[0].partition("==")
            shutil.copy(next((folder / "index").glob(f"{name.replace('-', '_')}-{version}-*.whl")), place)

    return Workshop(
        checkout=Checkout(root=tree),
        cache=Cache(root=folder / "cache"),
        # The development environment has the locked hatchling.
        toolchain=Toolchain(folder=Path(sys.prefix), lock_sha256=""),
        fetch=fetch,
        clock=FixedClock(NOON),
    )


def candidate(folder: Path, *, with_model: bool = True) -> WorkFolder:
    """Build the small recipe and return its work folder."""
    work = WorkFolder(root=folder / "work")
    recipe = Recipe.load(recipe_folder(folder / "recipe"))
    build_in(workshop(folder / "shop"), recipe if with_model else recipe.model_copy(update={"models": ()}), work)
    return work
