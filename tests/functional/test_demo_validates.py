"""The demo on a machine that is busy with something else: a version whose speed alone missed is measured again."""

from pathlib import Path

import pytest

from examples.demo.rollout import validate
from examples.demo.stage import Stage, StageError

_SEALIFT = """#!/bin/sh
cd "$(dirname "$0")"
if [ "$1" = models ]; then cat versions.json; exit 0; fi
echo tried >> tries
[ "$(wc -l < tries)" -gt "$(cat bad)" ] || exit 41
"""
_VERSIONS = """{"versions": [{"name": "first", "gates": [{"gate": "load", "passed": false}]},
 {"name": "second", "gates": [{"gate": "load", "passed": true}, {"gate": "%s", "passed": false}]}]}"""


def stage_that_fails(folder: Path, *, times: int, gate: str) -> Stage:
    program = folder / "sealift"
    program.write_text(_SEALIFT)
    program.chmod(0o755)
    (folder / "bad").write_text(str(times))
    (folder / "versions.json").write_text(_VERSIONS % gate)
    return Stage(folder, tools=folder, environment={})


def tries(folder: Path) -> int:
    return len((folder / "tries").read_text().splitlines())


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_version_that_was_too_slow_is_measured_again(tmp_path: Path, times: int) -> None:
    validate(stage_that_fails(tmp_path, times=times, gate="performance"), "second")

    assert tries(tmp_path) == times + 1


def test_one_that_is_always_too_slow_fails(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="ended with 41"):
        validate(stage_that_fails(tmp_path, times=9, gate="performance"), "second")

    assert tries(tmp_path) == 3


def test_another_gate_that_fails_is_believed_at_once(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="ended with 41"):
        validate(stage_that_fails(tmp_path, times=1, gate="smoke"), "second")

    assert tries(tmp_path) == 1
