"""The recipe: everything that decides what a release carries, in one TOML file that two people can read and review.

Strict: unknown keys, wrong types and unpinned sources are refused, and the error names the dotted key. Everything from
outside is pinned by SHA-256. Paths are relative to the recipe. The same recipe, locks and cache give the same bytes:
`release.created` is the only time that reaches the payload.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError, model_validator

from bundler.errors import RecipeError
from bundler.recipe_fields import Line, Many, Moment, Name, Number, RelativePath, Section, Site
from bundler.recipe_sources import ModelSource, QuantizeSection
from media.digest import sha256_hex

FORMAT: Final = 1
_MAX_BYTES = 256 * 1024
_FIX = "see the commented recipe in examples/demo.toml"
# Words under which patient data was tried to be carried in; it is imported inside the facility, never on this side.
_PATIENT_WORDS = frozenset({"census", "patients", "annotations", "notes", "site_evals", "phi"})
_SOURCE_KINDS = frozenset({"pypi-package", "file", "folder", "http", "huggingface"})


class ReleaseSection(Section):
    """What this release is called, its serial, and the dates that people chose."""

    name: Name
    serial: int = Field(ge=1, le=2**31)
    created: Moment
    stale_after: Moment
    sites: Annotated[tuple[Site, ...], Many, Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _dates_in_order(self) -> "ReleaseSection":
        if self.stale_after <= self.created:
            message = "stale_after is not after created"
            raise ValueError(message)
        if len(set(self.sites)) != len(self.sites):
            message = "a site is named twice in sites"
            raise ValueError(message)
        return self


class TargetSection(Section):
    """One kind of machine that the release is for. One release carries one set of wheels."""

    profile: Name
    python: Annotated[str, Field(pattern=r"^3\.(1[1-9]|[2-9][0-9])$")] = "3.11"
    platform: Literal["linux_x86_64"] = "linux_x86_64"
    glibc: Annotated[str, Field(pattern=r"^2\.[0-9]{1,2}$")] = "2.36"
    cpu_flags: Annotated[tuple[Name, ...], Many] = ()


class DefaultsSection(Section):
    """Sampling where a caller says nothing. Decimal text inside, because what is signed holds no floats."""

    temperature: Number = "0.7"
    top_p: Number = "0.95"


class RuntimeSection(Section):
    """How the engine opens the model; part of what is approved."""

    n_ctx: int = Field(default=4096, ge=128, le=2**24)
    n_batch: int = Field(default=512, ge=1, le=2**16)
    n_seq_max: int = Field(default=1, ge=1, le=256)
    defaults: DefaultsSection = DefaultsSection()


class ModelSection(Section):
    """One model version: weights, what wraps them, where they are from, and how they are judged."""

    name: Name
    version: Name
    engine: Literal["llama.cpp", "vllm"]
    license: Line
    quantization: Line
    origin: Line
    created_by: Line
    context_tokens: int = Field(ge=128, le=2**24)
    source: ModelSource
    quantize: QuantizeSection | None = None
    chat_template: RelativePath | None = None
    system_prompt: Annotated[str, Field(max_length=32000)] = ""
    rules: Annotated[tuple[Line, ...], Many] = ()
    runtime: RuntimeSection = RuntimeSection()
    evals: Annotated[tuple[RelativePath, ...], Many] = ()

    @model_validator(mode="after")
    def _context_fits(self) -> "ModelSection":
        if self.runtime.n_ctx > self.context_tokens:
            message = f"runtime.n_ctx {self.runtime.n_ctx} is above context_tokens {self.context_tokens}"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _quantized_as_said(self) -> "ModelSection":
        if self.quantize is not None and self.engine != "llama.cpp":
            message = "quantize makes GGUF files, which only llama.cpp loads"
            raise ValueError(message)
        if self.quantize is not None and self.quantization != self.quantize.level:
            message = f"quantization is {self.quantization}, but quantize.level is {self.quantize.level}"
            raise ValueError(message)
        return self


class DebsSection(Section):
    """Debian packages for the target, resolved against what the target has installed already."""

    packages: Annotated[tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]{1,99}$")], ...], Many] = Field(
        min_length=1, max_length=200
    )
    installed_status: RelativePath | None = None


class LocksSection(Section):
    """Requirement files with hashes, where they are not the ones of the checkout; vLLM has none there."""

    server: RelativePath | None = None
    host: RelativePath | None = None
    engine_llama_cpp: RelativePath | None = Field(default=None, alias="engine-llama-cpp")
    engine_vllm: RelativePath | None = Field(default=None, alias="engine-vllm")


class AllowedFinding(Section):
    """One finding of the scan that two people looked at; it travels in the signed scan statement with its reason."""

    path: Line
    rule: Name
    reason: Line


class ScanSection(Section):
    """Findings accepted by name. There is no switch that turns a rule off."""

    allowed: Annotated[tuple[AllowedFinding, ...], Many] = ()


class Recipe(Section):
    """The whole recipe."""

    format: Literal[1]
    release: ReleaseSection
    targets: Annotated[tuple[TargetSection, ...], Many, Field(min_length=1, max_length=20)]
    models: Annotated[tuple[ModelSection, ...], Many, Field(max_length=50)] = ()
    debs: DebsSection | None = None
    locks: LocksSection = LocksSection()
    scan: ScanSection = ScanSection()
    folder: Path = Field(default=Path(), exclude=True, repr=False)
    sha256: str = Field(default="", exclude=True, repr=False)

    @model_validator(mode="after")
    def _one_of_each(self) -> "Recipe":
        if len({model.name for model in self.models}) != len(self.models):
            message = "two models have one name"
            raise ValueError(message)
        if len({target.profile for target in self.targets}) != len(self.targets):
            message = "two targets have one profile"
            raise ValueError(message)
        if len({(target.python, target.platform, target.glibc) for target in self.targets}) != 1:
            message = "all targets of one release have one python, platform and glibc; make a second recipe"
            raise ValueError(message)
        return self

    @property
    def target(self) -> TargetSection:
        """The machine that wheels are chosen for; all targets agree on it."""
        return self.targets[0]

    @property
    def source_date_epoch(self) -> int:
        """Seconds of `release.created`: the only time that reaches the payload."""
        return int(self.release.created.timestamp())

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of the engine environments that the models need, e.g. ``engine-llama-cpp``."""
        return tuple(sorted({f"engine-{model.engine.replace('.', '-')}" for model in self.models}))

    def lock(self, name: str) -> Path | None:
        """Return the lock that the recipe names for an environment, if it names one."""
        given: str | None = getattr(self.locks, name.replace("-", "_"))
        return None if given is None else self.beside(given)

    def beside(self, relative: str) -> Path:
        """Return the host path of a file that the recipe names."""
        return self.folder / relative

    @classmethod
    def load(cls, path: Path) -> "Recipe":
        """Read and check a recipe file.

        Raises:
            RecipeError: It is absent, too large, not TOML, or a key is unknown or wrong; `what` names the dotted key.
        """
        try:
            untrusted = path.read_bytes()
        except OSError as error:
            raise RecipeError(
                what=f"the recipe {path.name} cannot be read", why=error.strerror or "", fix="give the recipe's path"
            ) from error
        return cls.parse(untrusted, folder=path.parent)

    @classmethod
    def parse(cls, untrusted: bytes, *, folder: Path) -> "Recipe":
        """Check the bytes of a recipe that lies in `folder`.

        Raises:
            RecipeError: As `load`.
        """
        if len(untrusted) > _MAX_BYTES:
            raise RecipeError(what="the recipe is too large", why=f"the limit is {_MAX_BYTES} bytes", fix=_FIX)
        try:
            data = tomllib.loads(untrusted.decode())
        except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
            raise RecipeError(what="the recipe is not TOML", why=str(error)[:200], fix=_FIX) from error
        for ours in ("folder", "sha256"):
            if ours in data:
                raise RecipeError(what=f"{ours}: not a key of a recipe", why="unknown keys are refused", fix=_FIX)
        try:
            return cls.model_validate({**data, "folder": folder, "sha256": sha256_hex(untrusted)})
        except (ValidationError, RecursionError) as error:
            raise _readable(error) from error


def _readable(error: ValidationError | RecursionError) -> RecipeError:
    """Name the dotted key of the first fault and say what to do."""
    if isinstance(error, RecursionError):
        return RecipeError(what="the recipe is nested too deeply", why="no key of a recipe is", fix=_FIX)
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    # Discriminated unions put their tag into the location; the recipe has no such key.
    place = [part for part in first["loc"] if part not in _SOURCE_KINDS]
    key = ".".join(_printable(part) for part in place) or "the recipe"
    if first["type"] == "extra_forbidden" and str(place[-1]) in _PATIENT_WORDS:
        return RecipeError(
            what=f"{key}: patient data does not start on the connected side",
            why="census lists, annotated notes and a site's own evals are imported inside the facility",
            fix="remove the key; import the file on the appliance",
        )
    if first["type"] == "extra_forbidden":
        return RecipeError(what=f"{key}: not a key of a recipe", why="unknown keys are refused", fix=_FIX)
    return RecipeError(
        what=f"{key}: {first['msg'].removeprefix('Value error, ')}", why="recipes are checked strictly", fix=_FIX
    )


def _printable(part: str | int) -> str:
    text = str(part)[:80]
    return text if text.isprintable() else ascii(text)
