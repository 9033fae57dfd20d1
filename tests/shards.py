"""Runs the deep shards, each with its own time limit, and prints the minutes each took.

`python tests/shards.py` runs all but those on demand; `python tests/shards.py demo box` those named. Booted boxes run
beside the others; what such a shard prints is shown in one piece at its end. Exits 1 when any shard failed.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

LIMIT_SECONDS = 15 * 60
ROOT = Path(__file__).resolve().parent.parent
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "--timeout", "840"]
# A booted box waits on everything else that the machine does.
BOXED = [*PYTEST[:-1], "1140"]
BUNDLER = Path(sys.executable).with_name("sealift-bundler")
BUILD = f"rm -rf build/first && {BUNDLER} build examples/demo.toml --work build/first"


def _files(folder: str, *names: str) -> list[str]:
    return sorted(
        str(path.relative_to(ROOT)) for name in names for path in (ROOT / "tests" / folder).glob(f"test_{name}.py")
    )


def _without(files: list[str]) -> list[str]:
    return [f"--ignore={path}" for path in files]


# Parts of what one mark names, so that none comes near the limit beside another: kills with processes of their own,
# media that are changed and faulty, power that goes, and databases on a server.
KILLS = _files("fault", "window*", "ledger*")
MEDIA = _files("fault", "*medi*", "*contents")
POWER = _files("fault", "powercut*", "receive*")
SERVERS = _files("interop", "postgresql*")
# And of booted boxes: the whole line and what follows from it, and units that reach a server.
BOXES = _files("box", "box", "faults")
DATABASES = _files("box", "database*", "moved*")
SHARDS: dict[str, list[list[str]]] = {
    # The engine's wheel takes most of a shard's time where no cache has it, so it has one of its own.
    "build": [["sh", "-ec", BUILD]],
    "demo": [[sys.executable, "-m", "examples.demo.run"]],
    # With what the demo left in build/demo.
    "demo-tests": [[*PYTEST, "-m", "demo"]],
    "slow": [[*PYTEST, "-n", "2", "--dist", "loadfile", "-m", "slow"]],
    "browser": [[*PYTEST, "-m", "browser"]],
    "fault": [[*PYTEST, "-m", "fault", *_without([*KILLS, *MEDIA, *POWER])]],
    "fault-kills": [[*PYTEST, "-m", "fault", *KILLS]],
    "fault-media": [[*PYTEST, "-m", "fault", *MEDIA]],
    "fault-power": [[*PYTEST, "-m", "fault", *POWER]],
    "interop": [[*PYTEST, "-m", "interop", *_without(SERVERS)]],
    "interop-server": [[*PYTEST, "-m", "interop", *SERVERS]],
    # vLLM from the cache: two minutes more, and 1.1 GiB, where no run before installed it.
    "engines": [[*PYTEST, "-m", "engines and not engines_release", "tests/engines"]],
    "engines-build": [[*PYTEST, "-m", "engines_release", "tests/engines/test_vllm_made.py"]],
    # From the medium that the shard before left in build/engines, or one made now where its bytes have changed.
    "engines-serve": [[*PYTEST, "-m", "engines_release", "--ignore=tests/engines/test_vllm_made.py", "tests/engines"]],
    "engines-vulkan": [[*PYTEST[:-1], "2400", "-m", "engines_vulkan", "tests/engines/test_llama_on_vulkan.py"]],
    "box": [[*BOXED, "-m", "box", "tests/box/test_box.py"]],
    # These take the box that the shard before left in the cache, and make one where there is none.
    "box-faults": [[*BOXED, "-m", "box_faults"]],
    "box-time": [[*BOXED, "-m", "box_time"]],
    "box-upgrade": [[*BOXED, "-m", "box_upgrade"]],
    "box-changes": [[*BOXED, "-m", "box_changes"]],
    # The version before makes a box by its own source; this release is installed there, or goes back.
    "box-before": [[*BOXED, "-m", "box_before"]],
    "box-released": [[*BOXED, "-m", "box_released"]],
    "box-returned": [[*BOXED, "-m", "box_returned"]],
    "box-optional": [[*BOXED, "-m", "box_optional"]],
    "box-pair": [[*BOXED, "-m", "box_pair"]],
    "box-database": [[*BOXED, "-m", "box_database"]],
    "box-vllm": [[*PYTEST[:-1], "2340", "-m", "box_vllm"]],
    # A whole computer, emulated: its programs take some twenty times as long.
    "hardware": [[*BOXED, "-m", "hardware", "tests/hardware"]],
    "units": [[*BOXED, "-m", "box", *_without([*BOXES, *DATABASES])]],
    "units-database": [[*BOXED, "-m", "box", *DATABASES]],
}
BOOTED = {"box", "box-faults", "box-time", "box-upgrade", "box-changes", "box-optional", "box-pair", "units"}
BOOTED |= {"box-before", "box-released", "box-returned", "units-database", "box-database", "box-vllm", "hardware"}
# One lane has the boxes that boot, but for three, which go with the rest: so both need about the same time.
BOXES_LANE = BOOTED - {"units-database", "box-database", "box-vllm", "hardware"}
# The second is not yet seen to pass whole: see docs/status.md. The limit is for a machine that does other work, too.
# The third takes eight minutes of what `units-database` tries in part; with it a run would come near its limit.
# The fourth takes ten minutes; that this release takes back what does not answer, `box-changes` shows.
# The fifth is vLLM as a site gets it: 168 wheels are carried, scanned, and installed on a booted box.
# The sixth builds for three minutes, and takes Debian 13's headers and Mesa's driver.
ON_DEMAND = {
    "engines-build": 40 * 60,
    "engines-serve": 40 * 60,
    "box-database": 20 * 60,
    "box-returned": 20 * 60,
    "box-vllm": 40 * 60,
    "engines-vulkan": 20 * 60,
}
# Five to eleven minutes each; a second lane beside them, or a machine that is slower, must not be what decides.
# The same for vLLM, which starts twice: where it was installed first, on two cores with other work for ten, it took 15.
LONGER: dict[str, int] = dict.fromkeys({*BOOTED, "engines"}, 20 * 60)
# Two of them at a time, since most of a shard is waiting. The first makes what both lanes take from the cache.
FIRST = ("build",)
# In the environment of everything that a shard starts.
_MARK = "SEALIFT_SHARD"
_shown = threading.Lock()


def lanes(names: Sequence[str]) -> list[list[str]]:
    """Return the shards that run one after another, in lanes that run at the same time: booted boxes, and the rest."""
    rest = [name for name in names if name not in FIRST]
    return [lane for lane in ([n for n in rest if n in BOXES_LANE], [n for n in rest if n not in BOXES_LANE]) if lane]


def run_shard(name: str, *, shown_at_end: bool = False) -> bool:
    """Run one shard; return whether it passed. What it prints is shown as it comes, or in one piece at its end."""
    started, limit = time.monotonic(), ON_DEMAND.get(name) or LONGER.get(name, LIMIT_SECONDS)
    passed = True
    marked = {**os.environ, _MARK: f"{os.getpid()}-{name}"}
    with tempfile.TemporaryFile() as kept:
        for command in SHARDS[name]:
            left = limit - (time.monotonic() - started)
            out, err = (kept, subprocess.STDOUT) if shown_at_end else (None, None)
            with subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err, env=marked) as process:
                try:
                    passed = process.wait(max(left, 1)) == 0
                except subprocess.TimeoutExpired:
                    kept.write(f"shard {name}: over {limit // 60} minutes\n".encode())
                    passed = False
                finally:
                    if process.poll() is None:
                        _end_with_all_below(process.pid)
            if not passed:
                break
        _end_what_is_left(f"{_MARK}={marked[_MARK]}".encode())
        minutes = (time.monotonic() - started) / 60
        kept.seek(0)
        text = kept.read().decode(errors="replace")
    with _shown:
        sys.stdout.write(f"{text}== shard {name}: {'passed' if passed else 'FAILED'} in {minutes:.1f} minutes\n")
        sys.stdout.flush()
    return passed


def _end_with_all_below(process: int) -> None:
    """End a process and what it started, which may have another environment, as what an engine's launcher starts has.

    A process is stopped before its children are listed, so that it has no more of them.
    """
    with suppress(OSError):  # it ended meanwhile
        os.kill(process, signal.SIGSTOP)
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            for child in children.read_text().split():
                _end_with_all_below(int(child))
        os.kill(process, signal.SIGKILL)


def _end_what_is_left(mark: bytes) -> None:
    """End what a shard left running, above all boxes of one that was out of time: they would slow the next ones."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it ended meanwhile, or is another user's
            if mark in environment.read_bytes().split(b"\0"):
                os.kill(int(environment.parent.name), signal.SIGKILL)


def main() -> int:
    """Run what was asked for."""
    names = sys.argv[1:] or [name for name in SHARDS if name not in ON_DEMAND]
    unknown = [name for name in names if name not in SHARDS]
    if unknown:
        sys.stderr.write(f"error: no shard {unknown[0]}\n  fix: one of {', '.join(SHARDS)}\n")
        return 2
    skipped = [name for name in names if name in BOOTED and os.geteuid() != 0]
    for name in skipped:
        sys.stdout.write(f"== shard {name}: skipped, it needs root\n")
    wanted = [name for name in names if name not in skipped]
    # Every shard runs, so that one report names all that failed.
    passed = {name: run_shard(name) for name in wanted if name in FIRST}
    beside = lanes(wanted)
    with ThreadPoolExecutor(max(len(beside), 1)) as pool:
        ran = pool.map(lambda lane: {name: run_shard(name, shown_at_end=len(beside) > 1) for name in lane}, beside)
        for lane in ran:
            passed |= lane
    if failed := [name for name in wanted if not passed[name]]:
        sys.stdout.write(f"== failed: {', '.join(failed)}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
