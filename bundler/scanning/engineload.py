"""Every model of a candidate is opened once by the very engine build that travels with it, in a throwaway sandbox.

A header that our own reader accepts may still hurt a loader: faults sit in vocabularies, hyperparameters and kernels.
So the engine's wheels of the candidate are installed (by hash, without an index), and their llama.cpp loads the file
with its vocabulary, checks every tensor and decodes one token, where nothing is to be had. A crash, a timeout or a
refusal fails the scan. What was loaded is remembered by the digests of file and engine, and loaded once only.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

from bundler.artifact import Artifact
from bundler.cache import Cache
from bundler.enginetools import EngineTools
from bundler.errors import BuildError
from bundler.process import Progress, quiet
from bundler.scanning import attachedload, sandbox
from bundler.scanning.loads import MEMO, Load, facts_of, failed, limits_for, remembered
from bundler.sources.llama_wheel import PACKAGE
from bundler.sources.server import DISTRIBUTION
from bundler.sources.wheels import ChosenWheel
from bundler.target import Target, WheelTarget
from bundler.wheelfile import parse_name
from media import processorchoice
from media.canonical import loads, mapping, text
from media.clock import Clock
from media.digest import sha256_hex
from media.embedding import ROLE
from media.llamaprofile import DRAFT_ROLE

_CHILD: Final = Path(__file__).with_name("load_child.py")
_PLACE: Final = "/model.gguf"
_CHECK: Final = 1  # raise it when the child asks more of an engine, so that nothing older counts
_ENGINE: Final = "llama.cpp"
_ATTACHED: Final = "attached"


class Engine(Protocol):
    """What loads: `enginetools.EngineTools`, or a stand-in of the tests."""

    @property
    def version(self) -> str:
        """The version of the engine."""
        ...

    @property
    def wheel_sha256(self) -> str:
        """The digest of the engine's wheel."""
        ...

    def python(self, *, progress: Progress) -> Path:
        """Return an interpreter that can import it."""
        ...


def load_models(
    artifacts: Sequence[Artifact],
    *,
    python: str,
    cache: Cache,
    clock: Clock,
    progress: Progress = quiet,
    engine_of: Callable[[Sequence[ChosenWheel], WheelTarget, Cache], Engine] = EngineTools.of,
    python_of: attachedload.PythonOf = attachedload.installed,
) -> tuple[Load, ...]:
    """Load each model of a payload once.

    Args:
        artifacts: The whole payload.
        python: The version of Python that the engines are for, e.g. ``3.11``.
        cache: Holds the engine's environment, and remembers what was loaded.
        clock: Takes the time.
        progress: Told each step.
        engine_of: Makes an engine of its wheels.
        python_of: Makes the environment of an attached engine.

    Raises:
        ScanError: A model made the engine crash, hang or refuse, or no sandbox can be made.
        BuildError: The engine's wheels cannot be installed.
        MalformedError: A descriptor does not read.
    """
    found: list[Load] = []
    for artifact in artifacts:
        path = PurePosixPath(artifact.target)
        if artifact.kind != "model" or path.name != "descriptor.json":
            continue
        descriptor = mapping(loads(artifact.read()), artifact.target)
        name = text(descriptor.get("name"), f"{artifact.target}: name")
        weights = _weights(artifacts, descriptor)
        wheels = _wheels(artifacts, str(descriptor.get("environment")))
        if descriptor.get("engine") == _ATTACHED:
            bench = attachedload.Bench(
                artifacts=artifacts,
                wheels=wheels,
                python=python,
                cache=cache,
                clock=clock,
                progress=progress,
                python_of=python_of,
            )
            found.append(attachedload.load(name, descriptor, bench))
            continue
        reason = _why_not(descriptor, weights, wheels, python)
        if weights is None or reason:
            found.append(Load(model=name, reason=reason))
            continue
        # Only the version of Python decides which interpreter makes the environment.
        target = Target(profile="scan", python=python)
        engine = engine_of(wheels, target, cache)
        found.append(_loaded(name, weights, engine, cache=cache, clock=clock, progress=progress))
        for role, job in ((ROLE, ROLE), (DRAFT_ROLE, "")):
            beside = _weights(artifacts, descriptor, role=role)
            if beside is not None:
                known = f"{name}.{role}"
                found.append(_loaded(known, beside, engine, cache=cache, clock=clock, progress=progress, job=job))
    return tuple(found)


