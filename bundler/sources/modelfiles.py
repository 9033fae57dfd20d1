"""A model as it travels: weights, licence, chat template, provenance record, and the descriptor that is approved.

The chat template is taken out of the weights here, once, and travels as a file of its own: engines never run a template
that hides in a model file. The SHA-256 of the descriptor is the model digest, so whatever changes answers is in it.
"""

import re
from types import MappingProxyType
from typing import Any, Final

from packageurl import PackageURL

from bundler.artifact import Artifact, Component, Gathered
from bundler.errors import RecipeError
from bundler.gguf_header import GgufHeader
from bundler.gguf_header import read as read_gguf
from bundler.recipe import ModelSection, Recipe
from bundler.sources import companions, modelfolder
from bundler.sources.companions import Companions
from bundler.sources.weights import PinnedModel, small_file
from media.canonical import dumps
from media.clock import to_text
from media.digest import sha256_hex
from media.embedding import MOST_DIMENSIONS, ROLE, EmbeddingProfile

_SMALL_BYTES: Final = 64 * 2**20
# A template that tells of functions does so by this variable (Hugging Face, "Tool use" of chat templates).
_TOLD_OF_TOOLS: Final = re.compile(rb"\btools\b")


def gather(
    recipe: Recipe,
    model: ModelSection,
    pinned: PinnedModel,
    *,
    environment: str,
    program_sha256: str = "",
    beside: Companions = MappingProxyType({}),
) -> Gathered:
    """Return the files of one model below `data/models/NAME/`.

    Args:
        recipe: The whole recipe, for its folder and time.
        model: The model's section.
        pinned: Its files.
        environment: SHA-256 of the requirements file of its engine; part of what is approved.
        program_sha256: That of the program which serves it, where it names one; part of what is approved.
        beside: The GGUF files beside its own, by role.

    Raises:
        ScanError: The weights have a malformed header.
        RecipeError: The recipe contradicts what the weights say of themselves.
    """
    folder = f"data/models/{model.name}"
    source = pinned.material.uri
    modelfolder.require_countable(model, frozenset(file.name for file in pinned.files))
    quantized: dict[str, Any] = {}
    if not _is_gguf(model, pinned):
        modelfolder.require_folder(model, frozenset(file.name for file in pinned.files))
        quantized = modelfolder.quantization_of(model, _small_files(pinned).get(modelfolder.CONFIG, b""))
    component = Component(
        name=model.name,
        version=model.version,
        license=model.license,
        origin=model.origin,
        # Weights that were quantized here are not what the package holds.
        purl=_purl(model) if pinned.derivation is not None or not source.startswith("pkg:") else source,
        parent_sha256="" if pinned.derivation is None else pinned.derivation.parent_sha256,
        parent_purl=source if pinned.derivation is not None and source.startswith("pkg:") else "",
    )
    files = {
        file: Artifact.of_file(
            file.path,
            target=f"{folder}/{file.name}",
            kind="weights" if file.role == "weights" else "model",
            component=component,
        )
        for file in pinned.files
        if file.role != "template"  # it travels as the one template, wherever that came from
    }
    described = [
        {"path": made.target, "role": file.role, "sha256": made.sha256, "length": made.length}
        for file, made in files.items()
    ]
    more = companions.files(model, beside, folder)
    for role, made in more:
        if made.kind != "weights":
            continue
        if made.target in {file["path"] for file in described}:
            raise RecipeError(
                what=f"models.{model.name}.{role}.source: its file has the name of another of this version",
                why="all lie in one folder",
                fix="rename it",
            )
        described.append({"path": made.target, "role": role, "sha256": made.sha256, "length": made.length})
    template = _wrapped(model, f"{folder}/chat_template.jinja", _template(recipe, model, pinned))
    runtime = _own(model, beside.get(ROLE, pinned), program_sha256)
    descriptor = _descriptor(model, described, template, environment, runtime)
    return Gathered(
        artifacts=(
            *files.values(),
            *(made for _, made in more),
            template,
            _wrapped(model, f"{folder}/LICENSE", pinned.license_text),
            _wrapped(
                model, f"{folder}/provenance.json", _provenance(recipe, model, described, pinned, quantized, beside)
            ),
            _wrapped(model, f"{folder}/descriptor.json", descriptor),
        ),
        materials=(
            pinned.material,
            *(() if pinned.signature is None else (pinned.signature,)),
            *(() if pinned.derivation is None else (pinned.derivation.material,)),
            *(each.material for each in beside.values()),
            *(each.signature for each in beside.values() if each.signature is not None),
        ),
    )


def descriptor_target(model: ModelSection) -> str:
    """Return where the descriptor of a model lies."""
    return f"data/models/{model.name}/descriptor.json"


def _purl(model: ModelSection) -> str:
    """Return a package URL for weights of no registry: by name and version, as people here call them."""
    return PackageURL(type="generic", name=model.name, version=model.version).to_string()


def _wrapped(model: ModelSection, target: str, content: bytes) -> Artifact:
    component = Component(name=target.removeprefix("data/"), version=model.version, license=model.license)
    return Artifact.of_bytes(content, target=target, kind="model", component=component)


def _is_gguf(model: ModelSection, pinned: PinnedModel) -> bool:
    """Whether the engine opens one GGUF file: llama.cpp always does, an attached engine where the source brings one."""
    has_one = any(file.name.endswith(".gguf") for file in pinned.files)
    return model.engine == "llama.cpp" or (model.engine == "attached" and has_one)


