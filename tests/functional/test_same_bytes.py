"""The same inputs give the same bytes, whoever builds: two processes with other folders, clocks, locales and umasks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.payload import checkout, locked, wheel
from tests.support.recipes import two_sites

pytestmark = pytest.mark.slow  # whole builds in processes of their own

ROOT = Path(__file__).resolve().parents[2]
# What the command does, but wheels come from a folder: nothing here may reach a network.
BUILD = """

import json, shutil, sys
from pathlib import Path

from bundler.build import Workshop, build_sites
from bundler.cache import Cache
from bundler.metadata import canonical, unsigned_roles
from bundler.measure import measure_tree
from bundler.plan import ReleasePlan
from bundler.recipe import Recipe
from bundler.sources.server import Checkout
from bundler.toolchain import Toolchain
from bundler.workfolder import WorkFolder
from media.clock import SystemClock

tree, index, recipe, cache, work = map(Path, sys.argv[1:])


def fetch(requirements, target, place):
    for line in requirements.splitlines():
        name, _, version = line.partition(" ")[0].partition("==")
        shutil.copy(next(index.glob(f"{name}-{version}-*.whl")), place)


shop = Workshop(
    checkout=Checkout(root=tree),
    cache=Cache(root=cache),
    toolchain=Toolchain(folder=Path(sys.prefix), lock_sha256=""),
    fetch=fetch,
    clock=SystemClock(),
)
for made in build_sites(shop, Recipe.load(recipe), work):
    folder = WorkFolder(root=made.work)
    roles = unsigned_roles(
        ReleasePlan.load(folder.plan), payload=measure_tree(folder.data, prefix="data"), attestations={}
    )
    (made.work / "targets.json").write_bytes(canonical(roles.targets))
"""


def build(folder: Path, inputs: Path, **environment: str) -> Path:
    """Build in a process of its own, from copies of the inputs that lie elsewhere, dated and guarded otherwise."""
    folder.mkdir(parents=True)
    umask = int(environment.pop("UMASK"), 8)
    shutil.copytree(inputs, folder / "in")
    for number, path in enumerate(sorted((folder / "in").rglob("*"))):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
        os.utime(path, (10**9 + number, 10**9 + number * int(environment["STEP"])))
    places = [folder / "in" / name for name in ("tree", "index", "recipe/recipe.toml")]
    done = subprocess.run(
        [sys.executable, "-c", BUILD, *places, folder / "cache", folder / "work"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(folder), **environment},
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "work"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The work folders of two builds by people who share nothing but the inputs."""
    base = tmp_path_factory.mktemp("same")
    inputs = base / "inputs"
    index = inputs / "index"
    wheels = [wheel(index, "alpha"), wheel(index, "engine")]
    requirements = checkout(inputs / "tree") / "requirements"
    for name in ("server", "host", "engine-llama-cpp"):
        (requirements / f"{name}.txt").write_text(locked(*wheels[: 2 if name.startswith("engine") else 1]))
    two_sites(inputs / "recipe", weights_bytes=2 * 2**20)
    one = build(base / "a", inputs, UMASK="022", STEP="1", LC_ALL="C", TZ="UTC", SOURCE_DATE_EPOCH="1")
    other = build(
        base / "quite another/place",
        inputs,
        UMASK="077",
        STEP="1000",
        LC_ALL="C.UTF-8",
        TZ="Pacific/Chatham",
        SOURCE_DATE_EPOCH="1700000000",
        PYTHONHASHSEED="12345",
    )
    return one, other


@pytest.mark.parametrize("site", ["north", "south"])
@pytest.mark.parametrize("part", ["candidate/data", "targets.json", "attest/sbom.json", "candidate/plan.json"])
def test_two_people_build_the_same_bytes(two: tuple[Path, Path], site: str, part: str) -> None:
    one, other = (work / site / part for work in two)

    if one.is_dir():
        assert tree(one) == tree(other)
        assert len(tree(one)) > 10
    else:
        assert one.read_bytes() == other.read_bytes()


def test_only_the_time_of_the_build_differs_in_its_provenance(two: tuple[Path, Path]) -> None:
    found = [json.loads((work / "north/attest/provenance.json").read_bytes()) for work in two]
    for statement in found:
        statement["predicate"]["runDetails"].pop("metadata")

    assert found[0] == found[1]
