"""A process that replaces another loads nothing on the strength of what was proven for the one before."""

import os
from pathlib import Path

import pytest

from appliance.errors import NotPromotedError
from appliance.serve.launcher import Loadable, Proven, threads_for
from appliance.serve.weights import HashedFile
from tests.support.promotion import site_config
from tests.support.versions import store_version


@pytest.mark.parametrize(
    ("machine", "left", "configured", "threads"),
    [(8, 8, 0, 7), (8, 7, 0, 7), (8, 2, 0, 2), (1, 1, 0, 1), (8, 7, 3, 3)],
    ids=["all but one", "the unit left one out already", "the unit left few", "never none", "as configured"],
)
def test_a_core_is_left_to_the_others_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: int, left: int, configured: int, threads: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: machine)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(left)))
    config = site_config(tmp_path)
    config = config.model_copy(update={"engine": config.engine.model_copy(update={"threads": configured})})

    assert threads_for(config) == threads


def test_a_worker_that_replaces_another_is_proven_anew(tmp_path: Path) -> None:
    def withdrawn() -> Loadable:
        raise NotPromotedError(what="nothing may serve production", why="stopped", fix="")

    (tmp_path / "weights").write_bytes(b"weights")
    weights = HashedFile(tmp_path / "weights", name="weights")
    _, descriptor = store_version(site_config(tmp_path))
    first = Loadable(descriptor=descriptor, weights=weights, template="")
    proven = Proven(first, withdrawn)

    proven.before_fork(None, None)
    assert proven.take() is first

    proven.before_fork(None, None)
    with pytest.raises(NotPromotedError):
        proven.take()
    weights.close()
