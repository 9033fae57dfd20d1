"""Runs the deep shards, each with its own time limit, and prints the minutes each took.

`python -m tests.shards` runs all but those on demand; `python -m tests.shards demo box` those named. Two run at a time
(tests/turns.py); what a shard prints is shown in one piece at its end. Where SEALIFT_TESTS_UNTIL says when all shall
have ended, in seconds since 1970, what would not end by then is put off and named. Exits 1 when any shard failed.
"""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.running import ROOT, run_shard
from tests.turns import Shard, Turns, in_turn

PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "--timeout", "840"]
SLOW = ["-n", "2", "--dist", "loadfile", "-m", "slow"]
# A booted box waits on everything else that the machine does.
BOXED = [*PYTEST[:-1], "1140"]
DISK = "tests/hardware/test_backup_disk.py"
BUNDLER = Path(sys.executable).with_name("sealift-bundler")
BUILD = f"rm -rf build/first && {BUNDLER} build examples/demo.toml --work build/first"


def _files(folder: str, *names: str) -> list[str]:
    return sorted(
        str(path.relative_to(ROOT)) for name in names for path in (ROOT / "tests" / folder).glob(f"test_{name}.py")
    )


def _without(files: list[str]) -> list[str]:
    return [f"--ignore={path}" for path in files]


# Where a mark is found (test_shards): to collect all tests takes 15 s of a core and half a gigabyte.
MARKED = {
    "box": ("tests/box",),
    "browser": ("tests/browser",),
    "demo": ("tests/functional",),
    "fault": ("tests/fault", "tests/functional"),
}
# Parts of what one mark names, so that none comes near the limit beside another: kills with processes of their own,
# media that are changed and faulty, power that goes, and databases on a server.
KILLS = _files("fault", "window*", "ledger*")
MEDIA = _files("fault", "*medi*", "*contents")
POWER = _files("fault", "powercut*", "receive*")
SERVERS = _files("interop", "postgresql*")
# Of what others' programs say of ours: those that run the whole line first, or engines of others.
LINES = _files("interop", "attached*", "api_clients", "batches*", "lm_eval", "model_signing", "o*", "pod*", "token*")
# And what a box has of Debian's: its web server, and what watches it.
DEBIANS = _files("interop", "*nginx", "monitoring", "numbers*", "alert*")
CONTAINERS = _files("functional", "demo_containers")
# What is asked of the engine with real models, most of it without the demo's units.
MODELS = _files("functional", "real_*")
# vLLM as its publisher ships it, in the environment that the other tests of vLLM use.
ATTACHED = _files("engines", "vllm_attached*")
# And of booted boxes: the whole line and what follows from it, and units that reach a server.
BOXES = _files("box", "box", "faults")
DATABASES = _files("box", "database*", "moved*")
LOST = _files("box", "lost*")


def _pytest(*wanted: str) -> list[list[str]]:
    return [[*PYTEST, *wanted]]


def _boots(
    minutes: float,
    mark: str,
    *wanted: str,
    limit: float = 20,
    after: tuple[str, ...] = ("box",),
    where: Sequence[str] = MARKED["box"],
) -> Shard:
    """Five to eleven minutes each on a quick machine; one that is slower must not be what decides."""
    boxed = [*PYTEST[:-1], str(int(limit * 60 - 60))]
    return Shard([[*boxed, "-m", mark, *wanted, *where]], minutes, limit, after, alone=True, needs_root=True)


def _on_demand(minutes: float, *wanted: str, needs_root: bool = False) -> Shard:
    """With a limit for a machine that does other work, too."""
    timeout = str(int(minutes * 60 - 60))
    return Shard([[*PYTEST[:-1], timeout, *wanted]], minutes, minutes, needs_root=needs_root, on_demand=True)


