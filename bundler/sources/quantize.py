"""Quantizing on the connected side: a child of pinned weights, made by the engine's own code and traced to its parent.

llama.cpp works in a process of its own, because it reads what strangers made. The result is kept under the parent's
digest, the level and the engine's version, and its header must say that it is what was asked for. A parent that is
quantized already loses quality twice; that is done only where the recipe allows it. Room on the disk is counted before
the engine starts, and a matrix that does not fit a level is told by name with the type it took.
"""

import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from bundler.artifact import Material
from bundler.cache import Cache
from bundler.digests import file_sha256
from bundler.errors import BuildError, RecipeError
from bundler.gguf_header import GgufHeader
from bundler.gguf_header import read as read_gguf
from bundler.process import Progress, quiet, run
from bundler.quantlevels import FULL_PRECISION, LEVELS, LevelName, columns, refusal, room
from bundler.recipe import ModelSection
from bundler.recipe_sources import QuantizeSection
from bundler.sources.llama_wheel import PACKAGE
from media.clock import Clock, SystemClock
from media.digest import sha256_hex
from media.gguf import Tensor

_CHILD: Final = Path(__file__).with_name("quantize_child.py")
_MEMO: Final = "quantized"


class Engine(Protocol):
    """What quantizes: `enginetools.EngineTools`, or a stand-in of the tests."""

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
class Derivation:
    """How weights were made from others.

    `types` names what llama.cpp chose for each matrix, which may be a finer type than the level; `fell_back` are those
    whose columns do not fit the level. `seconds` is what it took when it was made, and is in no file of the payload.
    """

    parent: str
    parent_sha256: str
    parent_types: tuple[str, ...]
    level: LevelName
    tool: str
    tool_sha256: str
    weights: int
    allow_requantize: bool
    types: dict[str, str]
    fell_back: tuple[str, ...]
    seconds: int

    @property
    def is_second(self) -> bool:
        """Whether the parent was quantized already."""
        return not FULL_PRECISION.issuperset(self.parent_types)

    def to_json(self) -> dict[str, Any]:
        """Return what the provenance record says."""
        level = LEVELS[self.level]
        return {
            "parent": self.parent,
            "parent_sha256": self.parent_sha256,
            "parent_types": list(self.parent_types),
            "level": self.level,
            "tool": self.tool,
            "tool_sha256": self.tool_sha256,
            "parameters": {"file_type": level.file_type, "allow_requantize": self.allow_requantize},
            "weights": self.weights,
            "tensors": dict(sorted(Counter(self.types.values()).items())),
            "tensor_types": self.types,
            "fell_back": {
                "columns_of": columns(self.level),
                "tensors": {name: self.types[name] for name in self.fell_back},
            },
            "requantized": self.is_second,
            "not_for_production": refusal(self.level),
        }

    @property
    def material(self) -> Material:
        """The parent and what was done to it, for the provenance statement."""
        return Material(
            uri=f"urn:sealift:quantized:{self.level}",
            sha256=self.parent_sha256,
            note=f"{self.parent}: {self.tool}, wheel {self.tool_sha256}, {self.seconds} s",
        )


