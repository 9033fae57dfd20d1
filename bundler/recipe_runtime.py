"""How an engine opens a model: the table `models.runtime` of a recipe, and what of it one kind of engine alone has."""

from typing import Annotated, Any, Final

from pydantic import Field, model_validator

from bundler.recipe_fields import Line, Many, Number, Section
from media.attachedprofile import AttachedSettings, Dialect, faults
from media.embedding import MOST_TOKENS, Pooling
from media.llamaprofile import LlamaSettings
from media.vllmprofile import VllmSettings

Argument = Annotated[str, Field(max_length=200, pattern=r"^[\x20-\x7e]*$")]

ENGINES_OWN: Final = ("top_k", "repeat_penalty", "stop")
"""What the engine adds to a request, so that only llama.cpp's, which is ours, has it; the rest the gateway adds."""


class DefaultsSection(Section):
    """Sampling where a caller says nothing. Decimal text inside, because what is signed holds no floats."""

    temperature: Number = "0.7"
    top_p: Number = "0.95"
    top_k: int = Field(default=0, ge=0, le=1000)
    repeat_penalty: Number = "1"
    stop: Annotated[tuple[Line, ...], Field(max_length=4)] = ()
    max_tokens: int = Field(default=0, ge=0, le=2**24)

    @property
    def said(self) -> dict[str, Any]:
        """Return what is not as it is by itself, so that a profile without it keeps its digest."""
        usual = type(self)()
        more = (*ENGINES_OWN, "max_tokens")
        found = {name: getattr(self, name) for name in more if getattr(self, name) != getattr(usual, name)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


class VllmSection(Section):
    """What only vLLM asks for; its ranges are those of `media.vllmprofile`."""

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    gpu_memory_utilization: Number = "0.90"
    quantization: Annotated[str, Field(max_length=40)] = ""
    enforce_eager: bool = False
    tool_call_parser: Annotated[str, Field(max_length=40)] = ""
    reasoning_parser: Annotated[str, Field(max_length=40)] = ""

    @property
    def settings(self) -> VllmSettings:
        """The same for the descriptor."""
        return VllmSettings(**self.model_dump())


class LlamaSection(Section):
    """What only llama.cpp asks for; ranges and what contradicts are `media.llamaprofile`'s to say."""

    n_gpu_layers: int = 0
    num_gpu: int = 0
    main_gpu: int = 0
    tensor_split: Annotated[tuple[Number, ...], Many] = ()
    num_keep: int = 0
    kv_unified: bool = True
    draft_tokens: int = 0

    @property
    def settings(self) -> LlamaSettings:
        """The same for the descriptor."""
        return LlamaSettings(**self.model_dump())


class EmbeddingSection(Section):
    """That the version makes embeddings, from the pooled states of its own weights; see `media.embedding`."""

    pooling: Pooling = "mean"
    n_ctx: int = Field(default=512, ge=1, le=MOST_TOKENS)
    matryoshka: bool = False


class AttachedSection(Section):
    """How another's server is run behind the launcher; what contradicts is `media.attachedprofile`'s to say.

    The program is a file of the engine's environment; the build finds its digest there.
    """

    program: Argument = ""
    module: Argument = ""
    arguments: Annotated[tuple[Argument, ...], Many] = ()
    dialect: Dialect = "llama-server"
    needs_gpu: bool = False

    @model_validator(mode="after")
    def _without_faults(self) -> "AttachedSection":
        if fault := next(faults(self.settings("0" * 64 if self.program else "")), None):
            raise ValueError(fault)
        return self

    def settings(self, program_sha256: str) -> AttachedSettings:
        """Return the same for the descriptor, with the digest of the program, where it names one."""
        said = self.model_dump(exclude={"arguments"})
        return AttachedSettings(**said, arguments=self.arguments, program_sha256=program_sha256)


class RuntimeSection(Section):
    """How the engine opens the model; part of what is approved."""

    n_ctx: int = Field(default=4096, ge=128, le=2**24)
    n_batch: int = Field(default=512, ge=1, le=2**16)
    n_seq_max: int = Field(default=1, ge=1, le=512)
    defaults: DefaultsSection = DefaultsSection()
    embedding: EmbeddingSection | None = None
    vllm: VllmSection | None = None
    llama_cpp: LlamaSection | None = None
    attached: AttachedSection | None = None