# The engine's wheel takes most of this one's time where no cache has it. It makes what others take from the cache.
FIRST = "build"
# In the order in which they run: those first that matter most and that others wait for.
SHARDS: dict[str, Shard] = {
    # Where no cache has the wheel, a slow machine needs more than a quarter of an hour for it.
    FIRST: Shard([["sh", "-ec", BUILD]], 15, 25),
    "box": _boots(11, "box", after=(), where=("tests/box/test_box.py",)),
    "demo": Shard([[sys.executable, "-m", "examples.demo.run"]], 8),
    # With what the demo left in build/demo.
    "demo-tests": Shard(_pytest("-m", "demo", *_without([*CONTAINERS, *MODELS]), *MARKED["demo"]), 5, after=("demo",)),
    "demo-models": Shard(_pytest("-m", "demo", *MODELS), 8, after=("demo", "demo-tests")),
    # These take the box that `box` left in the cache, and make one where there is none.
    "box-faults": _boots(8, "box_faults"),
    "box-guided": _boots(12, "box_guided", after=()),
    "browser": Shard(_pytest("-m", "browser", *MARKED["browser"]), 3),
    # What `make test` has no time for, most of it of one process each.
    "slow-others": Shard(_pytest(*SLOW, *_without(_files("functional", "*"))), 10),
    "fault": Shard(_pytest("-m", "fault", *_without([*KILLS, *MEDIA, *POWER]), *MARKED["fault"]), 7),
    "fault-kills": Shard(_pytest("-m", "fault", *KILLS), 5),
    "box-disks": _boots(12, "box_disks"),
    "box-upgrade": _boots(13, "box_upgrade"),
    "fault-power": Shard(_pytest("-m", "fault", *POWER), 7),
    "interop-lines": Shard(_pytest("-m", "interop", *LINES), 12),
    # vLLM from the cache: two minutes more, and 1.1 GiB, where no run before installed it.
    "engines": Shard(_pytest("-m", "engines and not engines_release", *_without(ATTACHED), "tests/engines"), 14, 20),
    "engines-attached": Shard(_pytest("-m", "engines", *ATTACHED), 9, after=("engines",)),
    # The version before makes a box by its own source; this release is installed there, or goes back.
    "box-before": _boots(8, "box_before"),
    "box-released": _boots(15, "box_released", after=("box-before",)),
    "interop": Shard(_pytest("-m", "interop", *_without([*SERVERS, *LINES, *DEBIANS])), 9),
    "interop-debian": Shard(_pytest("-m", "interop", *DEBIANS), 5),
    "demo-containers": Shard(_pytest("-m", "demo", *CONTAINERS), 5, after=("demo", "demo-tests", "demo-models")),
    "fault-media": Shard(_pytest("-m", "fault", *MEDIA), 8),
    "interop-server": Shard(_pytest("-m", "interop", *SERVERS), 10),
    "box-time": _boots(15, "box_time"),
    "slow": Shard(_pytest(*SLOW, "--ignore=tests/functional/gateway", "tests/functional"), 12),
    "units": _boots(13, "box", *_without([*BOXES, *DATABASES, *LOST]), after=()),
    "units-database": Shard([[*BOXED, "-m", "box", *DATABASES]], 12, 20, needs_root=True),
    "box-changes": _boots(15, "box_changes"),
    # A whole computer, emulated: its programs take some twenty times as long.
    "hardware": Shard([[*BOXED, "-m", "hardware", f"--ignore={DISK}", "tests/hardware"]], 10, 20, needs_root=True),
    "box-pair": _boots(15, "box_pair"),
    "box-optional": _boots(17, "box_optional"),
    "engines-build": _on_demand(40, "-m", "engines_release", "tests/engines/test_vllm_made.py"),
    # From the medium that the shard before left in build/engines, or one made now where its bytes have changed.
    "engines-serve": _on_demand(
        40, "-m", "engines_release", "--ignore=tests/engines/test_vllm_made.py", "tests/engines"
    ),
    # It builds for three minutes, and takes Debian 13's headers and Mesa's driver.
    "engines-vulkan": _on_demand(20, "-m", "engines_vulkan", "tests/engines/test_llama_on_vulkan.py"),
    # Twelve to nineteen minutes: a disk for backups is plugged into an emulated computer, pulled out, and exchanged.
    "hardware-disk": _on_demand(30, "-m", "hardware", DISK, needs_root=True),
    # Eight minutes of what `units-database` tries in part.
    "box-database": _on_demand(20, "-m", "box_database", needs_root=True),
    # A database server is lost for good: up to two nodes with lists of names in service again.
    "units-lost": _on_demand(20, "-m", "box", *LOST, needs_root=True),
    # Ten minutes; that this release takes back what does not answer, `box-changes` shows.
    "box-returned": _on_demand(20, "-m", "box_returned", needs_root=True),
    # vLLM as a site gets it: 168 wheels are carried, scanned, and installed on a booted box.
    "box-vllm": _on_demand(40, "-m", "box_vllm", needs_root=True),
}

