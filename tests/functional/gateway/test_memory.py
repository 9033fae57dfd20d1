"""What the gateway and the ledger hold in memory does not grow with the answers they have given."""

from pathlib import Path

import pytest

from bench.gateway_memory import MOST_GROWTH, contestant, costless_engine, limits, resident
from tests.support.gateway_server import gateway_server

# Twenty thousand answers: over a minute on a quiet machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ANSWERS = 20_000
CALLERS = 4


def test_the_processes_hold_after_all_answers_what_they_held_after_a_tenth(tmp_path: Path) -> None:
    room = limits(together=2 * CALLERS)
    with gateway_server(tmp_path, limits=room, ledger_apart=True) as server, costless_engine(server):
        early, late = resident(contestant(server), ANSWERS, callers=CALLERS)

    each = (late - early) / (ANSWERS - ANSWERS // 10)
    # A twentieth of the usual 240 MiB is 700 bytes for each answer in between.
    assert late <= MOST_GROWTH * early, f"{early >> 20} MiB, then {late >> 20} MiB: {each:.0f} bytes for each answer"
