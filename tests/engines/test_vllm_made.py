"""A release of vLLM for this machine's processor: built, scanned, rehearsed, signed and written by the commands.

What is written stays in build/engines (1 GiB), for the tests of what serves from it.
"""

import json
import re
import sys
from collections.abc import Iterator
from typing import Final

import pytest

from bundler.recipe import Recipe
from examples.demo.run import Demo, remove
from media.digest import file_sha256
from tests.engines import line

pytestmark = [pytest.mark.engines, pytest.mark.engines_release, pytest.mark.timeout(2400)]

LOCK: Final = line.HERE / "engine-vllm.txt"


@pytest.fixture(scope="module")
def made() -> Iterator[Demo]:
    demo = line.prepared(line.ROOT / "build/engines")
    try:
        if (demo.out / "media").exists():
            remove(demo.out / "media")
        line.medium(demo)
        yield demo
    finally:
        sys.stdout.write(json.dumps(demo.stage.times, indent=1) + "\n")
        line.finish(demo)


def test_vllm_answered_in_an_empty_network_before_anyone_signed(made: Demo) -> None:
    said = line.statement(made, "rehearsal")

    assert said["level"] == "answered-on-cpu"
    assert [one["name"] for one in said["models"]] == [line.MODEL]
    assert said["network"] == "none: an empty network namespace"


def test_what_the_scan_let_pass_is_what_the_recipe_allows_with_its_reasons(made: Demo) -> None:
    said = line.statement(made, "scan")
    given = {one["reason"] for one in said["findings"]}

    assert said["result"] == "passed"
    assert {allowed.reason for allowed in Recipe.load(line.RECIPE).scan.allowed} <= given
    assert next(one["files"] for one in said["checks"] if one["check"] == "safetensors") == 1


def test_every_wheel_of_the_lock_is_on_the_medium_and_those_left_out_are_not(made: Demo) -> None:
    wheels = list((line.release_of(made) / "data/wheels").iterdir())
    locked = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", LOCK.read_text()))

    assert len(locked) > 150
    assert locked <= {file_sha256(path) for path in wheels}
    assert not [path.name for path in wheels if path.name.startswith(("torchvision", "torchaudio", "torchcodec"))]


def test_whoever_has_the_root_can_check_it_before_it_leaves(made: Demo) -> None:
    made.stage.run("sealift-bundler", "check", made.out / "media/volume-1", "--ceremony", made.ceremony)
