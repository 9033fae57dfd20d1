"""A model's companions: GGUF files beside the weights that answer, one that makes embeddings, one that guesses.

They are part of the version: their digests are in the descriptor (roles `embedding` and `draft`), so another file is
another version. The licence of each is its own, whose text travels as `LICENSE-ROLE`, and so is its entry in the
provenance record.
"""

from collections.abc import Mapping
from typing import Any

from packageurl import PackageURL

from bundler.artifact import Artifact, Component
from bundler.cache import Cache
from bundler.download import Line
from bundler.errors import RecipeError
from bundler.process import Progress, quiet
from bundler.recipe import ModelSection, Recipe
from bundler.recipe_sources import CompanionSection
from bundler.sources import weights
from bundler.sources.weights import PinnedModel
from bundler.sources.wheels import Fetch
from media import gguf_vocabulary
from media.embedding import ROLE
from media.llamaprofile import DRAFT_ROLE

Companions = Mapping[str, PinnedModel]
"""What was obtained, by role."""


def obtain(
    recipe: Recipe,
    model: ModelSection,
    *,
    cache: Cache,
    fetch: Fetch,
    line: Line | None = None,
    progress: Progress = quiet,
) -> Companions:
    """Return the GGUF files that the recipe names beside the model's own.

    Raises:
        SourceError: As `weights.obtain`.
        RecipeError: A source brings no GGUF file, or several files.
    """
    found: dict[str, PinnedModel] = {}
    for role, said in _named(model).items():
        changes = {"name": f"{model.name}.{role}", "source": said.source, "origin": said.origin}
        asked = model.model_copy(update=changes)
        pinned = weights.obtain(recipe, asked, cache=cache, fetch=fetch, line=line, progress=progress)
        if len(pinned.files) != 1 or not pinned.files[0].name.endswith(".gguf"):
            raise RecipeError(
                what=f"models.{model.name}.{role}.source: it does not bring one GGUF file",
                why=f"llama.cpp opens it, and the source brings {pinned.files[0].name}",
                fix="convert it once, and name the .gguf",
            )
        found[role] = pinned
    return found


def require_vocabulary(model: ModelSection, pinned: PinnedModel, companions: Companions) -> None:
    """Pass when a draft model, if there is one, has exactly the tokens of the model that it guesses for.

    Raises:
        RecipeError: It has others.
        MalformedError, UnreadableError: A vocabulary does not read.
    """
    draft = companions.get(DRAFT_ROLE)
    if draft is None:
        return
    own, other = (gguf_vocabulary.read(each.files[0].path).texts_sha256 for each in (pinned, draft))
    if own != other:
        raise RecipeError(
            what=f"models.{model.name}.draft.source: it has another vocabulary than the model it guesses for",
            why=f"{other[:12]} is not {own[:12]}",
            fix="take a smaller model of the same family",
        )


def files(model: ModelSection, companions: Companions, folder: str) -> tuple[tuple[str, Artifact], ...]:
    """Return the files of each companion with its role: weights, and the text of their licence."""
    found: list[tuple[str, Artifact]] = []
    for role, said in _named(model).items():
        pinned = companions[role]
        uri, name = pinned.material.uri, f"{model.name}.{role}"
        about = Component(
            name=name,
            version=model.version,
            license=said.license,
            origin=said.origin,
            purl=uri if uri.startswith("pkg:") else PackageURL("generic", None, name, model.version).to_string(),
        )
        file, terms = pinned.files[0], f"{folder}/LICENSE-{role}"
        own = Component(name=terms, version=model.version, license=said.license)
        found.append(
            (role, Artifact.of_file(file.path, target=f"{folder}/{file.name}", kind="weights", component=about))
        )
        found.append((role, Artifact.of_bytes(pinned.license_text, target=terms, kind="model", component=own)))
    return tuple(found)


def origins_of(model: ModelSection, companions: Companions) -> dict[str, Any]:
    """Return what the provenance record says of where they are from, by role."""
    found: dict[str, Any] = {}
    for role, said in _named(model).items():
        pinned = companions[role]
        found[role] = {
            "source": said.origin,
            "package": pinned.material.uri,
            "package_sha256": pinned.material.sha256,
            "sha256": said.source.sha256,
            "license": said.license,
            **({} if pinned.signed is None else {"model_signing": pinned.signed.to_json()}),
        }
    return found


def _named(model: ModelSection) -> dict[str, CompanionSection]:
    named = {ROLE: model.embedding, DRAFT_ROLE: model.draft}
    return {role: said for role, said in named.items() if said is not None}
