"""Other people's clients of the API in environments of their own, kept outside the checkout.

They bring a hundred packages that nothing of ours needs. Installed once from `requirements/api-clients.txt` or the lock
of one that would disturb the others, hashes checked; an environment's name is the file's digest, so a new lock is a new
environment.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

from tests.support.ledger import ROOT

CLIENTS: Final = "api-clients"
LM_EVAL: Final = "lm-eval"
_CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sealift/api-clients"
_PATIENCE_SECONDS: Final = 600
_KEPT: Final = ("PATH", "LANG", "HOME")


def environment(name: str = CLIENTS) -> Path:
    """Return the folder of the environment of a lock, installed on first use."""
    packages = ROOT / f"requirements/{name}.txt"
    about = packages.read_bytes() + sys.version.encode()
    folder = _CACHE / hashlib.sha256(about).hexdigest()[:16]
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)
            install = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            install += ["--no-deps", "--require-hashes", "--requirement", str(packages)]
            subprocess.run(install, check=True, timeout=_PATIENCE_SECONDS, capture_output=True)
            (folder / "installed").touch()
    return folder


def run(
    words: list[str], *, folder: Path, more: dict[str, str], name: str = CLIENTS
) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment in a folder, with nothing of ours around it, and return how it ended."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    quiet = {"LANGSMITH_TRACING": "false", "DO_NOT_TRACK": "1", "SCHEMATHESIS_REPORT": "false", "NO_COLOR": "1"}
    program, *rest = words
    return subprocess.run(
        [str(environment(name) / "bin" / program), *rest],
        cwd=folder,
        env={**kept, **quiet, **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_SECONDS,
        stdin=subprocess.DEVNULL,
    )
