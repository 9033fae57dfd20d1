"""A release for vLLM from recipe to box: a machine with the GPU and driver takes it, any other refuses it by name.

The wheels stand in for the 200 of a real vLLM, some of which bring programs or folders of their own and CUDA's runtime.
"""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.store.copier import Job, Lines, run
from appliance.verify.fit import Machine
from appliance.verify.freshness import Decisions
from appliance.verify.trust import TrustRecord
from appliance.verify.verifier import Terms
from bundler.build import build_in
from bundler.errors import SourceError
from bundler.onego import release_in_one_go
from bundler.recipe import Recipe
from bundler.workfolder import WorkFolder
from media.clock import FixedClock
from tests.support.medium import MADE_AT, throwaway_ceremony
from tests.support.payload import locked, wheel
from tests.support.receiving import NOW
from tests.support.recipes import for_vllm
from tests.support.workshop import workshop

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

GPU = 'gpu = "NVIDIA L4"\ndriver = "580.65.06"'
BOX = Machine(
    profile="single-cpu",
    python="3.11",
    platform="linux_x86_64",
    glibc="2.36",
    cpu_flags=frozenset({"ssse3", "popcnt"}),
    gpus=frozenset({"NVIDIA L4"}),
    driver="580.82.07",
)


def recipe_in(folder: Path, *, target: str = GPU) -> Recipe:
    """Write a recipe whose vLLM brings CUDA 13.0 and wheels as odd as the real ones."""
    index = folder / "index"
    path = for_vllm(folder / "recipe", index)
    wheels = [
        wheel(index, "vllm", "0.20"),
        wheel(index, "nvidia-cuda-runtime", "13.0.96"),
        wheel(index, "z3-solver", files={"z3.py": b"", "z3_solver-1.0.data/data/bin/z3": b"\x7fELF"}),
        wheel(index, "video", files={"video.py": b"", "video-1.0.data/data/external/ffmpeg/readme.txt": b"ffmpeg"}),
    ]
    (folder / "recipe/engine-vllm.txt").write_text(locked(*wheels))
    path.write_text(path.read_text().replace('profile = "single-cpu"\n', f'profile = "single-cpu"\n{target}\n'))
    return Recipe.load(path)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release on a volume."""
    folder = tmp_path_factory.mktemp("vllm")
    work = WorkFolder(root=folder / "work")
    build_in(workshop(folder), recipe_in(folder), work)
    release_in_one_go(
        work,
        [folder / "volume-1"],
        ceremony=throwaway_ceremony("demo"),
        clock=FixedClock(at=MADE_AT),
        place="Bundling room",
    )
    return folder / "volume-1"


def dry_run(volume: Path, machine: Machine) -> tuple[int, dict[str, Any]]:
    """Return exit code and last line of the copier that a `sealift receive --dry-run` starts."""
    terms = Terms(
        trust=TrustRecord(root_chain=(throwaway_ceremony("demo").chain[0].decode(),)),
        site="north",
        environment="demo",
        machine=machine,
        level=None,
        serial_jump=1000,
        now=NOW,
        floor=MADE_AT,
        decisions=Decisions(),
    )
    said = io.StringIO()
    code = run(Job(volumes=(str(volume),), store="", terms=terms, full=False, lock=None), Lines(said))
    last: dict[str, Any] = json.loads(said.getvalue().splitlines()[-1])
    return code, last


def test_a_box_with_the_gpu_and_a_driver_that_runs_it_takes_the_release(volume: Path) -> None:
    code, last = dry_run(volume, BOX)

    assert (code, last["event"]) == (0, "done")


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        (
            replace(BOX, gpus=frozenset(), driver=""),
            "single-cpu: GPU none expected NVIDIA L4, GPU driver none older than",
        ),
        (replace(BOX, driver="535.54.03"), "GPU driver 535.54.03 older than 580.65.06"),
        (replace(BOX, gpus=frozenset({"NVIDIA A10"})), "GPU NVIDIA A10 expected NVIDIA L4"),
    ],
    ids=["cpu", "old-driver", "other-gpu"],
)
def test_any_other_box_refuses_it_before_a_byte_is_copied(volume: Path, machine: Machine, why: str) -> None:
    code, last = dry_run(volume, machine)

    assert (code, last["error"]["code"]) == (27, "target-mismatch")
    assert why in last["error"]["why"]


def test_a_target_whose_driver_is_too_old_for_the_wheels_is_refused_at_build(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, target=GPU.replace("580.65.06", "535.54.03"))

    with pytest.raises(SourceError, match="CUDA 13"):
        build_in(workshop(tmp_path), recipe, WorkFolder(root=tmp_path / "work"))
