"""Reference outputs: what weights said to the task sets before they were quantized here, for a site to compare with.

The engine that travels computes them, from the very wheels that travel, in a process of its own; the results are kept
in the cache. Where there is nothing to compare with, or the recipe does without, the release says so in words. The
numbers hang a little on the processor, so another machine may compute others in the last digits.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from bundler.artifact import Artifact, Component
from bundler.cache import Cache
from bundler.errors import BuildError
from bundler.process import Progress, capture, quiet
from bundler.recipe import ModelSection, Recipe
from bundler.sources.evals import target_of
from bundler.sources.quantize import Derivation, Engine
from media.canonical import array, dumps, exact_keys, integer, loads, mapping, sha256_hex, text
from media.digest import sha256_hex as digest_of
from media.errors import MediaError

METHOD: Final = 1
"""Raised when the way of asking changes, so that nothing old is taken from the cache."""
ANSWER_TOKENS: Final = 32
SEED: Final = 0
_MEMO: Final = "references"
_MOST_BYTES: Final = 256 * 2**20
_START: Final = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1));"
    "runpy.run_module('appliance.serve.reference', run_name='__main__', alter_sys=True)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examiner:
    """What asks the parent: the engine's environment, and our own wheel (or a checkout) for its code."""

    engine: Engine
    name: str
    code: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """The reference files of one model, and what `release.json` says of each of its task sets."""

    artifacts: tuple[Artifact, ...] = ()
    declared: tuple[dict[str, str], ...] = ()


def not_made(model: ModelSection, why: str) -> References:
    """Return the declaration that a model's task sets have no reference."""
    return References(declared=tuple({"eval": target_of(path), "not_made": why} for path in model.evals))


def make(
    recipe: Recipe,
    model: ModelSection,
    *,
    parent: Path | None,
    derivation: Derivation | None,
    template: bytes,
    examiner: Examiner | None,
    cache: Cache,
    progress: Progress = quiet,
) -> References:
    """Return the references of a model, from the cache or computed now.

    Args:
        recipe: The whole recipe, for its folder.
        model: The model's section.
        parent: The weights before they were quantized, if they were.
        derivation: How they were.
        template: The chat template that travels.
        examiner: Asks the parent.
        cache: Where results are kept.
        progress: Told what is done.

    Raises:
        BuildError: The engine failed, or a task does not fit it.
    """
    if parent is None or derivation is None or examiner is None:
        return not_made(model, "the weights were not quantized here")
    if model.reference.skip is not None:
        return not_made(model, model.reference.skip)
    size = parent.stat().st_size
    if size > model.reference.max_bytes:
        return not_made(model, f"the parent has {size} bytes, more than the recipe's limit")
    files = [recipe.beside(path) for path in model.evals]
    contents = [file.read_bytes() for file in files]
    key = _key(model, derivation, template, examiner, contents)
    memo = cache.recall(_MEMO, key)
    sets = None if memo is None else _sets(memo, contents)
    if sets is None and files:
        progress(f"asking the parent of {model.name} its {len(files)} task sets, for the site to compare with")
        answer = _asked(model, parent, template, examiner, files, cache=cache, progress=progress)
        sets = _sets(answer, contents)
        if sets is None:
            raise BuildError(
                what=f"models.{model.name}: the reference outputs are of other tasks",
                why="the engine's answer does not fit the task sets",
                fix="report it",
            )
        cache.remember(_MEMO, key, answer)
    made = [
        _artifact(model, path, content, items, derivation, template, examiner)
        for path, content, items in zip(model.evals, contents, sets or (), strict=True)
    ]
    declared = [{"eval": target_of(path), "path": each.target} for path, each in zip(model.evals, made, strict=True)]
    return References(artifacts=tuple(made), declared=tuple(declared))


def reference_target(path: str, model: ModelSection) -> str:
    """Return where the reference of a task set lies; several models may share a task set."""
    return f"data/evals/{PurePosixPath(path).stem}.{model.name}.reference.jsonl"


