"""A process that replaces another loads nothing on the strength of what was proven for the one before."""

from pathlib import Path

import pytest

from appliance.errors import NotPromotedError
from appliance.serve.launcher import Loadable, Proven
from appliance.serve.weights import HashedFile
from tests.support.promotion import site_config
from tests.support.versions import store_version


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
