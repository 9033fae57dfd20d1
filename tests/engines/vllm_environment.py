"""vLLM for this machine's processor in an environment of its own, and SmolLM2 as safetensors: no recipe, no medium.

Installed once from the recipe's own lock, hashes checked, and kept in the cache (3 GiB) under the lock's digest. What
runs there is asked for by an interpreter that costs nothing to make and finds this checkout as well: vLLM, which looks
at no PYTHONPATH, imports our door from it.
"""

import fcntl
import os
import shutil
import site
import subprocess
import sys
import venv
from hashlib import sha256
from pathlib import Path
from typing import Final

from bundler.cache import Cache, default_root
from tests.engines import line
from tests.support.interpreters import packages_with

_LOCK: Final = line.HERE / "engine-vllm.txt"


def interpreter(folder: Path) -> Path:
    """Return an interpreter, made in a folder that does not exist yet, that finds vLLM and this checkout."""
    if named := os.environ.get("SEALIFT_VLLM_PYTHON"):
        return Path(named)
    venv.create(folder, with_pip=False)
    (own,) = folder.glob("lib/python3*/site-packages")
    (own / "checkout.pth").write_text(f"{line.ROOT}\n{packages()}\n")
    return folder / "bin/python"


def attachable(folder: Path) -> Path:
    """Return an interpreter, made as `interpreter`, that also finds what the launcher of an attached engine needs."""
    python = interpreter(folder)
    if not folder.exists():  # a named one has what it needs
        return python
    (own,) = folder.glob("lib/python3*/site-packages")
    (own / "launcher.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return python


def packages() -> Path:
    """Return the folder of packages with vLLM, for an interpreter of this version; a named one is to be of it, too."""
    if named := os.environ.get("SEALIFT_VLLM_PYTHON"):
        return packages_with(Path(named), "vllm")
    (found,) = _packages().glob("lib/python3*/site-packages")
    return found


def model(folder: Path) -> Path:
    """Return a folder of safetensors with its chat template, made below a folder that does not exist yet."""
    if named := os.environ.get("SEALIFT_VLLM_MODEL"):
        return Path(named)
    line.make_model(folder, python=_packages() / "bin/python")
    return folder


def _packages() -> Path:
    """Return the environment that has the packages of the lock, installed on first use."""
    about = _LOCK.read_bytes() + sys.version.encode()
    folder = Cache(root=default_root()).folder("tools", f"vllm-{sha256(about).hexdigest()[:16]}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)
            # What is never imported is never compiled: it would take as long as all the rest.
            pip = [
                str(folder / "bin/python"),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--quiet",
                "--no-compile",
                "--no-deps",
            ]
            subprocess.run([*pip, "--require-hashes", "--only-binary=:all:", "-r", str(_LOCK)], check=True)
            (folder / ".complete").touch()
    return folder
