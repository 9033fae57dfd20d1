"""Runs the deep shards one after another, each with its own time limit, and prints the minutes each took.

`python tests/shards.py` runs all but those on demand; `python tests/shards.py demo box` those named. Exits 1 when any
shard failed.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

LIMIT_SECONDS = 15 * 60
ROOT = Path(__file__).resolve().parent.parent
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "--timeout", "840"]
BUNDLER = Path(sys.executable).with_name("sealift-bundler")
BUILD = f"rm -rf build/first && {BUNDLER} build examples/demo.toml --work build/first"
SHARDS: dict[str, list[list[str]]] = {
    # The engine's wheel takes most of a shard's time where no cache has it, so it has one of its own.
    "build": [["sh", "-ec", BUILD]],
    "demo": [[sys.executable, "-m", "examples.demo.run"], [*PYTEST, "-m", "demo"]],
    "slow": [[*PYTEST, "-n", "2", "-m", "slow"]],
    "browser": [[*PYTEST, "-m", "browser"]],
    "fault": [[*PYTEST, "-m", "fault"]],
    "interop": [[*PYTEST, "-m", "interop"]],
    "engines": [[*PYTEST, "-m", "engines"]],
    "box": [[*PYTEST, "-m", "box", "tests/box/test_box.py"]],
    # These two take the box that the shard before left in the cache, and make one where there is none.
    "box-faults": [[*PYTEST, "-m", "box_faults"]],
    "box-upgrade": [[*PYTEST, "-m", "box_upgrade"]],
    "units": [[*PYTEST, "-m", "box and not box_faults and not box_upgrade", "--ignore=tests/box/test_box.py"]],
}
NEEDS_ROOT = {"box", "box-faults", "box-upgrade", "units"}
# Longer than a shard of each run may take: see docs/status.md.
ON_DEMAND: dict[str, int] = {"engines": 40 * 60}


def run_shard(name: str) -> bool:
    """Run one shard; return whether it passed."""
    started, limit = time.monotonic(), ON_DEMAND.get(name, LIMIT_SECONDS)
    passed = True
    for command in SHARDS[name]:
        left = limit - (time.monotonic() - started)
        try:
            done = subprocess.run(command, cwd=ROOT, timeout=max(left, 1), check=False)
            passed = done.returncode == 0
        except subprocess.TimeoutExpired:
            sys.stdout.write(f"shard {name}: over {limit // 60} minutes\n")
            passed = False
        if not passed:
            break
    minutes = (time.monotonic() - started) / 60
    sys.stdout.write(f"== shard {name}: {'passed' if passed else 'FAILED'} in {minutes:.1f} minutes\n")
    sys.stdout.flush()
    return passed


def main() -> int:
    """Run what was asked for."""
    names = sys.argv[1:] or [name for name in SHARDS if name not in ON_DEMAND]
    unknown = [name for name in names if name not in SHARDS]
    if unknown:
        sys.stderr.write(f"error: no shard {unknown[0]}\n  fix: one of {', '.join(SHARDS)}\n")
        return 2
    skipped = [name for name in names if name in NEEDS_ROOT and os.geteuid() != 0]
    for name in skipped:
        sys.stdout.write(f"== shard {name}: skipped, it needs root\n")
    # Every shard runs, so that one report names all that failed.
    results = [run_shard(name) for name in names if name not in skipped]
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
