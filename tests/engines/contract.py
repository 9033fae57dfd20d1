"""The contract of every engine, kept by a real one: the tests that the fake passes, run against its socket."""

import os
import subprocess
import sys
from pathlib import Path

from tests.engines import line


def keeps_the_contract(socket: Path) -> None:
    """Fail with what the contract's tests said where the engine behind a socket does not pass them."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/functional/test_engine_contract.py",
         "-k", "real", "--timeout", "600"],
        cwd=line.ROOT,
        env={**os.environ, "SEALIFT_ENGINE_SOCKET": str(socket)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    sys.stdout.write(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-6000:]