def _why_not(descriptor: dict[str, Any], weights: Artifact | None, wheels: Sequence[ChosenWheel], python: str) -> str:
    """Return why a model cannot be loaded here; empty where it can."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if descriptor.get("engine") != _ENGINE:
        return f"its engine, {str(descriptor.get('engine'))[:40]}, needs the target's own accelerator"
    if not any(wheel.name == PACKAGE for wheel in wheels):
        return f"its engine's environment has no {PACKAGE}"
    if python != here:
        return f"its engine is for Python {python}, this is {here}"
    return "" if weights is not None else "it has no weights of its own"


def _library_for_here(python: Path) -> str:
    """Return which of the engine's libraries this machine's processor runs; a dash where llama.cpp is to choose.

    Raises:
        BuildError: None of them computes here.
    """
    packages = next(python.parent.parent.glob("lib/python3*/site-packages"), Path())
    found = processorchoice.fitting(python, packages)
    if found.unfit and not found.library:
        raise BuildError(
            what="the engine that travels computes nothing on this machine's processor",
            why=f"none of {', '.join(found.unfit)} computed, though the processor claims what they need",
            fix="build on another machine, or give the virtual machine its host's own processor",
        )
    return found.library or "-"


def _loaded(
    name: str,
    weights: Artifact,
    engine: Engine,
    *,
    cache: Cache,
    clock: Clock,
    progress: Progress,
    job: str = "",
) -> Load:
    key = sha256_hex(f"{_CHECK} {weights.sha256} {engine.wheel_sha256}{job and f' {job}'}".encode())
    if known := remembered(cache, key, name):
        progress(f"{name} was loaded before by this engine, in a sandbox: {known.sandbox}")
        return known
    if weights.file is None:
        return Load(model=name, reason="its weights are not a file")
    level = sandbox.level()
    progress(f"loading {name} once with the engine that travels, in a sandbox: {level}")
    ticks = clock.monotonic()
    threads = max(1, os.cpu_count() or 1)
    limits = limits_for(weights.length, threads)
    python = engine.python(progress=progress)
    ended = sandbox.run(
        python,
        _CHILD,
        [_PLACE, str(threads), _library_for_here(python), *([job] if job else [])],
        limits=limits,
        files={weights.file: _PLACE},
        at=level,
    )
    facts = facts_of(ended, level)
    if ended.code != 0 or "vocabulary" not in facts:
        raise failed(PurePosixPath(weights.target).name, f"{PACKAGE} {engine.version}", ended, limits.seconds)
    made = Load(
        model=name,
        weights_sha256=weights.sha256,
        engine=f"{PACKAGE} {engine.version}",
        engine_wheel_sha256=engine.wheel_sha256,
        loaded=True,
        sandbox=level,
        vocabulary=int(facts["vocabulary"]),
        milliseconds=int((clock.monotonic() - ticks) * 1000),
    )
    cache.remember(MEMO, key, made.to_json())
    return made


def _weights(artifacts: Sequence[Artifact], descriptor: dict[str, Any], *, role: str = "weights") -> Artifact | None:
    # By the path, too: another version of the payload may bring the same bytes.
    named = {
        (file.get("path"), file.get("sha256"))
        for file in descriptor.get("files", ())
        if isinstance(file, dict) and file.get("role") == role
    }
    found = [each for each in artifacts if each.kind == "weights" and (each.target, each.sha256) in named]
    return found[0] if len(found) == 1 and found[0].target.endswith(".gguf") else None


def _wheels(artifacts: Sequence[Artifact], environment: str) -> tuple[ChosenWheel, ...]:
    """Return the wheels that a requirements file of the payload pins, but for our own, which no model needs."""
    listed = next((item for item in artifacts if item.kind == "server" and item.sha256 == environment), None)
    digests = set() if listed is None else {line[-64:] for line in listed.read().decode(errors="replace").splitlines()}
    found: list[ChosenWheel] = []
    for artifact in artifacts:
        if artifact.kind == "wheel" and artifact.sha256 in digests and artifact.file is not None:
            named = parse_name(PurePosixPath(artifact.target).name)
            if named.name != DISTRIBUTION:
                found.append(
                    ChosenWheel(name=named.name, version=named.version, file=artifact.file, sha256=artifact.sha256)
                )
    return tuple(sorted(found, key=lambda wheel: wheel.name))
