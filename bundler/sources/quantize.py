"""Quantizing on the connected side: a child of pinned weights, made by the engine's own code and traced to its parent.

llama.cpp works in a process of its own, because it reads what strangers made. The result is kept under the parent's
digest, the level and the engine's version, and its header must say that it is what was asked for. A parent that is
quantized already loses quality twice; that is done only where the recipe allows it.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from bundler.cache import Cache
from bundler.digests import file_sha256
from bundler.errors import BuildError, RecipeError
from bundler.gguf_header import GgufHeader
from bundler.gguf_header import read as read_gguf
from bundler.process import Progress, quiet, run
from bundler.quantlevels import FULL_PRECISION, LEVELS
from bundler.recipe import ModelSection
from bundler.recipe_sources import QuantizeSection
from bundler.sources.llama_wheel import PACKAGE
from media.digest import sha256_hex

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
    """How weights were made from others; `tensors` counts the types that llama.cpp chose, which may be better ones."""

    parent: str
    parent_sha256: str
    parent_types: tuple[str, ...]
    level: str
    tool: str
    tool_sha256: str
    tensors: dict[str, int]

    @property
    def is_second(self) -> bool:
        """Whether the parent was quantized already."""
        return not FULL_PRECISION.issuperset(self.parent_types)

    def to_json(self) -> dict[str, Any]:
        """Return what the provenance record says."""
        return {
            "parent": self.parent,
            "parent_sha256": self.parent_sha256,
            "parent_types": list(self.parent_types),
            "level": self.level,
            "tool": self.tool,
            "tool_sha256": self.tool_sha256,
            "tensors": self.tensors,
            "requantized": self.is_second,
        }


def quantize(
    model: ModelSection,
    wanted: QuantizeSection,
    parent: Path,
    *,
    cache: Cache,
    engine: Engine,
    progress: Progress = quiet,
) -> tuple[Path, Derivation]:
    """Return the quantized weights of a model, from the cache or made now, and how they were made.

    Args:
        model: The model's section, for names.
        wanted: The level.
        parent: The pinned weights.
        cache: Where the result is kept.
        engine: Quantizes, where the cache has no result.
        progress: Told what is done.

    Raises:
        RecipeError: The parent is quantized already, and the recipe does not allow that.
        BuildError: The engine failed, or made something else.
        ScanError: A header is malformed.
    """
    header, parent_sha256 = read_gguf(parent), file_sha256(parent)
    types = _types(header)
    if not FULL_PRECISION.issuperset(types) and not wanted.allow_requantize:
        raise RecipeError(
            what=f"models.{model.name}.quantize.allow_requantize: the weights are quantized already",
            why=f"they hold {', '.join(sorted(types))}; quantizing again loses quality twice",
            fix="take F16, BF16 or F32 weights, or set it to true",
        )
    key = sha256_hex(f"{parent_sha256} {wanted.level} {PACKAGE} {engine.version}".encode())
    made = _kept(cache, key) or _made(model, wanted, parent, key=key, engine=engine, cache=cache, progress=progress)
    found = read_gguf(made)
    _require_level(found, wanted, name=model.name)
    return made, Derivation(
        parent=parent.name,
        parent_sha256=parent_sha256,
        parent_types=tuple(sorted(types)),
        level=wanted.level,
        tool=f"{PACKAGE} {engine.version} llama_model_quantize",
        tool_sha256=engine.wheel_sha256,
        tensors=dict(sorted(_types(found).items())),
    )


def _kept(cache: Cache, key: str) -> Path | None:
    memo: Any = cache.recall(_MEMO, key)
    known = memo.get("sha256") if isinstance(memo, dict) else None
    return cache.find(known) if isinstance(known, str) else None


def _made(
    model: ModelSection,
    wanted: QuantizeSection,
    parent: Path,
    *,
    key: str,
    engine: Engine,
    cache: Cache,
    progress: Progress,
) -> Path:
    level = LEVELS[wanted.level]
    progress(
        f"quantizing {parent.name} to {wanted.level}: about {level.saved}% smaller than 16 bits, loss {level.loss}"
    )
    with cache.scratch() as scratch:
        child = scratch / "child.gguf"
        run(
            [
                engine.python(progress=progress), "-I", _CHILD, parent, child, str(level.file_type),
                "1" if wanted.allow_requantize else "0", str(max(1, (os.cpu_count() or 2) - 1)),
            ],
            what=f"models.{model.name}: the weights could not be quantized to {wanted.level}",
            fix="look at the last lines above; llama.cpp must know the model's architecture",
            environment={"PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        if not child.is_file():
            raise BuildError(what="llama.cpp wrote no file", why=f"asked for {wanted.level}", fix="report it")
        _require_level(read_gguf(child), wanted, name=model.name)
        sha256 = file_sha256(child)
        kept = cache.add(child, sha256=sha256, name=f"{model.name}.{wanted.level}.gguf")
    cache.remember(_MEMO, key, {"sha256": sha256})
    return kept


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
