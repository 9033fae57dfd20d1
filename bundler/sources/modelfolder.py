"""A model as a folder of safetensors, which vLLM loads: what must be in it, what may not, and the part each file plays.

Rules: `config.json`, a tokenizer, and one or more `.safetensors` files, with their index where there are several; names
of other kinds do not travel, pickled weights and code least of all. The scan compares index and headers and looks into
every file; here the folder is judged as a whole, against what the recipe says of the model.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from bundler.errors import RecipeError, ScanError
from bundler.recipe import ModelSection
from bundler.safetensors_header import INDEX_NAME
from media.attachedprofile import TOKENIZER
from media.canonical import loads, mapping
from media.errors import MediaError

CONFIG: Final = "config.json"
TEMPLATE: Final = "chat_template.jinja"
_TOKENIZERS: Final = frozenset({"tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json"})
_TOKENIZER_NAMES: Final = frozenset(
    {*_TOKENIZERS, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt", "vocab.txt"}
)
_OTHERS: Final = frozenset({".json", ".txt", ".model", ".tiktoken", ".md"})
_OURS: Final = frozenset({"LICENSE", "provenance.json", "descriptor.json"})
_PICKLED: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})
_METHODS: Final = frozenset({"awq", "gptq", "fp8", "compressed-tensors"})
# What a recipe may tell vLLM of weights that are quantized so, or by nothing; anything else it would not start with.
_TOLD: Final[Mapping[str, tuple[str, ...]]] = {
    "": ("fp8",),  # made so as they are loaded
    "awq": ("awq", "awq_marlin"),
    "gptq": ("gptq", "gptq_marlin"),
    "fp8": ("fp8",),
}
_CONTEXTS: Final = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
_MOST: Final = 64 * 2**20


def role_of(name: str) -> str:
    """Return the part that a file plays in a model: weights, index, tokenizer, template, or configuration."""
    suffix = PurePosixPath(name).suffix
    if suffix in {".safetensors", ".gguf"}:
        return "weights"
    if name.endswith(".safetensors.index.json"):
        return "index"
    if name in _TOKENIZER_NAMES or suffix in {".tiktoken", ".model"}:
        return "tokenizer"
    return "template" if name == TEMPLATE else "config"


def require_folder(model: ModelSection, names: frozenset[str]) -> None:
    """Pass when these files can be a model for vLLM.

    Raises:
        RecipeError: A file that must be there is not, or one is there that may not travel.
    """
    for name in sorted(names):
        suffix = PurePosixPath(name).suffix
        if name in _OURS:
            raise _refused(model, f"{name} would lie where the build puts its own", "leave it out")
        if suffix in _PICKLED:
            raise _refused(model, f"{name} is pickled, which runs code when it is loaded", "take safetensors")
        if suffix not in _OTHERS | {".safetensors"} and name != TEMPLATE:
            raise _refused(model, f"nothing that travels reads {name}", "leave it out")
    shards = sorted(name for name in names if role_of(name) == "weights")
    if not shards:
        raise _refused(model, "there are no .safetensors files", "name the weights")
    if CONFIG not in names:
        raise _refused(model, f"there is no {CONFIG}", "name it; vLLM reads the architecture from it")
    if not _TOKENIZERS & names:
        raise _refused(model, "there is no tokenizer", f"name one of {', '.join(sorted(_TOKENIZERS))}")
    if len(shards) > 1 and INDEX_NAME not in names:
        raise _refused(model, f"{len(shards)} weight files have no {INDEX_NAME}", "name the index")


def require_countable(model: ModelSection, names: frozenset[str]) -> None:
    """Pass when the launcher can count the model's tokens, where its attached engine leaves that to the launcher.

    Raises:
        RecipeError: The file that it counts by does not travel.
    """
    attached = model.runtime.attached
    if attached is not None and attached.settings("").is_counted_here and TOKENIZER not in names:
        raise _refused(model, f"there is no {TOKENIZER}", f"name it; the launcher counts tokens for {attached.dialect}")


def quantization_of(model: ModelSection, untrusted_config: bytes) -> dict[str, Any]:
    """Return what a configuration says of quantized weights; empty for full precision.

    Raises:
        RecipeError: The recipe says otherwise than the configuration, of quantization or of the context.
        ScanError: The configuration cannot be read.
    """
    try:
        config = mapping(loads(untrusted_config, max_bytes=_MOST, allow_floats=True), CONFIG)
    except MediaError as error:
        raise ScanError(
            what=f"{CONFIG} of {model.name} cannot be read", why=error.why, fix="take it from its publisher again"
        ) from error
    inner = config.get("text_config")
    most = next(
        (
            place[name]
            for place in (config, inner if isinstance(inner, dict) else {})
            for name in _CONTEXTS
            if isinstance(place.get(name), int)
        ),
        None,
    )
    if most is not None and model.context_tokens > most:
        raise RecipeError(
            what=f"models.{model.name}.context_tokens: {model.context_tokens} is more than the model has",
            why=f"{CONFIG} says {most}",
            fix="lower it",
        )
    found = _quantized(model, config.get("quantization_config"))
    _require_told_alike(model, found.get("quant_method", ""))
    return found


def template_of(files: Mapping[str, bytes]) -> bytes | None:
    """Return the chat template that a folder brings, as a file or in the tokenizer's configuration.

    Raises:
        ScanError: The tokenizer's configuration cannot be read.
    """
    if TEMPLATE in files:
        return files[TEMPLATE]
    untrusted = files.get("tokenizer_config.json")
    if untrusted is None:
        return None
    try:
        found = mapping(loads(untrusted, max_bytes=_MOST, allow_floats=True), "tokenizer_config.json")
    except MediaError as error:
        raise ScanError(
            what="tokenizer_config.json cannot be read", why=error.why, fix="take it from its publisher again"
        ) from error
    template = found.get("chat_template")
    return template.encode() if isinstance(template, str) and template else None


def _require_told_alike(model: ModelSection, method: str) -> None:
    told = model.runtime.vllm.quantization if model.runtime.vllm is not None else ""
    if told and told not in _TOLD.get(method, ()):
        raise RecipeError(
            what=f"models.{model.name}.runtime.vllm.quantization: vLLM would not start with {told}",
            why=f"{CONFIG} says that the weights are quantized by {method or 'nothing'}",
            fix="leave it out: vLLM reads it there",
        )


def _quantized(model: ModelSection, untrusted: Any) -> dict[str, Any]:
    said = model.quantization.lower()
    if untrusted is None:
        if any(method in said for method in ("awq", "gptq")):
            raise RecipeError(
                what=f"models.{model.name}.quantization: {model.quantization}, but the weights are not quantized so",
                why=f"{CONFIG} has no quantization_config",
                fix="say what the weights are",
            )
        return {}
    method = untrusted.get("quant_method") if isinstance(untrusted, dict) else None
    if method not in _METHODS:
        raise RecipeError(
            what=f"models.{model.name}.source: weights quantized by {str(method)[:40]!a} are not served",
            why=f"known are {', '.join(sorted(_METHODS))}",
            fix="take other weights",
        )
    if method != "compressed-tensors" and str(method) not in said:
        raise RecipeError(
            what=f"models.{model.name}.quantization: it does not say {method}",
            why=f"{CONFIG} says that the weights are quantized by {method}",
            fix=f'write e.g. "{str(method).upper()} 4-bit"',
        )
    # Whole numbers and switches only: what is signed holds no floats.
    kept = {name: untrusted.get(name) for name in ("bits", "group_size", "desc_act", "zero_point")}
    return {"quant_method": method, **{name: value for name, value in kept.items() if isinstance(value, int)}}


def _refused(model: ModelSection, why: str, fix: str) -> RecipeError:
    engine = "vLLM" if model.engine == "vllm" else "an attached engine"
    return RecipeError(what=f"models.{model.name}.source: this is no model for {engine}", why=why, fix=fix)
