"""The tables of a recipe. What one table cannot say alone, because it concerns others, is checked in `recipe.py`."""

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from bundler.recipe_fields import Line, Many, Moment, Name, RelativePath, Section, Sha256, Site
from bundler.recipe_runtime import ENGINES_OWN, RuntimeSection, VllmSection
from bundler.recipe_sources import CompanionSection, ModelSource, QuantizeSection, ReferenceSection
from media.llamaprofile import MOST_ANSWERS, ON_PROCESSOR
from media.llamaprofile import faults as llama_faults
from media.vllmprofile import faults

Package = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]{1,99}$")]
Level = Literal["installed", "answered-on-cpu", "answered-on-target"]
Kind = Literal["full", "server", "security-update"]
_VLLM_USUAL: Final = {"n_batch": 8192, "n_seq_max": 256}


class ReleaseSection(Section):
    """What this release is called, its serial, its kind, and the dates that people chose."""

    name: Name
    serial: int = Field(ge=1, le=2**31)
    kind: Kind | None = None
    base: int | None = Field(default=None, ge=1, le=2**31)
    created: Moment
    stale_after: Moment
    sites: Annotated[tuple[Site, ...], Many, Field(max_length=100)] = ()

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
    """One kind of machine that the release is for; a probe's file may say what the keys do not."""

    profile: Name
    probe: RelativePath | None = None
    python: Annotated[str, Field(pattern=r"^3\.(1[1-9]|[2-9][0-9])$")] = "3.11"
    platform: Literal["linux_x86_64", "linux_aarch64"] = "linux_x86_64"
    glibc: Annotated[str, Field(pattern=r"^2\.[0-9]{1,2}$")] = "2.36"
    cpu_flags: Annotated[tuple[Name, ...], Many] = ()
    gpu: Annotated[str, Field(max_length=64)] | None = None
    gpu_count: int | None = None
    gpu_memory_mib: int | None = None
    driver: Annotated[str, Field(max_length=64)] | None = None
    cuda: Annotated[str, Field(max_length=64)] | None = None
    distribution: Name | None = None
    os_release: Name | None = None
    codename: Name | None = None


class PolicySection(Section):
    """What a site demands before it takes a release; signing refuses what falls short."""

    rehearsal: Level | None = None


class SiteSection(Section):
    """One site that gets a release of its own, with what is meant for it and nothing else."""

    name: Site
    targets: Annotated[tuple[Name, ...], Many, Field(min_length=1, max_length=20)]
    models: Annotated[tuple[Name, ...], Many, Field(max_length=50)] | None = None
    policy: PolicySection = PolicySection()


