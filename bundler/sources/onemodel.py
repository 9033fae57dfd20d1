"""One model from its source to its files: obtained, its signature verified, quantized, described, and examined."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.artifact import Gathered
from bundler.cache import Cache
from bundler.download import Line
from bundler.process import Progress
from bundler.recipe import ModelSection, Recipe
from bundler.sources import companions, modelfiles, reference, weights
from bundler.sources.llama_wheel import PACKAGE
from bundler.sources.programs import digest_of
from bundler.sources.quantize import Engine
from bundler.sources.reference import Examiner
from bundler.sources.wheels import ChosenWheel, Fetch
from media import gguf_vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What models are brought with: the cache, ways to download, the engine and our own code that travel.

    `wheels` are those of the engine's environment, our own apart.
    """

    cache: Cache
    fetch: Fetch
    line: Line
    progress: Progress
    engine: Callable[[], Engine]
    code: Path
    wheels: Sequence[ChosenWheel] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """Files and inputs of one model, its template, and what `release.json` says of references and pins (PIN-1)."""

    gathered: Gathered
    references: Sequence[dict[str, str]]
    pins: Mapping[str, str]
    template: bytes


def bring(recipe: Recipe, model: ModelSection, kit: Kit, *, environment: str) -> Brought:
    """Return one model as it travels.

    Args:
        recipe: The whole recipe, for its folder and time.
        model: The model's section.
        kit: What to work with.
        environment: SHA-256 of the requirements file of its engine.

    Raises:
        SealiftError: A source refused, or a step failed.
    """
    pinned = weights.obtain(recipe, model, cache=kit.cache, fetch=kit.fetch, line=kit.line, progress=kit.progress)
    beside = companions.obtain(recipe, model, cache=kit.cache, fetch=kit.fetch, line=kit.line, progress=kit.progress)
    companions.require_vocabulary(model, pinned, beside)
    pinned = weights.quantized(model, pinned, cache=kit.cache, engine=kit.engine, progress=kit.progress)
    attached = model.runtime.attached
    program_sha256 = ""
    if attached is not None and attached.program:
        label = f"models.{model.name}.runtime.attached"
        program_sha256 = digest_of(attached.program, kit.wheels, python=recipe.target.python, label=label)
    gathered = modelfiles.gather(
        recipe, model, pinned, environment=environment, program_sha256=program_sha256, beside=beside
    )
    template = next(each for each in gathered.artifacts if each.target.endswith("/chat_template.jinja"))
    made = reference.make(
        recipe,
        model,
        parent=pinned.parent,
        derivation=pinned.derivation,
        template=template.read(),
        examiner=None if pinned.parent is None else Examiner(engine=kit.engine(), name=PACKAGE, code=kit.code),
        cache=kit.cache,
        progress=kit.progress,
    )
    return Brought(
        gathered=Gathered(artifacts=(*gathered.artifacts, *made.artifacts), materials=gathered.materials),
        references=made.declared,
        pins=_pins(pinned.parent, gathered),
        template=template.read(),
    )


def _pins(parent: Path | None, gathered: Gathered) -> dict[str, str]:
    """Return the digest of the tokenizer: the parent's where weights were quantized here, which must not change it."""
    own = next((each.file for each in gathered.artifacts if each.target.endswith(".gguf")), None)
    found = parent if parent is not None else own
    return {} if found is None else {"tokenizer_sha256": gguf_vocabulary.read(found).sha256}
