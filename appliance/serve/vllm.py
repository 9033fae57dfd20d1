"""vLLM, supervised as it is: the argument list and the environment of its own server, from a version's profile.

Ranges are those of the field (requirements C5-C24); what lies outside is refused, and remote code is never trusted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.errors import EngineLoadError

ENVIRONMENT: Final[Mapping[str, str]] = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_TENSOR_PARALLEL: Final = frozenset({1, 2, 4, 8})


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmProfile:
    """Runtime settings of one version under vLLM."""

    max_model_len: int = 8192
    gpu_memory_utilization: float = 0.90
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    tensor_parallel_size: int = 1

    def __post_init__(self) -> None:
        _require(0.7 <= self.gpu_memory_utilization <= 0.95, "gpu_memory_utilization", "0.7 to 0.95")
        _require(64 <= self.max_num_seqs <= 512, "max_num_seqs", "64 to 512")
        _require(2048 <= self.max_num_batched_tokens <= 16384, "max_num_batched_tokens", "2048 to 16384")
        _require(2048 <= self.max_model_len <= 131072, "max_model_len", "2048 to 131072")
        _require(self.tensor_parallel_size in _TENSOR_PARALLEL, "tensor_parallel_size", "1, 2, 4 or 8")


def _require(holds: bool, key: str, allowed: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not holds:
        raise EngineLoadError(
            what=f"the vLLM profile's {key} is out of range", why=f"allowed: {allowed}", fix="change the recipe"
        )


def arguments(python: Path, model: Path, socket: Path, *, served_name: str, profile: VllmProfile) -> list[str]:
    """Return the argument vector of vLLM's OpenAI server on a Unix socket; prompts are not logged."""
    return [
        str(python),
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(model),
        "--tokenizer",
        str(model),
        "--uds",
        str(socket),
        "--served-model-name",
        served_name,
        "--max-model-len",
        str(profile.max_model_len),
        "--gpu-memory-utilization",
        f"{profile.gpu_memory_utilization:.2f}",
        "--max-num-seqs",
        str(profile.max_num_seqs),
        "--max-num-batched-tokens",
        str(profile.max_num_batched_tokens),
        "--tensor-parallel-size",
        str(profile.tensor_parallel_size),
        "--enable-chunked-prefill",
    ]
