"""A model of an attached engine is opened once by the very program that travels with it, as `engineload` does for ours.

The program or module that the profile names is started in the sandbox from the wheels of the candidate, with the
arguments of the profile, on a socket in a folder that holds nothing else; it must say that it is well, take a text
apart and answer one token, told how likely that was. What needs a GPU, or is answered by a socket that nobody brings,
is listed as not loaded.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from bundler.artifact import Artifact
from bundler.cache import Cache
from bundler.enginetools import Environment
from bundler.process import Progress
from bundler.scanning import sandbox
from bundler.scanning.loads import MEMO, Load, facts_of, failed, limits_for, remembered
from bundler.sources.server import DISTRIBUTION
from bundler.sources.wheels import ChosenWheel
from bundler.target import Target
from bundler.wheelfile import parse_name
from media.attachedprofile import AttachedSettings
from media.canonical import dumps, mapping
from media.clock import Clock
from media.digest import sha256_hex

_CHILD: Final = Path(__file__).with_name("attached_child.py")
_CODE: Final = "/code.whl"
_MODEL: Final = "/model"
_CHECK: Final = 1  # raise it when the child asks more of an engine, so that nothing older counts
_SMALL: Final = {"{n_ctx}": "512", "{n_batch}": "128", "{n_seq_max}": "1"}
"""Of what an answer takes, the least: one token is asked for."""

PythonOf = Callable[[Sequence[ChosenWheel], Target, Cache, Progress], Path]
"""Returns an interpreter of an environment with these wheels."""


def installed(wheels: Sequence[ChosenWheel], target: Target, cache: Cache, progress: Progress) -> Path:
    """Return the interpreter of an environment that is installed from these very files.

    Raises:
        BuildError: They cannot be installed on this machine.
    """
    return Environment(wheels=tuple(wheels), target=target, cache=cache).python(progress=progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a model is tried with.

    Args:
        artifacts: The whole payload.
        wheels: Those of its environment, our own apart.
        python: The version of Python that the engine is for.
        cache: Holds the engine's environment, and remembers what was loaded.
        clock: Takes the time.
        progress: Told each step.
        python_of: Makes the environment.
    """

    artifacts: Sequence[Artifact]
    wheels: Sequence[ChosenWheel]
    python: str
    cache: Cache
    clock: Clock
    progress: Progress
    python_of: PythonOf = installed


def load(name: str, descriptor: dict[str, Any], bench: Bench) -> Load:
    """Open one model once, or say why that cannot be done here.

    Raises:
        ScanError: It made the engine crash, hang or refuse, or no sandbox can be made.
        BuildError: The engine's wheels cannot be installed.
        MalformedError: The descriptor does not read.
    """
    runtime = mapping(descriptor.get("runtime"), f"{name}: runtime")
    settings = AttachedSettings.from_json(runtime.get("attached"), f"{name}: runtime.attached")
    files = _files(bench.artifacts, descriptor)
    if reason := _why_not(settings, files, bench.python):
        return Load(model=name, reason=reason)
    code = next((each.file for each in bench.artifacts if _is_ours(each) and each.file is not None), None)
    environment = str(descriptor.get("environment"))
    parts = (str(_CHECK), environment, *(file.sha256 for file in files), dumps(settings.to_json()).decode())
    key = sha256_hex(" ".join(parts).encode())
    if known := remembered(bench.cache, key, name):
        bench.progress(f"{name} was loaded before by this engine, in a sandbox: {known.sandbox}")
        return known
    level = sandbox.level()
    if level != sandbox.ISOLATED and len(files) > 1:
        return Load(model=name, reason="no sandbox here can show a folder of files to its engine")
    what = settings.program or settings.module
    bench.progress(f"loading {name} once with {what} that travels, in a sandbox: {level}")
    ticks, threads = bench.clock.monotonic(), max(1, os.cpu_count() or 1)
    limits = limits_for(sum(file.length for file in files), threads)
    places = {file.file: _place(file) for file in files if file.file is not None}
    model = next(iter(places.values())) if len(places) == 1 else _MODEL
    ended = sandbox.run(
        bench.python_of(bench.wheels, Target(profile="scan", python=bench.python), bench.cache, bench.progress),
        _CHILD,
        [
            *("program" if settings.program else "module", what, _CODE, sandbox.SOCKETS, model),
            json.dumps({**_SMALL, "{threads}": str(threads)}),
            json.dumps(settings.arguments),
            settings.dialect,
        ],
        limits=limits,
        files={**places, **({} if code is None else {code: _CODE})},
        at=level,
        has_sockets=True,
    )
    facts = facts_of(ended, level)
    if ended.code != 0 or "tokens" not in facts:
        raise failed(name, what, ended, limits.seconds)
    made = Load(
        model=name,
        weights_sha256=_weights_digest(files),
        engine=f"attached: {what}",
        engine_wheel_sha256=environment,
        loaded=True,
        sandbox=level,
        milliseconds=int((bench.clock.monotonic() - ticks) * 1000),
    )
    bench.cache.remember(MEMO, key, made.to_json())
    return made


def _why_not(settings: AttachedSettings, files: Sequence[Artifact], python: str) -> str:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not settings.is_content_addressed:
        return "no release brings what answers for it, so it serves the test stage alone"
    if settings.needs_gpu:
        return "its engine, attached, needs the target's own accelerator"
    if python != here:
        return f"its engine is for Python {python}, this is {here}"
    return "" if files and all(file.file is not None for file in files) else "it has no weights of its own"


def _files(artifacts: Sequence[Artifact], descriptor: dict[str, Any]) -> list[Artifact]:
    """Return the files that the descriptor names, as they lie here; none where one is not here."""
    named = [mapping(file, "files") for file in descriptor.get("files", ())]
    known = {(artifact.target, artifact.sha256): artifact for artifact in artifacts}
    found = [known.get((str(file.get("path")), str(file.get("sha256")))) for file in named]
    return [file for file in found if file is not None] if all(found) else []


def _place(file: Artifact) -> str:
    return f"{_MODEL}/{PurePosixPath(file.target).name}"


def _is_ours(artifact: Artifact) -> bool:
    return artifact.kind == "wheel" and parse_name(PurePosixPath(artifact.target).name).name == DISTRIBUTION


def _weights_digest(files: Sequence[Artifact]) -> str:
    """Return the digest of the one weights file, or of the list of several, as a descriptor has it."""
    weights = [file for file in files if file.kind == "weights"]
    if len(weights) == 1:
        return weights[0].sha256
    return sha256_hex(dumps(sorted([file.target, file.sha256] for file in weights)))
