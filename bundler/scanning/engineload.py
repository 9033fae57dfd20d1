"""Every model of a candidate is opened once by the very engine build that travels with it, in a throwaway sandbox.

A header that our own reader accepts may still hurt a loader: faults sit in vocabularies, hyperparameters and kernels.
So the engine's wheels of the candidate are installed (by hash, without an index), and their llama.cpp loads the file
with its vocabulary, checks every tensor and decodes one token, where nothing is to be had. A crash, a timeout or a
refusal fails the scan. What was loaded is remembered by the digests of file and engine, and loaded once only.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

from bundler.artifact import Artifact
from bundler.cache import Cache
from bundler.enginetools import EngineTools
from bundler.errors import ScanError
from bundler.process import Progress, quiet
from bundler.scanning import sandbox
from bundler.sources.llama_wheel import PACKAGE
from bundler.sources.server import DISTRIBUTION
from bundler.sources.wheels import ChosenWheel
from bundler.target import Target, WheelTarget
from bundler.wheelfile import parse_name
from media.canonical import loads, mapping, text
from media.clock import Clock
from media.digest import sha256_hex
from media.errors import MalformedError

_CHILD: Final = Path(__file__).with_name("load_child.py")
_PLACE: Final = "/model.gguf"
_MEMO: Final = "loaded"
_CHECK: Final = 1  # raise it when the child asks more of an engine, so that nothing older counts
_ENGINE: Final = "llama.cpp"
_LEAST_SECONDS: Final = 120
_BYTES_A_SECOND: Final = 20 * 2**20
_SPARE_MEMORY: Final = 4 * 2**30
_VERDICTS: Final = {
    3: "refused to load it",
    4: "could not make a context for it",
    5: "could not decode a token with it",
}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What became of one model; where it was not loaded, `reason` says why, and nothing else is claimed."""

    model: str
    weights_sha256: str = ""
    engine: str = ""
    engine_wheel_sha256: str = ""
    loaded: bool = False
    reason: str = ""
    sandbox: str = ""
    vocabulary: int = 0
    milliseconds: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return what the scan statement says."""
        return asdict(self)


def load_models(
    artifacts: Sequence[Artifact],
    *,
    python: str,
    cache: Cache,
    clock: Clock,
    progress: Progress = quiet,
    engine_of: Callable[[Sequence[ChosenWheel], WheelTarget, Cache], Engine] = EngineTools.of,
) -> tuple[Load, ...]:
    """Load each model of a payload once.

    Args:
        artifacts: The whole payload.
        python: The version of Python that the engines are for, e.g. ``3.11``.
        cache: Holds the engine's environment, and remembers what was loaded.
        clock: Takes the time.
        progress: Told each step.
        engine_of: Makes an engine of its wheels.

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
        reason = _why_not(descriptor, weights, wheels, python)
        if weights is None or reason:
            found.append(Load(model=name, reason=reason))
            continue
        # Only the version of Python decides which interpreter makes the environment.
        target = Target(profile="scan", python=python)
        engine = engine_of(wheels, target, cache)
        found.append(_loaded(name, weights, engine, cache=cache, clock=clock, progress=progress))
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


def _loaded(name: str, weights: Artifact, engine: Engine, *, cache: Cache, clock: Clock, progress: Progress) -> Load:
    key = sha256_hex(f"{_CHECK} {weights.sha256} {engine.wheel_sha256}".encode())
    if known := _remembered(cache, key, name):
        progress(f"{name} was loaded before by this engine, in a sandbox: {known.sandbox}")
        return known
    if weights.file is None:
        return Load(model=name, reason="its weights are not a file")
    level = sandbox.level()
    progress(f"loading {name} once with the engine that travels, in a sandbox: {level}")
    ticks = clock.monotonic()
    seconds = _LEAST_SECONDS + weights.length // _BYTES_A_SECOND
    threads = max(1, os.cpu_count() or 1)
    ended = sandbox.run(
        engine.python(progress=progress),
        _CHILD,
        [_PLACE, str(threads)],
        limits=sandbox.Limits(
            memory=2 * weights.length + _SPARE_MEMORY, seconds=seconds, cpu_seconds=seconds * threads
        ),
        files={weights.file: _PLACE},
        at=level,
    )
    facts = _facts(ended, level)
    if ended.code != 0 or "vocabulary" not in facts:
        raise _failed(PurePosixPath(weights.target).name, engine, ended, seconds)
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
    cache.remember(_MEMO, key, made.to_json())
    return made


def _remembered(cache: Cache, key: str, name: str) -> Load | None:
    memo = cache.recall(_MEMO, key)
    try:
        known = Load(**{**mapping(memo, "a remembered load"), "model": name})
    except (MalformedError, TypeError):
        return None
    return known if known.loaded is True else None


def _facts(ended: sandbox.Ended, level: str) -> dict[str, Any]:
    """Return what the script told last, once what it told first shows that nothing was within its reach."""
    told: list[dict[str, Any]] = []
    for line in ended.output.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        told += [value] if isinstance(value, dict) else []
    around = told[0] if told else {}
    seen = around.get("interfaces")
    reach = [key for key in ("sees_machine", "can_write", "can_gain_rights") if around.get(key) is not False]
    if told and (seen != ["lo"] or (level == sandbox.ISOLATED and reach)):
        raise ScanError(
            what="the sandbox is not what it should be",
            why=f"interfaces {seen!r:.80}; {', '.join(reach) or 'nothing else'}",
            fix="report it with the kernel's version; no model was loaded",
        )
    return told[-1] if told else {}


def _failed(name: str, engine: Engine, ended: sandbox.Ended, seconds: int) -> ScanError:
    if ended.is_late:
        verdict = f"was still busy with it after {seconds} seconds"
    elif ended.signal_name:
        verdict = f"crashed on it with {ended.signal_name}"
    else:
        verdict = _VERDICTS.get(ended.code, f"ended with code {ended.code}")
    lines = [line.strip() for line in ended.errors.splitlines() if line.strip()][-4:]
    said = "".join(letter if letter.isprintable() else "?" for letter in " | ".join(lines))[-600:]
    return ScanError(
        what=f"{name} may not travel: the engine that would serve it {verdict}",
        why=f"{PACKAGE} {engine.version}{': ' if said else ''}{said}",
        fix="load this file nowhere; take it from its publisher again, or pin an engine that knows it",
    )


def _weights(artifacts: Sequence[Artifact], descriptor: dict[str, Any]) -> Artifact | None:
    digests = {
        str(file.get("sha256"))
        for file in descriptor.get("files", ())
        if isinstance(file, dict) and file.get("role") == "weights"
    }
    found = [artifact for artifact in artifacts if artifact.kind == "weights" and artifact.sha256 in digests]
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
