"""The engine's own wheels in a virtual environment of the build machine, for what only the engine can do to weights.

One environment for each set of wheels, kept in the cache. It is installed from the very files that travel, each by its
hash, without an index, and only when it is needed.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.cache import Cache
from bundler.errors import BuildError
from bundler.process import Progress, quiet, run
from bundler.sources.llama_wheel import PACKAGE
from bundler.sources.wheels import ChosenWheel
from bundler.target import WheelTarget
from bundler.toolchain import Toolchain, interpreter
from media.digest import sha256_hex

_READY = ".complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """An environment of these wheels, made on first use."""

    wheels: tuple[ChosenWheel, ...]
    target: WheelTarget
    cache: Cache

    def python(self, *, progress: Progress = quiet) -> Path:
        """Return the interpreter of the environment, which is installed where it misses.

        Raises:
            BuildError: The wheels of the target cannot be installed on this machine.
        """
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        if self.target.python != here:
            raise BuildError(
                what="the engine that travels cannot be run here",
                why=f"the engine is for Python {self.target.python}, this is {here}",
                fix=f"build with Python {self.target.python}",
            )
        listed = "".join(f"{wheel.requirement}\n" for wheel in self.wheels)
        digest = sha256_hex(listed.encode())
        folder = self.cache.folder("tools", f"engine-{digest[:16]}-{interpreter()}")
        if not (folder / _READY).exists():
            with self.cache.alone(folder.name, progress=progress):
                if not (folder / _READY).exists():  # whoever was waited for may have made it
                    progress("installing the engine that travels")
                    self._install(folder, listed, digest)
                    (folder / _READY).touch()
        return folder / "bin" / "python"

    def _install(self, folder: Path, listed: str, digest: str) -> None:
        run(
            [sys.executable, "-m", "venv", "--clear", folder],
            what="the environment of the engine could not be made",
            fix="install python3-venv",
        )
        with self.cache.scratch() as scratch:
            requirements, links = scratch / "requirements.txt", scratch / "wheels"
            requirements.write_text(listed)
            links.mkdir()
            for wheel in self.wheels:
                (links / wheel.file.name).symlink_to(wheel.file.resolve())
            Toolchain(folder=folder, lock_sha256=digest).pip(
                "install", "--quiet", "--no-deps", "--no-index", "--only-binary=:all:", "--require-hashes",
                "--find-links", links, "-r", requirements,
                what="the engine could not be installed on this machine",
                fix="build on a machine of the target's kind",
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTools(Environment):
    """An environment that holds llama-cpp-python."""

    engine: ChosenWheel

    @classmethod
    def of(cls, wheels: Sequence[ChosenWheel], target: WheelTarget, cache: Cache) -> "EngineTools":
        """Return the environment of these wheels.

        Raises:
            BuildError: The engine is not among them.
        """
        engine = next((wheel for wheel in wheels if wheel.name == PACKAGE), None)
        if engine is None:
            raise BuildError(
                what="weights cannot be quantized here",
                why=f"the lock of the engine has no {PACKAGE}",
                fix="name a lock with it in locks.engine-llama-cpp",
            )
        return cls(wheels=tuple(wheels), engine=engine, target=target, cache=cache)

    @property
    def version(self) -> str:
        """The version of the engine."""
        return self.engine.version

    @property
    def wheel_sha256(self) -> str:
        """The digest of the engine's wheel."""
        return self.engine.sha256