def quantize(
    model: ModelSection,
    wanted: QuantizeSection,
    parent: Path,
    *,
    cache: Cache,
    engine: Engine,
    clock: Clock | None = None,
    progress: Progress = quiet,
) -> tuple[Path, Derivation]:
    """Return the quantized weights of a model, from the cache or made now, and how they were made.

    Args:
        model: The model's section, for names.
        wanted: The level.
        parent: The pinned weights.
        cache: Where the result is kept.
        engine: Quantizes, where the cache has no result.
        clock: Counts the seconds.
        progress: Told what is done.

    Raises:
        RecipeError: The parent is quantized already, and the recipe does not allow that.
        BuildError: The disk has no room, the engine failed, or it made something else.
        ScanError: A header is malformed.
    """
    clock = clock or SystemClock()
    header, parent_sha256 = read_gguf(parent), file_sha256(parent)
    types = _types(header)
    if not FULL_PRECISION.issuperset(types) and not wanted.allow_requantize:
        raise RecipeError(
            what=f"models.{model.name}.quantize.allow_requantize: the weights are quantized already",
            why=f"they hold {', '.join(sorted(types))}; quantizing again loses quality twice",
            fix="take F16, BF16 or F32 weights, or set it to true",
        )
    key = sha256_hex(f"{parent_sha256} {wanted.level} {PACKAGE} {engine.version}".encode())
    known = _kept(cache, key)
    if known is None:
        _require_room(cache, wanted, parent, header)
        python, started = engine.python(progress=progress), clock.monotonic()
        made = _made(model, wanted, parent, python=python, cache=cache, progress=progress)
        known = _Made(file=made, seconds=round(clock.monotonic() - started), tool_sha256=engine.wheel_sha256)
        about = {"sha256": file_sha256(made), "seconds": known.seconds, "tool_sha256": known.tool_sha256}
        cache.remember(_MEMO, key, about)
    made = _named(known.file, f"{model.name}.{wanted.level}.gguf", cache)
    found = read_gguf(made)
    _require_level(found, wanted, name=model.name)
    fell_back = _fell_back(found, wanted)
    if fell_back:
        progress(
            f"{len(fell_back)} of {sum(_types(found).values())} matrices of {model.name} have columns that are no"
            f" multiple of {columns(wanted.level)}; llama.cpp took other types than {wanted.level}'s for them"
        )
    return made, Derivation(
        parent=parent.name,
        parent_sha256=parent_sha256,
        parent_types=tuple(sorted(types)),
        level=wanted.level,
        tool=f"{PACKAGE} {engine.version} llama_model_quantize",
        tool_sha256=known.tool_sha256,
        weights=header.parameters,
        allow_requantize=wanted.allow_requantize,
        types={tensor.name: tensor.type_name for tensor in sorted(found.tensors, key=_name) if len(tensor.shape) > 1},
        fell_back=fell_back,
        seconds=known.seconds,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """Weights in the cache, how long they took, and which wheel made them: it may be another than today's."""

    file: Path
    seconds: int
    tool_sha256: str


def _kept(cache: Cache, key: str) -> _Made | None:
    memo: Any = cache.recall(_MEMO, key)
    expected = {"sha256": str, "seconds": int, "tool_sha256": str}
    if not isinstance(memo, dict) or not all(isinstance(memo.get(name), kind) for name, kind in expected.items()):
        return None
    file = cache.find(memo["sha256"])
    return None if file is None else _Made(file=file, seconds=memo["seconds"], tool_sha256=memo["tool_sha256"])


def _named(kept: Path, name: str, cache: Cache) -> Path:
    """Return the kept file under this model's name: the recipe names it, not whoever quantized it first."""
    place = kept.with_name(name)
    if place.exists() and file_sha256(place) == file_sha256(kept):
        return place
    with cache.scratch() as scratch:
        fresh = scratch / name
        try:
            os.link(kept, fresh)
        except OSError:  # a file system without links
            shutil.copyfile(kept, fresh)
            fresh.chmod(0o444)
        fresh.replace(place)  # it was not there, or is not what it was
    return place


def _require_room(cache: Cache, wanted: QuantizeSection, parent: Path, header: GgufHeader) -> None:
    tensors = sum(tensor.length for tensor in header.tensors)
    needed = room(wanted.level, weights=header.parameters, other_bytes=parent.stat().st_size - tensors)
    cache.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache.root).free
    if free < needed:
        raise BuildError(
            what=f"there is no room to quantize {parent.name} to {wanted.level}",
            why=f"it may take {needed} bytes, {free} are free where the cache is",
            fix="make room, or choose another folder with --cache",
        )


def _fell_back(header: GgufHeader, wanted: QuantizeSection) -> tuple[str, ...]:
    """Name the matrices whose columns no block of the level divides; their first dimension is the columns."""
    fitting = columns(wanted.level)
    matrices = [tensor for tensor in header.tensors if len(tensor.shape) > 1]
    # Where a fallback happens to be the level's own type it is none.
    own = {wanted.level.removesuffix("_S").removesuffix("_M")} if "_K" in wanted.level else {wanted.level}
    names = [each.name for each in matrices if each.shape[0] % fitting and each.type_name not in own]
    return tuple(sorted(names))


def _name(tensor: Tensor) -> str:
    return tensor.name


def _made(
    model: ModelSection, wanted: QuantizeSection, parent: Path, *, python: Path, cache: Cache, progress: Progress
) -> Path:
    level = LEVELS[wanted.level]
    progress(
        f"quantizing {parent.name} to {wanted.level}: about {level.saved}% smaller than 16 bits, loss {level.loss}"
    )
    with cache.scratch() as scratch:
        child = scratch / "child.gguf"
        run(
            [
                python, "-I", _CHILD, parent, child, str(level.file_type),
                "1" if wanted.allow_requantize else "0", str(max(1, (os.cpu_count() or 2) - 1)),
            ],
            what=f"models.{model.name}: the weights could not be quantized to {wanted.level}",
            fix="look at the last lines above; llama.cpp must know the model's architecture",
            environment={"PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        if not child.is_file():
            raise BuildError(what="llama.cpp wrote no file", why=f"asked for {wanted.level}", fix="report it")
        _require_level(read_gguf(child), wanted, name=model.name)
        return cache.add(child, sha256=file_sha256(child), name=f"{model.name}.{wanted.level}.gguf")


def _require_level(header: GgufHeader, wanted: QuantizeSection, *, name: str) -> None:
    said = header.metadata.get("general.file_type")
    if said != LEVELS[wanted.level].file_type:
        raise BuildError(
            what=f"models.{name}: the weights are not of level {wanted.level}",
            why=f"their header says file type {said}",
            fix="report it with the engine's version",
        )


def _types(header: GgufHeader) -> Counter[str]:
    """Count the types of the matrices; vectors stay in full precision at every level."""
    return Counter(tensor.type_name for tensor in header.tensors if len(tensor.shape) > 1)
