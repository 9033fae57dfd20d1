"""Programs of others that we are tested against, each in an environment of its own that is kept in the cache."""

import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from bundler.cache import default_root
from bundler.toolchain import interpreter
from media.digest import file_sha256

_REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"


def peer_python(name: str) -> Path:
    """Return the interpreter of an environment made from `requirements/NAME.txt`, every file by its hash."""
    lock = _REQUIREMENTS / f"{name}.txt"
    place = default_root() / "tools" / f"{name}-{file_sha256(lock)[:16]}-{interpreter()}"
    if not (place / ".complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True)
        wanted = ["install", "--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:", "-r", str(lock)]
        done = subprocess.run(
            [str(place / "bin/python"), "-m", "pip", *wanted], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip("the package index cannot be reached, and the environment is not cached")
        (place / ".complete").touch()
    return place / "bin/python"