class ModelSection(Section):
    """One model version: weights, what wraps them, where they are from, and how they are judged."""

    name: Name
    version: Name
    engine: Literal["llama.cpp", "vllm", "attached"]
    license: Line
    quantization: Line
    origin: Line
    created_by: Line
    changes: Annotated[tuple[Line, ...], Many] = ()
    context_tokens: int = Field(ge=128, le=2**24)
    source: ModelSource
    embedding: CompanionSection | None = None
    draft: CompanionSection | None = None
    quantize: QuantizeSection | None = None
    reference: ReferenceSection = ReferenceSection()
    chat_template: RelativePath | None = None
    system_prompt: Annotated[str, Field(max_length=32000)] = ""
    rules: Annotated[tuple[Line, ...], Many] = ()
    runtime: RuntimeSection = RuntimeSection()
    evals: Annotated[tuple[RelativePath, ...], Many] = ()
    judges_similarity: bool = False

    @model_validator(mode="after")
    def _for_its_engine(self) -> "ModelSection":
        if (self.engine == "attached") != (self.runtime.attached is not None):
            message = (
                "runtime.attached says how an attached engine is run: it is there for such models, and for no other"
            )
            raise ValueError(message)
        if self.engine != "vllm":
            if self.runtime.vllm is not None:
                message = "runtime.vllm is for models that vLLM serves"
                raise ValueError(message)
            if self.engine == "llama.cpp" and self.runtime.n_seq_max > MOST_ANSWERS:
                message = f"runtime.n_seq_max is {self.runtime.n_seq_max}; llama.cpp gives {MOST_ANSWERS} at most"
                raise ValueError(message)
            if self.runtime.llama_cpp is not None and self.engine == "attached":
                message = "runtime.llama_cpp is for models that llama.cpp serves"
                raise ValueError(message)
            if self.runtime.llama_cpp is not None:
                alone = self.runtime.llama_cpp.settings
                for wrong in llama_faults(alone, n_ctx=self.runtime.n_ctx, n_seq_max=self.runtime.n_seq_max):
                    message = f"runtime.llama_cpp: {wrong}"
                    raise ValueError(message)
            return self
        if self.runtime.llama_cpp is not None:
            message = "runtime.llama_cpp is for models that llama.cpp serves"
            raise ValueError(message)
        if said := sorted(set(self.runtime.defaults.said) & set(ENGINES_OWN)):
            message = f"runtime.defaults.{said[0]} is for models that llama.cpp serves"
            raise ValueError(message)
        given, usual = self.runtime.model_fields_set, {"n_ctx": min(8192, self.context_tokens), **_VLLM_USUAL}
        runtime = self.runtime.model_copy(
            update={key: value for key, value in usual.items() if key not in given}
            | {"vllm": self.runtime.vllm or VllmSection()}
        )
        object.__setattr__(self, "runtime", runtime)  # the model is frozen once it is made
        settings = (runtime.vllm or VllmSection()).settings
        found = faults(settings, n_ctx=runtime.n_ctx, n_batch=runtime.n_batch, n_seq_max=runtime.n_seq_max)
        if fault := next(found, None):
            message = f"runtime: {fault}"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _embeds_as_it_can(self) -> "ModelSection":
        embedding = self.runtime.embedding
        if embedding is not None and self.engine != "llama.cpp":
            message = "runtime.embedding is for models that llama.cpp serves"
            raise ValueError(message)
        if self.embedding is not None and embedding is None:
            message = "embedding is for models that make embeddings: runtime.embedding"
            raise ValueError(message)
        # What a model of its own can read, its weights say.
        if embedding is not None and self.embedding is None and embedding.n_ctx > self.context_tokens:
            message = f"runtime.embedding.n_ctx {embedding.n_ctx} is above context_tokens {self.context_tokens}"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _draft_is_asked(self) -> "ModelSection":
        llama = self.runtime.llama_cpp
        if (self.draft is not None) != (llama is not None and llama.draft_tokens > 0):
            message = "draft and runtime.llama_cpp.draft_tokens belong together: the model that guesses, and how much"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _judge_makes_embeddings(self) -> "ModelSection":
        if self.judges_similarity and self.runtime.embedding is None:
            message = "judges_similarity is for models that make embeddings: runtime.embedding"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _context_fits(self) -> "ModelSection":
        if self.runtime.n_ctx > self.context_tokens:
            message = f"runtime.n_ctx {self.runtime.n_ctx} is above context_tokens {self.context_tokens}"
            raise ValueError(message)
        llama = self.runtime.llama_cpp.settings if self.runtime.llama_cpp is not None else ON_PROCESSOR
        room = llama.request_tokens(n_ctx=self.runtime.n_ctx, n_seq_max=self.runtime.n_seq_max)
        if self.runtime.defaults.max_tokens > room:
            message = f"runtime.defaults.max_tokens is above the {room} tokens that a conversation may have"
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

    @property
    def environment(self) -> str:
        """The name of the engine environment that serves it, e.g. ``engine-llama-cpp``."""
        return f"engine-{self.engine.replace('.', '-')}"


class LlamaCppSection(Section):
    """How llama.cpp is built for all models of the release: `backend` is what it computes on beside processors."""

    backend: Literal["vulkan"] | None = None


class DebsSection(Section):
    """Debian packages for the target, resolved against what the target has installed already."""

    packages: Annotated[tuple[Package, ...], Many] = Field(default=(), max_length=200)
    installed_status: RelativePath | None = None
    keyring: RelativePath | None = None
    sources: RelativePath | None = None


class UpdateSection(Section):
    """Wheels of a security update: a lock of the few that change, and the environments in which they do."""

    wheels: RelativePath
    environments: Annotated[tuple[Literal["server", "host"], ...], Many, Field(min_length=1, max_length=2)] = (
        "host",
        "server",
    )


class LeftOut(Section):
    """A dependency that an engine's wheels ask for and that does not travel, because the engine runs without it."""

    environment: Literal["engine-llama-cpp", "engine-vllm", "engine-attached"]
    package: Name
    reason: Line


class LocksSection(Section):
    """Requirement files with hashes, where they are not the ones of the checkout; vLLM has none there.

    That of an attached engine names its own packages; what the launcher needs beside them is the server's.
    """

    server: RelativePath | None = None
    host: RelativePath | None = None
    engine_llama_cpp: RelativePath | None = Field(default=None, alias="engine-llama-cpp")
    engine_vllm: RelativePath | None = Field(default=None, alias="engine-vllm")
    engine_attached: RelativePath | None = Field(default=None, alias="engine-attached")
    left_out: Annotated[tuple[LeftOut, ...], Many, Field(max_length=20)] = ()


class AcceptedLicence(Section):
    """A licence whose terms somebody read and accepted for these sites; it travels in the signed scan statement."""

    license: Line
    reason: Line


class AllowedFinding(Section):
    """A finding of the scan that two people looked at; it travels in the signed scan statement with its reason.

    With `sha256` it holds for the file of that digest alone.
    """

    path: Line
    rule: Name
    reason: Line
    sha256: Sha256 | None = None


class AntivirusSection(Section):
    """ClamAV looks at the payload too, with signatures of at most this age."""

    max_age_days: int = Field(default=7, ge=0, le=3650)


class ScanSection(Section):
    """Findings accepted by name. There is no switch that turns a rule off."""

    allowed: Annotated[tuple[AllowedFinding, ...], Many] = ()
    antivirus: AntivirusSection | None = None