# Each of a group comes first in some runs, so that none is always what is put off.
TAKE_TURNS: Sequence[Sequence[str]] = (
    (
        *("box-guided", "box-disks", "box-upgrade", "box-released", "box-time", "units"),
        *("box-changes", "box-pair", "box-optional"),
    ),
    (
        *("interop-lines", "engines", "engines-attached", "interop", "demo-containers", "fault-media"),
        *("interop-server", "slow", "slow-others", "units-database", "hardware"),
    ),
)
AFTER = {name: shard.after for name, shard in SHARDS.items()}


def wanted_of(names: Sequence[str]) -> list[str]:
    """Return those of the shards that this user can run, in their order; it says which it leaves out."""
    wanted = list(names) or [name for name, shard in SHARDS.items() if not shard.on_demand]
    skipped = [name for name in wanted if SHARDS[name].needs_root and os.geteuid() != 0]
    for name in skipped:
        sys.stdout.write(f"== shard {name}: skipped, it needs root\n")
    return [name for name in SHARDS if name in wanted and name not in skipped]


def run_in_turns(turns: Turns, *, shown_at_end: bool) -> None:
    """Run shards until no more come. Every one runs, so that one report names all that failed."""
    while (name := turns.next()) is not None:
        passed = False
        try:
            passed = run_shard(name, SHARDS[name].commands, SHARDS[name].limit * 60, shown_at_end=shown_at_end)
        finally:
            turns.ended(name, passed=passed)


def main() -> int:
    """Run what was asked for."""
    unknown = [name for name in sys.argv[1:] if name not in SHARDS]
    if unknown:
        sys.stderr.write(f"error: no shard {unknown[0]}\n  fix: one of {', '.join(SHARDS)}\n")
        return 2
    wanted = wanted_of(sys.argv[1:])
    passed: dict[str, bool] = {}
    if FIRST in wanted:
        wanted.remove(FIRST)
        passed[FIRST] = run_shard(FIRST, SHARDS[FIRST].commands, SHARDS[FIRST].limit * 60)
    until = os.environ.get("SEALIFT_TESTS_UNTIL")
    ordered = in_turn(wanted, TAKE_TURNS, int(os.environ.get("SEALIFT_TESTS_TURN", "0")), after=AFTER)
    turns = Turns({name: SHARDS[name] for name in ordered}, until=float(until) if until else None)
    lanes = min(2, len(wanted))
    with ThreadPoolExecutor(max(lanes, 1)) as pool:
        for lane in [pool.submit(run_in_turns, turns, shown_at_end=lanes > 1) for _ in range(lanes)]:
            lane.result()
    passed |= turns.passed
    if turns.put_off:
        sys.stdout.write(f"== put off, no time for them: {', '.join(turns.put_off)}; run them by name\n")
    if failed := [name for name, well in passed.items() if not well]:
        sys.stdout.write(f"== failed: {', '.join(failed)}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
