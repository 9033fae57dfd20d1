"""A gateway and all that it begins keep to the core that its unit names; where that cannot be, it serves as it is."""

import os
import threading
from collections.abc import Mapping

import pytest

from appliance.gateway.onecore import keep_to_one_core
from appliance.unit import CORE

CORES = set(os.sched_getaffinity(0))


def kept(environ: Mapping[str, str]) -> tuple[int | None, set[int]]:
    """Return what is said, and where a thread may run that is begun afterwards; this process stays as it is."""
    found: list[tuple[int | None, set[int]]] = []

    def begin() -> None:
        said = keep_to_one_core(environ)
        after = threading.Thread(target=lambda: found.append((said, os.sched_getaffinity(0))))
        after.start()
        after.join()

    worker = threading.Thread(target=begin)
    worker.start()
    worker.join()
    return found[0]


@pytest.mark.parametrize("core", [min(CORES), max(CORES)])
def test_it_keeps_to_the_core_that_is_named(core: int) -> None:
    assert kept({CORE: str(core)}) == (core, {core})


@pytest.mark.parametrize("said", ["", "-1", "one", "0,1", str(max(CORES) + 1), "9" * 5000])
def test_without_a_core_that_it_may_use_it_runs_wherever_there_is_room(said: str) -> None:
    assert kept({CORE: said}) == (None, CORES)
    assert kept({}) == (None, CORES)


def test_where_the_kernel_refuses_it_serves_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: int, _cores: set[int]) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)

    assert kept({CORE: str(min(CORES))}) == (None, CORES)
