"""The deep shards' runner: which shards run by themselves and beside which, and that nothing outlives its shard."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests import shards

# A process that gives its child an environment of its own, as an engine's launcher gives vLLM.
_PARENT = """
import subprocess
child = subprocess.Popen(["sleep", "120"], env={}, start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def test_a_real_vllm_serves_in_each_run_and_beside_the_booted_boxes() -> None:
    every = [name for name in shards.SHARDS if name not in shards.ON_DEMAND]
    boxes, rest = shards.lanes(every)

    assert "engines" in rest
    assert set(boxes) <= shards.BOOTED
    assert sorted([*boxes, *rest, *shards.FIRST]) == sorted(every)


def test_what_a_shard_that_is_out_of_time_runs_is_ended_with_all_that_it_started() -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True) as left:
        assert left.stdout is not None
        child = int(left.stdout.readline())

        shards._end_with_all_below(left.pid)

    began = time.monotonic()
    while is_running(child):
        assert time.monotonic() - began < 30
        time.sleep(0.02)
    assert left.returncode == -signal.SIGKILL