def _key(
    model: ModelSection, derivation: Derivation, template: bytes, examiner: Examiner, contents: Sequence[bytes]
) -> str:
    runtime = model.runtime
    return digest_of(
        dumps(
            {
                "method": METHOD,
                "parent": derivation.parent_sha256,
                "engine": examiner.engine.wheel_sha256,
                "template": digest_of(template),
                "system_prompt": model.system_prompt,
                "runtime": [runtime.n_ctx, runtime.n_batch, runtime.n_seq_max],
                **_defaults(model),
                "evals": [digest_of(content) for content in contents],
            }
        )
    )


def _defaults(model: ModelSection) -> dict[str, Any]:
    said = model.runtime.defaults.said
    return {"defaults": said} if said else {}


def _asked(
    model: ModelSection,
    parent: Path,
    template: bytes,
    examiner: Examiner,
    files: Sequence[Path],
    *,
    cache: Cache,
    progress: Progress,
) -> Any:
    with cache.scratch() as scratch:
        job = scratch / "job.json"
        job.write_bytes(
            dumps(
                {
                    "weights": str(parent),
                    "template": template.decode(),
                    "system_prompt": model.system_prompt,
                    **_defaults(model),
                    "n_ctx": model.runtime.n_ctx,
                    "n_batch": model.runtime.n_batch,
                    "n_seq_max": model.runtime.n_seq_max,
                    "threads": max(1, (os.cpu_count() or 2) - 1),
                    "evals": [str(file) for file in files],
                }
            )
        )
        printed = capture(
            [examiner.engine.python(progress=progress), "-I", "-c", _START, examiner.code, job],
            what=f"models.{model.name}: the reference outputs could not be computed",
            fix="give models.reference.skip a reason, or lower models.reference.max_bytes, to do without",
            environment={"PYTHONDONTWRITEBYTECODE": "1"},
        )
    try:
        return loads(printed, max_bytes=_MOST_BYTES)
    except MediaError as error:
        raise BuildError(
            what=f"models.{model.name}: the reference outputs cannot be read", why=error.why, fix="report it"
        ) from error


def _sets(untrusted: Any, contents: Sequence[bytes]) -> list[list[dict[str, Any]]] | None:
    """Return the items of each task set, or nothing where they are of another shape or of other tasks."""
    try:
        answer = exact_keys(untrusted, ("format", "sets"), (), "the reference outputs")
        integer(answer["format"], "format", minimum=1, maximum=1)
        sets = [mapping(each, "a set") for each in array(answer["sets"], "sets")]
        digests = [sha256_hex(each.get("sha256"), "sha256") for each in sets]
        items = [[mapping(item, "an item") for item in array(each.get("items"), "items")] for each in sets]
        for item in (item for each in items for item in each):
            text(item.get("id"), "id", most=63)
    except MediaError:
        return None
    if digests != [digest_of(content) for content in contents]:
        return None
    asked = [[mapping(loads(line), "a task").get("id") for line in content.splitlines()[1:]] for content in contents]
    return items if [[item["id"] for item in each] for each in items] == asked else None


def _artifact(
    model: ModelSection,
    path: str,
    content: bytes,
    items: Sequence[dict[str, Any]],
    derivation: Derivation,
    template: bytes,
    examiner: Examiner,
) -> Artifact:
    header = {
        "format": 1,
        "name": mapping(loads(content.splitlines()[0]), "the header")["name"],
        "eval_sha256": digest_of(content),
        "parent_sha256": derivation.parent_sha256,
        "parent_types": list(derivation.parent_types),
        "engine": f"{examiner.name} {examiner.engine.version}",
        "engine_sha256": examiner.engine.wheel_sha256,
        "method": METHOD,
        "temperature": "0",
        "seed": SEED,
        "max_tokens": ANSWER_TOKENS,
        "template_sha256": digest_of(template),
        "system_prompt_sha256": digest_of(model.system_prompt.encode()),
    }
    lines = b"".join(dumps(line) + b"\n" for line in (header, *items))
    target = reference_target(path, model)
    return Artifact.of_bytes(lines, target=target, kind="eval", component=Component(name=PurePosixPath(target).name))
