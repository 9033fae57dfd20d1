"""A process that replaces another loads nothing on the strength of what was proven for the one before."""

import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest
from pydantic import ValidationError

from appliance.enginesections import EnginesSection, ProductionEngines
from appliance.errors import NotPromotedError
from appliance.gateway.lagging import MOST_CALLERS, MOST_HURRIED
from appliance.sections import LimitsSection
from appliance.serve import keptsteps, launcher
from appliance.serve.curve import Curve
from appliance.serve.instance import Instance
from appliance.serve.keptsteps import Kept
from appliance.serve.launcher import HEADROOM, KEPT_CONNECTIONS, Loadable, Proven, answering_threads, threads_for
from appliance.serve.scheduler import Scheduler
from appliance.serve.weights import HashedFile
from tests.support import lines
from tests.support.decoder import EchoDecoder
from tests.support.payload import gguf
from tests.support.promotion import digest, open_site, site_config
from tests.support.versions import store_version

ROOT = Path(__file__).resolve().parents[4]


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


@pytest.mark.parametrize(("places", "threads"), [(1, 64), (48, 64), (64, 80), (256, 272), (1024, 1040)])
def test_an_engine_that_answers_all_it_may_has_threads_left_for_who_asks_whether_it_is_well(
    tmp_path: Path, places: int, threads: int
) -> None:
    config = site_config(tmp_path)
    limits = config.limits.model_copy(update={"concurrent_requests": places})

    assert answering_threads(config.model_copy(update={"limits": limits})) == threads


@pytest.mark.parametrize("name", ["engine-production@", "engine-test@", "gateway", "gateway@", "gateway-test"])
def test_a_unit_has_room_for_all_that_a_site_file_may_let_in(tmp_path: Path, name: str) -> None:
    config = site_config(tmp_path)
    limits = config.limits.model_copy(update={"concurrent_requests": 1024, "queue_length": 1024})
    with pytest.raises(ValidationError, match="2 validation errors"):
        LimitsSection.model_validate({"concurrent_requests": 1025, "queue_length": 1025})
    unit = (ROOT / f"systemd/sealift-{name}.service").read_text()
    tasks, files = (int(re.findall(rf"^{word}=(\d+)$", unit, re.MULTILINE)[0]) for word in ("TasksMax", "LimitNOFILE"))

    answering = answering_threads(config.model_copy(update={"limits": limits}))
    if name.startswith("engine"):
        assert tasks >= answering + 512  # what computes
        assert files > answering + KEPT_CONNECTIONS + limits.concurrent_requests
    else:
        waiting = limits.concurrent_requests + limits.queue_length
        assert tasks > waiting + MOST_CALLERS + MOST_HURRIED + HEADROOM
        assert files > 3 * (waiting + MOST_CALLERS + MOST_HURRIED + HEADROOM) + 1024


def test_lines_of_production_share_the_cores_and_the_test_stage_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(24)))
    site = open_site(tmp_path)
    engines = EnginesSection(production=ProductionEngines(count=3))
    config = site.config.model_copy(update={"engines": engines})
    first, other = (Instance.parse(f"{stage}-{digest('A')[:12]}") for stage in ("production", "test"))
    assert [threads_for(config, one) for one in (first, other)] == [8, 24]
    site.promote(digest("A"))
    assert threads_for(config, first) == 8

    lines.open_line(site, digest("B"))
    further = Instance.parse(f"production-{digest('B')[:12]}")
    assert [threads_for(config, one) for one in (first, further, other)] == [4, 12, 24]


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


def test_a_loaded_version_tells_what_its_weights_say_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = EchoDecoder(context_tokens=512, batch_tokens=64, sequences=1)
    library = ModuleType("appliance.serve.llama_cpp")
    library.LlamaCppDecoder = lambda *_, **__: decoder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, library.__name__, library)
    curve = Curve(threads=1, micros={1: 5000, 4: 9000})
    monkeypatch.setattr(keptsteps, "taken", lambda *_, **__: curve)
    _, descriptor = store_version(site_config(tmp_path))
    path = tmp_path / "weights.gguf"
    path.write_bytes(gguf(metadata={"llama.embedding_length": 4}))
    loadable = Loadable(descriptor=descriptor, weights=HashedFile(path, name="weights"), template="x")

    loaded = launcher.load(loadable, stage="test", kept=Kept(threads=1, machine=""))

    told = loaded.app.test_client().get("/sealift/v1/status").get_json()["model"]
    cast("Scheduler", getattr(loaded.turns, "__self__", None)).stop()
    loadable.weights.close()
    assert told == {"architecture": "llama", "parameters": 32, "embedding_length": 4}
