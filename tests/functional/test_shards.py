"""The deep shards' runner: which run and when, what a slow machine puts off, and that nothing outlives its shard."""

import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests import shards
from tests.running import end_with_all_below
from tests.turns import Shard, Turns, in_turn

# Of `.ci/run`, without what the install, the fast tier and the first shard take where caches are warm.
_MINUTES = 74
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


def one_after_another(turns: Turns, seconds: dict[str, float], clock: list[float]) -> list[str]:
    """Return the shards in the order in which one runner gets them, each taking its seconds."""
    ran = []
    while (name := turns.next()) is not None:
        clock[0] += seconds[name]
        turns.ended(name, passed=True)
        ran.append(name)
    return ran


def test_each_run_boots_boxes_and_serves_by_a_real_vllm_in_that_order() -> None:
    every = shards.wanted_of([])

    assert {"box", "box-faults", "box-upgrade", "demo", "fault", "interop", "engines", "browser"} <= set(every)
    assert not any(shards.SHARDS[name].on_demand for name in every)
    for name in every:
        assert all(every.index(before) < every.index(name) for before in shards.SHARDS[name].after)
        assert shards.SHARDS[name].limit <= (25 if name == shards.FIRST else 20)


def test_each_long_shard_comes_first_in_some_run_and_none_before_what_it_waits_for() -> None:
    every = shards.wanted_of([])
    firsts: set[str] = set()
    for turn in range(99):
        ordered = in_turn(every, shards.TAKE_TURNS, turn, after=shards.AFTER)
        assert sorted(ordered) == sorted(every)
        for name in ordered:
            assert all(ordered.index(before) < ordered.index(name) for before in shards.SHARDS[name].after)
        firsts |= {next(name for name in ordered if name in group) for group in shards.TAKE_TURNS}

    waiting = {name for group in shards.TAKE_TURNS for name in group if set(shards.AFTER[name]) & {*group}}
    assert firsts == {name for group in shards.TAKE_TURNS for name in group} - waiting
    assert in_turn(["box", "demo"], shards.TAKE_TURNS, 3, after=shards.AFTER) == ["box", "demo"]


def test_no_shard_is_put_off_in_every_run_at_the_speed_that_is_known() -> None:
    """What `.ci/run` has time for behind the fast tier, with two runners whose shards take what is declared."""
    every = shards.wanted_of([])
    every.remove(shards.FIRST)
    ran: set[str] = set()
    for turn in range(99):
        ordered = in_turn(every, shards.TAKE_TURNS, turn, after=shards.AFTER)
        ran |= two_at_a_time({name: shards.SHARDS[name] for name in ordered}, minutes=_MINUTES)

    assert not set(every) - ran


def two_at_a_time(held: dict[str, Shard], *, minutes: float) -> set[str]:
    """Return the shards that run where two do at a time and each takes its minutes."""
    clock, ends = [0.0], dict[str, float]()
    turns = Turns(held, until=minutes * 60, clock=lambda: clock[0])
    while True:
        while len(ends) < 2 and (name := turns.next(waits=False)) is not None:
            ends[name] = clock[0] + held[name].minutes * 60
        if not ends:
            return set(turns.passed)
        name = min(ends, key=lambda one: ends[one])
        clock[0] = ends.pop(name)
        turns.ended(name, passed=True)


def test_what_a_shard_asks_for_by_its_mark_lies_where_the_shard_looks() -> None:
    ours = Path(__file__).resolve().parents[2]
    for mark, folders in shards.MARKED.items():
        marked = re.compile(rf"pytest\.mark\.{mark}(_\w+)?\b")
        found = {
            str(path.relative_to(ours)) for path in (ours / "tests").rglob("*.py") if marked.search(path.read_text())
        }
        assert found, mark
        assert not {path for path in found if not path.startswith(folders)}, mark


def test_of_the_shards_that_boot_boxes_one_runs_at_a_time_and_a_shard_waits_for_the_one_whose_remains_it_takes() -> (
    None
):
    turns = Turns(
        {
            "box": Shard([], 1, alone=True),
            "box-faults": Shard([], 1, alone=True, after=("box",)),
            "demo": Shard([], 1),
            "demo-tests": Shard([], 1, after=("demo",)),
        }
    )

    assert [turns.next(), turns.next()] == ["box", "demo"]
    turns.ended("demo", passed=False)
    assert turns.next() == "demo-tests"
    turns.ended("box", passed=True)
    assert turns.next() == "box-faults"


def test_one_that_boots_boxes_always_runs_since_those_take_longest_in_all() -> None:
    turns = Turns({"box": Shard([], 1, alone=True), "demo": Shard([], 1), "box-time": Shard([], 1, alone=True)})

    assert [turns.next(), turns.next()] == ["box", "demo"]
    turns.ended("box", passed=True)
    assert turns.next() == "box-time"


def test_a_second_runner_waits_while_its_shard_may_still_come() -> None:
    turns = Turns({"box": Shard([], 1, alone=True), "box-time": Shard([], 1, alone=True)})
    assert turns.next() == "box"
    got: list[str | None] = []
    second = threading.Thread(target=lambda: got.append(turns.next()))
    second.start()
    second.join(0.2)
    assert not got

    turns.ended("box", passed=True)
    second.join(30)

    assert got == ["box-time"]


def test_on_a_slow_machine_the_last_shards_are_put_off_and_named_where_a_shorter_one_still_runs() -> None:
    clock = [0.0]
    known = {"first": 10.0, "second": 10.0, "long": 20.0, "short": 2.0}
    held = {name: Shard([], minutes) for name, minutes in known.items()}
    turns = Turns(held, until=45 * 60, clock=lambda: clock[0])

    # Twice as slow as what is known: after 40 minutes there is time for 5, and the short one needs 4.
    ran = one_after_another(turns, {name: minutes * 120 for name, minutes in known.items()}, clock)

    assert ran == ["first", "second", "short"]
    assert turns.put_off == ["long"]
    assert turns.passed == {"first": True, "second": True, "short": True}


def test_on_a_quick_machine_none_is_put_off() -> None:
    clock = [0.0]
    held = {name: Shard([], 20.0) for name in ("first", "second", "third")}
    turns = Turns(held, until=45 * 60, clock=lambda: clock[0])

    assert one_after_another(turns, dict.fromkeys(held, 600.0), clock) == ["first", "second", "third"]
    assert turns.put_off == []


def test_what_a_shard_that_is_out_of_time_runs_is_ended_with_all_that_it_started() -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True) as left:
        assert left.stdout is not None
        child = int(left.stdout.readline())

        end_with_all_below(left.pid)

    began = time.monotonic()
    while is_running(child):
        assert time.monotonic() - began < 30
        time.sleep(0.02)
    assert left.returncode == -signal.SIGKILL