def _own(model: ModelSection, pinned: PinnedModel, program_sha256: str) -> dict[str, Any]:
    """Return what of the runtime one kind of engine alone has."""
    runtime = model.runtime
    found: dict[str, Any] = _embedding(model, pinned)
    if runtime.vllm is not None:
        found["vllm"] = runtime.vllm.settings.to_json()
    if runtime.llama_cpp is not None:
        found["llama_cpp"] = runtime.llama_cpp.settings.to_json()
    if runtime.attached is not None:
        found["attached"] = runtime.attached.settings(program_sha256).to_json()
    return found


def _descriptor(
    model: ModelSection, files: list[dict[str, Any]], template: Artifact, environment: str, own: dict[str, Any]
) -> bytes:
    return dumps(
        {
            "format": 1,
            "name": model.name,
            "version": model.version,
            "engine": model.engine,
            "environment": environment,
            "files": files,
            "chat_template": {"path": template.target, "sha256": template.sha256},
            "system_prompt": model.system_prompt,
            "rules": list(model.rules),
            "runtime": {
                "n_ctx": model.runtime.n_ctx,
                "n_batch": model.runtime.n_batch,
                "n_seq_max": model.runtime.n_seq_max,
                "defaults": {
                    "temperature": model.runtime.defaults.temperature,
                    "top_p": model.runtime.defaults.top_p,
                    **model.runtime.defaults.said,
                },
                **own,
            },
            "quantization": model.quantization,
            "license": model.license,
            "context_tokens": model.context_tokens,
        }
    )


def _embedding(model: ModelSection, pinned: PinnedModel) -> dict[str, Any]:
    """Return the profile's table of embeddings, where the recipe has one; how long vectors are the weights say."""
    said = model.runtime.embedding
    if said is None:
        return {}
    length = _only_header(model, pinned).embedding_length
    if not 1 <= length <= MOST_DIMENSIONS:
        raise RecipeError(
            what=f"models.{model.name}.runtime.embedding: the weights do not say how long a vector is",
            why="embedding_length is not in their header",
            fix="leave the table out, or use weights that say so",
        )
    profile = EmbeddingProfile(**said.model_dump(), dimensions=length)
    return {"embedding": profile.to_json()}


def _provenance(
    recipe: Recipe,
    model: ModelSection,
    files: list[dict[str, Any]],
    pinned: PinnedModel,
    quantized: dict[str, Any],
    beside: Companions,
) -> bytes:
    """Return the record that model governance asks for; who approved it, and when, is the appliance's to say."""
    material, derivation = pinned.material, pinned.derivation
    return dumps(
        {
            "format": 1,
            "name": model.name,
            "version": model.version,
            "source": model.origin,
            "package": material.uri,
            "package_sha256": material.sha256,
            "sha256": _weights_digest(files),
            "files": {file["path"].rpartition("/")[2]: file["sha256"] for file in files},
            "download_date": to_text(recipe.release.created),
            "license": model.license,
            "quantization": model.quantization,
            "created_by": model.created_by,
            **({"changes": list(model.changes)} if model.changes else {}),
            **({"quantization_config": quantized} if quantized else {}),
            **({} if derivation is None else {"derived_from": derivation.to_json()}),
            **({} if pinned.signed is None else {"model_signing": pinned.signed.to_json()}),
            **companions.origins_of(model, beside),
        }
    )


def _weights_digest(files: list[dict[str, Any]]) -> str:
    """Return the digest of the one weights file, or of the list of several."""
    weights = sorted([file["path"], file["sha256"]] for file in files if file["role"] == "weights")
    return str(weights[0][1]) if len(weights) == 1 else sha256_hex(dumps(weights))


def _template(recipe: Recipe, model: ModelSection, pinned: PinnedModel) -> bytes:
    if not _is_gguf(model, pinned):
        found = modelfolder.template_of(_small_files(pinned))
    else:
        header = _only_header(model, pinned)
        _require_agreement(model, header)
        found = header.chat_template.encode() or None
    if model.chat_template is not None:
        found = small_file(recipe.beside(model.chat_template), model.chat_template)
    if found is None:
        raise RecipeError(
            what=f"models.{model.name}.chat_template: the weights carry none",
            why="an engine without a template would guess how messages are joined",
            fix="give the publisher's template as a file beside the recipe",
        )
    if model.runtime.vllm is not None and model.runtime.vllm.tool_call_parser and not _TOLD_OF_TOOLS.search(found):
        raise RecipeError(
            what=f"models.{model.name}.runtime.vllm.tool_call_parser: the chat template never names `tools`",
            why="the model would not be told which functions it may call",
            fix="give a template that tells it as models.chat_template, or leave the parser out",
        )
    return found


def _only_header(model: ModelSection, pinned: PinnedModel) -> GgufHeader:
    weights = [file for file in pinned.files if file.name.endswith(".gguf")]
    if len(weights) != 1 or len(pinned.files) != 1:
        raise RecipeError(
            what=f"models.{model.name}.source: {model.engine} loads one GGUF file",
            why=f"the source brings {len(pinned.files)} files, {len(weights)} of them GGUF",
            fix="name one .gguf file",
        )
    return read_gguf(weights[0].path)


def _small_files(pinned: PinnedModel) -> dict[str, bytes]:
    """Return what a folder holds beside weights, where it is of modest size."""
    small = (file for file in pinned.files if file.role != "weights" and file.path.stat().st_size <= _SMALL_BYTES)
    return {file.name: file.path.read_bytes() for file in small}


def _require_agreement(model: ModelSection, header: GgufHeader) -> None:
    if header.context_length and model.context_tokens > header.context_length:
        raise RecipeError(
            what=f"models.{model.name}.context_tokens: {model.context_tokens} is more than the model has",
            why=f"the weights say {header.context_length}",
            fix="lower it",
        )
