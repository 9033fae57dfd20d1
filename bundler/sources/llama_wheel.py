"""llama-cpp-python, built here and portable over x86-64 processors; `llama_backend` builds what GPUs need beside it.

Its authors publish source only. A build with the builder's own CPU flags dies with an illegal instruction on an older
processor, so every CPU variant is built as a library that is chosen when the engine starts. Eight minutes on two
cores, therefore kept in the cache under everything that decides its bytes: version, source digest, flags, compiler,
build tools, Python tag.
"""

import hashlib
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bundler.artifact import Material
from bundler.cache import Cache
from bundler.digests import file_sha256
from bundler.errors import BuildError, SourceError
from bundler.process import Progress, quiet
from bundler.sources import llama_source
from bundler.sources.wheels import Locked
from bundler.target import WheelTarget
from bundler.toolchain import Toolchain
from bundler.wheelfile import parse_name
from media.canonical import dumps
from media.clock import Clock

PACKAGE: Final = llama_source.PACKAGE
CMAKE_ARGS: Final = "-DGGML_NATIVE=OFF -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON"
_TOOLS: Final = ("cmake", "ninja", "scikit-build-core")
_STEP: Final = re.compile(r"\[(\d+)/(\d+)\]")
_EPOCH: Final = "315532800"  # 1980-01-01, the oldest date a zip archive can hold
_BETWEEN_LINES: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaWheel:
    """A finished wheel in the cache and what made it."""

    file: Path
    sha256: str
    facts: dict[str, str]

    @property
    def material(self) -> Material:
        """The source and the way it was built, for the provenance statement."""
        note = "; ".join(f"{key}: {self.facts[key]}" for key in sorted(self.facts) if key != "source_sha256")
        return Material(
            uri=f"pkg:pypi/{PACKAGE}@{self.facts['version']}?kind=sdist",
            sha256=self.facts["source_sha256"],
            note=f"built here: {note}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """What wheels are built with of llama-cpp-python's source, and where they are kept.

    Attributes:
        target: The machine they must run on.
        cache: Where they are kept.
        toolchain: Makes the build tools ready, when they are needed.
        tool_versions: Their locked versions.
        clock: For the elapsed time shown.
        progress: Told how far a build is.
    """

    target: WheelTarget
    cache: Cache
    toolchain: Callable[[], Toolchain]
    tool_versions: Mapping[str, str]
    clock: Clock
    progress: Progress = quiet

    def once(self, facts: dict[str, str], name: str, build: Callable[[Path], Path]) -> LlamaWheel:
        """Return the wheel that was made of the same before, or have it built in a scratch folder and keep it."""
        folder = place(self.cache, facts, name=name)
        if found := kept(folder, facts):
            return found
        # Two builds make two wheels of the same facts, and the later one would lie in the place of one that travels.
        with self.cache.alone(f"{name}-{folder.name}", progress=self.progress):
            if found := kept(folder, facts):
                return found
            with self.cache.scratch() as scratch:
                return keep(build(scratch), folder, facts, name=name)


def facts_of_build(package: Locked, *, tool_versions: Mapping[str, str]) -> dict[str, str]:
    """Return everything that decides the bytes of the wheel.

    Raises:
        SourceError: The lock pins more than one source archive.
    """
    facts = facts_of_any_build(package, cmake_args=CMAKE_ARGS, tool_versions=tool_versions)
    return {**facts, **llama_source.changes()}


def facts_of_any_build(package: Locked, *, cmake_args: str, tool_versions: Mapping[str, str]) -> dict[str, str]:
    """Return what decides whatever is built of the source here.

    Raises:
        SourceError: The lock pins more than one source archive.
    """
    if len(package.hashes) != 1:
        raise SourceError(
            what=f"the lock pins {len(package.hashes)} files for {PACKAGE}",
            why="exactly one source archive is built",
            fix="lock the version that is published as source only",
        )
    return {
        "version": package.version,
        "source_sha256": min(package.hashes),
        "cmake_args": cmake_args,
        "compiler": _compiler(),
        "python_tag": f"py3-none-linux_{platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        **{tool: tool_versions[tool] for tool in _TOOLS},
    }


def place(cache: Cache, facts: dict[str, str], *, name: str = PACKAGE) -> Path:
    """Return the cache folder of a wheel with these facts."""
    key = hashlib.sha256(dumps(facts)).hexdigest()[:16]
    return cache.folder(name, f"{facts['version']}-{key}")


def obtain(package: Locked, builder: Builder) -> LlamaWheel:
    """Return the wheel of a line in the lock from the cache, or build it.

    Raises:
        SourceError: The source archive is not the locked one.
        BuildError: The build failed, or this machine's C library is newer than the target's.
    """
    require_older_libc(builder.target)

    def build(scratch: Path) -> Path:
        builder.progress(f"building {PACKAGE} {package.version} for every x86-64 processor; about 8 minutes, once")
        tools = builder.toolchain()
        archive = llama_source.source_of(package, builder.cache, tools, scratch)
        source = llama_source.unpacked(archive, scratch / "unpacked")
        llama_source.change(source)
        return _build(source, tools, scratch, clock=builder.clock, progress=builder.progress)

    return builder.once(facts_of_build(package, tool_versions=builder.tool_versions), PACKAGE, build)


def keep(wheel: Path, folder: Path, facts: dict[str, str], *, name: str = PACKAGE) -> LlamaWheel:
    """Put a finished wheel and its facts into the cache.

    Raises:
        BuildError: It is not a wheel of the version that the facts name.
    """
    named = parse_name(wheel.name)
    if (named.name, named.version) != (name, facts["version"]):
        raise BuildError(what="the build made another wheel", why=wheel.name, fix="run with --debug and report it")
    folder.mkdir(parents=True, exist_ok=True)
    place_of = folder / wheel.name
    wheel.chmod(0o444)
    wheel.replace(place_of)
    sha256 = file_sha256(place_of)
    (folder / "built.json").write_bytes(dumps({"facts": facts, "wheel": place_of.name, "sha256": sha256}))
    return LlamaWheel(file=place_of, sha256=sha256, facts=facts)


def kept(folder: Path, facts: dict[str, str]) -> LlamaWheel | None:
    """Return the wheel that an earlier build left there, if it is unchanged and was made of the same."""
    memo: Any = Cache(root=folder).recall(".", "built")
    if not isinstance(memo, dict) or memo.get("facts") != facts or not isinstance(memo.get("wheel"), str):
        return None
    file = folder / Path(memo["wheel"]).name
    if not file.is_file() or file_sha256(file) != memo.get("sha256"):
        return None
    return LlamaWheel(file=file, sha256=str(memo["sha256"]), facts=facts)


def _build(source: Path, toolchain: Toolchain, scratch: Path, *, clock: Clock, progress: Progress) -> Path:
    started = clock.monotonic()
    out, header = scratch / "wheel", llama_source.header(scratch)
    unnamed = llama_source.unnamed(source)
    toolchain.pip(
        "wheel", "-v", "--no-deps", "--no-index", "--no-build-isolation", "--no-cache-dir", "-w", out, source,
        what=f"{PACKAGE} could not be built",
        fix="install g++ (apt-get install build-essential) and look at the last lines above",
        environment={
            "CMAKE_ARGS": CMAKE_ARGS,
            "CFLAGS": unnamed,
            "CXXFLAGS": f"{unnamed} -include {shlex.quote(str(header))}",
            "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1),
            "SOURCE_DATE_EPOCH": _EPOCH,
            "FORCE_CMAKE": "1",
        },
        on_line=steps_of(PACKAGE, clock=clock, progress=progress),
    )  # fmt: skip
    progress(f"  {PACKAGE} built in {clock.monotonic() - started:.0f} s")
    return next(out.iterdir())


def steps_of(name: str, *, clock: Clock, progress: Progress) -> Progress:
    """Return what reads a build's lines and tells, every few seconds, how many of its steps are done."""
    started = last_shown = clock.monotonic()

    def show(line: str) -> None:
        nonlocal last_shown
        step = _STEP.search(line)
        if step and clock.monotonic() - last_shown >= _BETWEEN_LINES:
            last_shown = clock.monotonic()
            progress(f"  {name} [{step[1]}/{step[2]}] after {last_shown - started:.0f} s")

    return show


def _compiler() -> str:
    try:
        told = subprocess.run(["c++", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return told.stdout.splitlines()[0].strip()


def require_older_libc(target: WheelTarget) -> None:
    """Pass where what is built here runs on the target.

    Raises:
        BuildError: The target is another kind of machine, or this one's C library is newer than its.
    """
    if target.platform != f"linux_{platform.machine()}":
        raise BuildError(
            what=f"{PACKAGE} cannot be built here for {target.platform}",
            why=f"this machine is linux_{platform.machine()}",
            fix="build the release on a machine of the target's type",
        )
    name, version = platform.libc_ver()
    if name != "glibc" or int(version.partition(".")[2] or 0) > int(target.glibc.partition(".")[2]):
        raise BuildError(
            what=f"{PACKAGE} cannot be built here for a target with glibc {target.glibc}",
            why=f"this machine has {name or 'another C library'} {version}",
            fix="build on Debian 12, or on any machine whose glibc is not newer than the target's",
        )
