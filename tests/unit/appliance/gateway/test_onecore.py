"""A gateway and all that it begins keep to the core of its number; where that cannot be, it serves as it is."""

import os
import threading
from collections.abc import Mapping

import pytest

from appliance.gateway.onecore import NUMBER, keep_to_one_core

CORES = sorted(os.sched_getaffinity(0))


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


@pytest.mark.skipif(len(CORES) < 2, reason="there is one core")
@pytest.mark.parametrize("number", [1, 2, 3, len(CORES) + 1])
def test_each_gateway_has_the_core_of_its_number_and_then_round_again(number: int) -> None:
    core = CORES[(number - 1) % len(CORES)]

    assert kept({NUMBER: str(number)}) == (core, {core})


@pytest.mark.parametrize("said", [{}, {NUMBER: ""}, {NUMBER: "0"}, {NUMBER: "-1"}, {NUMBER: "one"}, {NUMBER: "٣"}])
def test_without_a_number_it_runs_wherever_there_is_room(said: Mapping[str, str]) -> None:
    assert kept(said) == (None, set(CORES))


def test_where_the_kernel_refuses_it_serves_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: int, _cores: set[int]) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)

    assert kept({NUMBER: "1"}) == (None, set(CORES))


def test_on_a_machine_of_one_core_there_is_nothing_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _thread: {CORES[0]})

    assert keep_to_one_core({}) is None
    assert kept({NUMBER: "2"})[0] is None
