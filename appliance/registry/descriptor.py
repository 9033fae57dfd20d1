"""The descriptor: the one file whose SHA-256 is a version's `model_digest` (docs/format.md, "Model descriptor").

It names everything that changes answers: files, engine environment, chat template, system prompt, rules, runtime.
Bytes that are not canonical (RFC 8785) are refused, so one content has one digest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any, Final, Literal, Self, get_args

from media import attachedprofile, canonical, embedding
from media.attachedprofile import AttachedSettings
from media.embedding import EmbeddingProfile
from media.errors import MalformedError, UnsupportedFormatError
from media.llamaprofile import DRAFT_ROLE, ON_PROCESSOR, LlamaSettings, faults
from media.vllmprofile import VllmSettings

FORMAT: Final = 1
Engine = Literal["llama.cpp", "vllm", "attached"]
ENGINES: Final[tuple[Engine, ...]] = get_args(Engine)
_MOST_PENALTY: Final = 100
FIELDS: Final = (
    "name",
    "version",
    "engine",
    "environment",
    "files",
    "chat_template",
    "system_prompt",
    "rules",
    "runtime",
    "quantization",
    "license",
    "context_tokens",
)
"""What a descriptor says besides its format, in the order people read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file of a version: its path on the medium, its part in the model, its digest and length in bytes."""

    path: str
    role: str
    sha256: str
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """How the engine loads it: context and batch in tokens, answers at once; what one engine alone asks; embeddings.

    A profile of before `llama` was known stands for its defaults: everything on the processor, nothing left out.
    `max_tokens` is how long an answer may be where a caller names no length; 0 leaves that to the site.
    """

    n_ctx: int
    n_batch: int
    n_seq_max: int
    temperature: float
    top_p: float
    top_k: int = 0
    repeat_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    max_tokens: int = 0
    vllm: VllmSettings | None = None
    llama: LlamaSettings = ON_PROCESSOR
    embedding: EmbeddingProfile | None = None
    attached: AttachedSettings | None = None

    @property
    def request_tokens(self) -> int:
        """How many tokens a conversation and its answer may have."""
        return self.llama.request_tokens(n_ctx=self.n_ctx, n_seq_max=self.n_seq_max)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescriptor:
    """One version as one unit."""

    model_digest: str
    name: str
    version: str
    engine: Engine
    environment: str
    files: tuple[ModelFile, ...]
    template_path: str
    template_sha256: str
    system_prompt: str
    rules: tuple[str, ...]
    runtime: Runtime
    quantization: str
    license: str
    context_tokens: int
    raw: bytes

    @property
    def is_content_addressed(self) -> bool:
        """Whether the release brings the program that answers too; where it does not, the version is for test alone."""
        return self.runtime.attached is None or self.runtime.attached.is_content_addressed

    @property
    def weights(self) -> tuple[ModelFile, ...]:
        """The files that hold weights."""
        return tuple(file for file in self.files if file.role == "weights")

    def file_named(self, name: str) -> ModelFile | None:
        """Return the file of that name, in whichever folder; None where the version brings none."""
        return next((file for file in self.files if PurePosixPath(file.path).name == name), None)

    @property
    def weights_bytes(self) -> int:
        """How many bytes these files have."""
        return sum(file.length for file in self.weights)

    @property
    def gguf(self) -> ModelFile | None:
        """The GGUF file that it is served from: of llama.cpp always, of an attached engine where it is all there is."""
        weights = self.weights
        is_one = self.engine == "attached" and len(weights) == 1 and weights[0].path.endswith(".gguf")
        return weights[0] if self.engine == "llama.cpp" or is_one else None

    @property
    def embedding_weights(self) -> ModelFile | None:
        """The file that embeddings are made with; None where the version makes none."""
        if self.runtime.embedding is None:
            return None
        own = (file for file in self.files if file.role == embedding.ROLE)
        return next(own, self.weights[0])

    @property
    def draft_weights(self) -> ModelFile | None:
        """The file of the small model that guesses; None where none does."""
        return next((file for file in self.files if file.role == DRAFT_ROLE), None)

    @property
    def weights_digest(self) -> str:
        """The single weights file's SHA-256, or that of the canonical list of [path, sha256]."""
        weights = self.weights
        if len(weights) == 1:
            return weights[0].sha256
        return sha256(canonical.dumps(sorted([file.path, file.sha256] for file in weights))).hexdigest()

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse a descriptor.

        Raises:
            MalformedError: It is not canonical JSON of exactly these fields.
            UnsupportedFormatError: Its format is newer.
        """
        fields = canonical.mapping(canonical.loads_canonical(untrusted), "descriptor")
        if fields.get("format") != FORMAT:
            raise UnsupportedFormatError(
                what="the model descriptor has another format",
                why=f"expected {FORMAT}",
                fix="update the appliance with an older release first",
            )
        canonical.exact_keys(fields, ("format", *FIELDS), what="descriptor")
        engine = canonical.text(fields["engine"], "descriptor.engine")
        if engine not in ENGINES:
            raise MalformedError(
                what="the model descriptor names an unknown engine", why=engine[:40], fix="build it again"
            )
        runtime = _runtime(canonical.mapping(fields["runtime"], "descriptor.runtime"))
        if runtime.max_tokens > runtime.request_tokens:
            raise MalformedError(
                what="descriptor.runtime.defaults.max_tokens is out of range",
                why=f"{runtime.request_tokens} tokens are all that a conversation may have",
                fix="build it again",
            )
        if (engine == "attached") != (runtime.attached is not None):
            raise MalformedError(
                what="descriptor.runtime.attached is malformed",
                why="it is there for attached engines, and for no other",
                fix="build it again",
            )
        template = canonical.mapping(fields["chat_template"], "descriptor.chat_template")
        files = tuple(_file(one) for one in canonical.array(fields["files"], "descriptor.files"))
        if not any(file.role == "weights" for file in files):
            raise MalformedError(what="the model descriptor names no weights", why="files", fix="build it again")
        if sum(file.role == DRAFT_ROLE for file in files) != (runtime.llama.draft_tokens > 0):
            raise MalformedError(
                what="descriptor.runtime.llama_cpp.draft_tokens is malformed",
                why="it is above 0 where one file has the role draft, and nowhere else",
                fix="build it again",
            )
        return cls(
            model_digest=sha256(untrusted).hexdigest(),
            name=canonical.text(fields["name"], "descriptor.name"),
            version=canonical.text(fields["version"], "descriptor.version"),
            engine=canonical.one_of(engine, ENGINES, "descriptor.engine"),
            environment=canonical.sha256_hex(fields["environment"], "descriptor.environment"),
            files=files,
            template_path=canonical.text(template.get("path"), "descriptor.chat_template.path"),
            template_sha256=canonical.sha256_hex(template.get("sha256"), "descriptor.chat_template.sha256"),
            system_prompt=canonical.text(
                fields["system_prompt"], "descriptor.system_prompt", may_be_empty=True, lines=True
            ),
            rules=tuple(
                canonical.text(rule, "descriptor.rules")
                for rule in canonical.array(fields["rules"], "descriptor.rules")
            ),
            runtime=runtime,
            quantization=canonical.text(fields["quantization"], "descriptor.quantization"),
            license=canonical.text(fields["license"], "descriptor.license"),
            context_tokens=canonical.integer(fields["context_tokens"], "descriptor.context_tokens"),
            raw=untrusted,
        )


def _file(value: Any) -> ModelFile:
    fields = canonical.mapping(value, "descriptor.files")
    canonical.exact_keys(fields, ("path", "role", "sha256", "length"), what="descriptor.files")
    return ModelFile(
        path=canonical.text(fields["path"], "descriptor.files.path"),
        role=canonical.text(fields["role"], "descriptor.files.role"),
        sha256=canonical.sha256_hex(fields["sha256"], "descriptor.files.sha256"),
        length=canonical.integer(fields["length"], "descriptor.files.length"),
    )


def _runtime(fields: Mapping[str, Any]) -> Runtime:
    defaults = canonical.mapping(fields.get("defaults"), "descriptor.runtime.defaults")
    return Runtime(
        n_ctx=canonical.integer(fields.get("n_ctx"), "descriptor.runtime.n_ctx"),
        n_batch=canonical.integer(fields.get("n_batch"), "descriptor.runtime.n_batch"),
        n_seq_max=canonical.integer(fields.get("n_seq_max"), "descriptor.runtime.n_seq_max"),
        # The codec knows no floats: decimal texts, so that a digest never depends on how a number is printed.
        temperature=_decimal(defaults.get("temperature"), "temperature"),
        top_p=_decimal(defaults.get("top_p"), "top_p"),
        top_k=canonical.integer(defaults.get("top_k", 0), "descriptor.runtime.defaults.top_k"),
        repeat_penalty=_positive(defaults.get("repeat_penalty", "1"), "repeat_penalty"),
        stop=tuple(
            canonical.text(one, "descriptor.runtime.defaults.stop")
            for one in canonical.array(defaults.get("stop", []), "descriptor.runtime.defaults.stop", most=4)
        ),
        max_tokens=canonical.integer(defaults.get("max_tokens", 0), "descriptor.runtime.defaults.max_tokens"),
        vllm=VllmSettings.from_json(fields["vllm"], "descriptor.runtime.vllm") if "vllm" in fields else None,
        embedding=EmbeddingProfile.from_json(fields["embedding"], "descriptor.runtime.embedding")
        if "embedding" in fields
        else None,
        llama=_llama(fields),
        attached=_attached(fields),
    )


def _attached(fields: Mapping[str, Any]) -> AttachedSettings | None:
    if "attached" not in fields:
        return None
    what = "descriptor.runtime.attached"
    settings = AttachedSettings.from_json(fields["attached"], what)
    fault = next(attachedprofile.faults(settings), None)
    for other in ("vllm", "llama_cpp", "embedding"):
        if other in fields:
            fault = fault or f"this version has {other} too"
    if fault is not None:
        raise MalformedError(what=f"{what} is malformed", why=fault, fix="build it again")
    return settings


def _llama(fields: Mapping[str, Any]) -> LlamaSettings:
    if "llama_cpp" not in fields:
        return ON_PROCESSOR
    what = "descriptor.runtime.llama_cpp"
    settings = LlamaSettings.from_json(fields["llama_cpp"], what)
    n_ctx = canonical.integer(fields.get("n_ctx"), "descriptor.runtime.n_ctx")
    n_seq_max = canonical.integer(fields.get("n_seq_max"), "descriptor.runtime.n_seq_max", minimum=1)
    if fault := next(faults(settings, n_ctx=n_ctx, n_seq_max=n_seq_max), None):
        raise MalformedError(what=f"{what} is out of range", why=fault, fix="build it again")
    if "vllm" in fields:
        raise MalformedError(what=f"{what} is malformed", why="this version is for vLLM", fix="build it again")
    return settings


def _positive(untrusted: Any, what: str) -> float:
    value = _decimal(untrusted, what)
    if not 0 < value < _MOST_PENALTY:
        raise MalformedError(
            what=f"descriptor {what} is out of range", why=f"above 0, below {_MOST_PENALTY}", fix="build it again"
        )
    return value


def _decimal(untrusted: Any, what: str) -> float:
    text = canonical.text(untrusted, f"descriptor.runtime.defaults.{what}")
    try:
        value = float(text)
    except ValueError as error:
        raise MalformedError(
            what=f"descriptor {what} is not a number", why="expected a decimal text", fix="build it again"
        ) from error
    return value
