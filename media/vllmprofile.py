"""How vLLM opens a model: the settings of a version's profile, and the ranges outside of which they are refused.

The ranges are those that people who run vLLM in production keep to (requirements C13 to C18 and C26). A sender's
recipe and the appliance both ask here, so what a site would refuse is never signed. Decimal numbers are texts, as in
all that is signed.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Final

from media import canonical
from media.errors import MalformedError

TENSOR_PARALLEL: Final = (1, 2, 4, 8)
PIPELINE_PARALLEL: Final = (1, 2, 4)
_NEWER: Final = ("tool_call_parser", "reasoning_parser")
QUANTIZATIONS: Final = ("awq", "awq_marlin", "fp8", "gptq", "gptq_marlin")
"""Methods that weights may be quantized by; none is said for weights of 16 bits.

Of requirement C26 squeezellm is left out: vLLM has dropped it, and would not start."""
_PARSER: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}", re.ASCII)
PRODUCTION_ANSWERS: Final = 128
"""Answers at once that a version in production has at least (C16); a test stage does with fewer: none is refused."""
_MEMORY: Final = (Decimal("0.7"), Decimal("0.95"))


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmSettings:
    """What only vLLM asks for.

    Args:
        tensor_parallel_size: GPUs that share each layer.
        pipeline_parallel_size: Groups of GPUs that share the layers.
        gpu_memory_utilization: Share of a GPU's memory, as decimal text.
        quantization: The method of quantized weights; empty to read it from the weights' own configuration.
        enforce_eager: Compile no graphs: starts sooner, answers slower.
        tool_call_parser: Which of vLLM's readers knows the form in which the model calls functions, such as hermes;
            empty for a model that calls none.
        reasoning_parser: Which of them tells what the model thinks aloud from its answer, such as deepseek_r1; empty
            for a model whose text is all answer.
    """

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    gpu_memory_utilization: str = "0.90"
    quantization: str = ""
    enforce_eager: bool = False
    tool_call_parser: str = ""
    reasoning_parser: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a descriptor has them; the newer one only where it says something (older readers)."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in said.items() if value or name not in _NEWER}

    @classmethod
    def from_json(cls, untrusted: Any, what: str) -> "VllmSettings":
        """Read what a descriptor says.

        Raises:
            MalformedError: It has other fields, or of other types.
        """
        said: Mapping[str, Any] = canonical.mapping(untrusted, what)
        required = tuple(field.name for field in fields(cls) if field.name not in _NEWER)
        canonical.exact_keys(said, required, _NEWER, what=what)
        eager = said["enforce_eager"]
        if not isinstance(eager, bool):
            raise MalformedError(what=f"{what}.enforce_eager is not true or false", why="", fix="build it again")
        return cls(
            tensor_parallel_size=canonical.integer(said["tensor_parallel_size"], f"{what}.tensor_parallel_size"),
            pipeline_parallel_size=canonical.integer(said["pipeline_parallel_size"], f"{what}.pipeline_parallel_size"),
            gpu_memory_utilization=canonical.text(said["gpu_memory_utilization"], f"{what}.gpu_memory_utilization"),
            quantization=canonical.text(said["quantization"], f"{what}.quantization", may_be_empty=True),
            enforce_eager=eager,
            **{name: canonical.text(said[name], f"{what}.{name}") for name in _NEWER if name in said},
        )


def advice(n_seq_max: int) -> str:
    """Return what people should know of how many answers are made at once, before they sign or approve; "" for none."""
    if n_seq_max >= PRODUCTION_ANSWERS:
        return ""
    return f"n_seq_max is {n_seq_max}; in production vLLM is given at least {PRODUCTION_ANSWERS}"


def faults(settings: VllmSettings, *, n_ctx: int, n_batch: int, n_seq_max: int) -> Iterator[str]:
    """Yield what is outside its range, each with the range.

    Args:
        settings: Of vLLM alone.
        n_ctx: Tokens of one question and its answer (vLLM's max_model_len).
        n_batch: Tokens of one step (max_num_batched_tokens).
        n_seq_max: Answers at once (max_num_seqs).
    """
    for name, value, least, most in (
        ("n_ctx", n_ctx, 2048, 131072),
        ("n_batch", n_batch, 2048, 16384),
        ("n_seq_max", n_seq_max, 64, 512),
    ):
        if not least <= value <= most:
            yield f"{name} is {value}; vLLM is given {least} to {most}"
    for name, value, allowed in (
        ("tensor_parallel_size", settings.tensor_parallel_size, TENSOR_PARALLEL),
        ("pipeline_parallel_size", settings.pipeline_parallel_size, PIPELINE_PARALLEL),
    ):
        if value not in allowed:
            yield f"{name} is {value}; allowed are {', '.join(map(str, allowed))}"
    if settings.quantization and settings.quantization not in QUANTIZATIONS:
        yield f"quantization is {settings.quantization[:40]}; allowed are {', '.join(QUANTIZATIONS)}"
    for name in _NEWER:
        parser = getattr(settings, name)
        if parser and not _PARSER.fullmatch(parser):
            yield f"{name} is {parser[:40]!r}; it is one word, as vLLM names it"
    said = settings.gpu_memory_utilization
    if not canonical.DECIMAL.fullmatch(said) or not _MEMORY[0] <= Decimal(said) <= _MEMORY[1]:
        yield f"gpu_memory_utilization is {said[:12]!a}; allowed is {_MEMORY[0]} to {_MEMORY[1]}"
