"""The locked tools that build wheels: one virtual environment for each content of `requirements/build.txt`.

Nothing is resolved while building: pip runs without build isolation in an environment whose every package was
installed by hash, so the build backend of today is the build backend of the lock.
"""

import hashlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from bundler.cache import Cache
from bundler.errors import BuildError, BundlerError
from bundler.process import Progress, quiet, run

_READY = ".complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """A ready environment."""

    folder: Path
    lock_sha256: str

    @property
    def python(self) -> Path:
        """The interpreter that has the build tools."""
        return self.folder / "bin" / "python"

    def pip(
        self,
        *arguments: str | Path,
        what: str,
        fix: str,
        error: type[BundlerError] = BuildError,
        environment: dict[str, str] | None = None,
        on_line: Progress = quiet,
    ) -> str:
        """Run pip with the build tools on the path.

        Raises:
            BundlerError: Of the type `error`.
        """
        return run(
            [self.python, "-m", "pip", *arguments],
            what=what,
            fix=fix,
            error=error,
            environment={**self.variables(), **(environment or {})},
            on_line=on_line,
        )

    def variables(self) -> dict[str, str]:
        """Return what a build sees on top of our own environment: these tools first, and no telemetry or prompts."""
        return {
            "PATH": f"{self.folder / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
        }


def interpreter() -> str:
    """Return a name for the interpreter that environments are made of, as cp311-0123abcd.

    An environment works with its own alone: where another takes its place it is gone, or lies where no sandbox reads.
    """
    own = Path(sys.executable).resolve()
    return f"cp{sys.version_info.major}{sys.version_info.minor}-{hashlib.sha256(os.fsencode(own)).hexdigest()[:8]}"


def ready(cache: Cache, lock: Path, *, progress: Progress = quiet) -> Toolchain:
    """Return the environment for this lock, made on first use.

    Raises:
        BuildError: The lock cannot be read, or a tool could not be installed by its hash.
    """
    try:
        digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    except OSError as error:
        raise BuildError(
            what="the lock of the build tools cannot be read", why=error.strerror or "", fix="run from a full checkout"
        ) from error
    folder = cache.folder("tools", f"{digest[:16]}-{interpreter()}")
    found = Toolchain(folder=folder, lock_sha256=digest)
    if not (folder / _READY).exists():
        with cache.alone(folder.name, progress=progress):
            if not (folder / _READY).exists():  # whoever was waited for may have made it
                _install(found, lock, progress=progress)
    return found


def _install(found: Toolchain, lock: Path, *, progress: Progress) -> None:
    folder = found.folder
    progress("installing the locked build tools")
    shutil.rmtree(folder, ignore_errors=True)
    run(
        [sys.executable, "-m", "venv", folder],
        what="the environment of the build tools could not be made",
        fix="install python3-venv",
    )
    found.pip(
        "install", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "-r", lock,
        what="the locked build tools could not be installed",
        fix="check the connection to the package index",
    )  # fmt: skip
    (folder / _READY).touch()
