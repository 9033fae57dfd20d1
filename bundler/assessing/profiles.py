"""Settings of vLLM for models and cards that people use, to put into a recipe as they are (C10 to C12)."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from media.errors import UsageError
from media.vllmprofile import VllmSettings

_ALL: Final = {field.name: field.default for field in fields(VllmSettings)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How a model of some size is opened on some cards.

    Attributes:
        name: What it is asked for by.
        model: Of which size and form the model is.
        gpus: The cards.
        n_ctx: Tokens of a question and its answer.
        n_batch: Tokens of one step.
        n_seq_max: Answers at once.
        vllm: What only vLLM asks for.
    """

    name: str
    model: str
    gpus: str
    n_ctx: int
    n_batch: int = 8192
    n_seq_max: int = 256
    vllm: VllmSettings

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return asdict(self)

    def to_toml(self) -> str:
        """Return the lines of a recipe, behind those of the model's `[[models]]`; defaults are left out."""
        lines = ["[models.runtime]", *(f"{name} = {getattr(self, name)}" for name in ("n_ctx", "n_batch", "n_seq_max"))]
        chosen = {name: value for name, value in asdict(self.vllm).items() if value != _ALL[name]}
        lines += ["", "[models.runtime.vllm]"] if chosen else []
        for name, value in chosen.items():
            is_text = isinstance(value, str) and name != "gpu_memory_utilization"
            lines.append(f'{name} = "{value}"' if is_text else f"{name} = {value}")
        return "\n".join(lines)


PROFILES: Final = (
    Profile(
        name="70b-awq",
        model="70B, AWQ",
        gpus="1 of 80 GB",
        n_ctx=65536,
        vllm=VllmSettings(quantization="awq"),
    ),
    Profile(
        name="70b-bf16",
        model="70B, BF16",
        gpus="2 of 80 GB",
        n_ctx=131072,
        n_batch=16384,
        vllm=VllmSettings(tensor_parallel_size=2, gpu_memory_utilization="0.92"),
    ),
    Profile(
        name="70b-awq-40gb",
        model="70B, AWQ",
        gpus="4 of 40 GB",
        n_ctx=16384,
        vllm=VllmSettings(tensor_parallel_size=4, gpu_memory_utilization="0.95", quantization="awq"),
    ),
    Profile(
        name="33b-bf16",
        model="33B, BF16",
        gpus="2 of 48 GB",
        n_ctx=16384,
        vllm=VllmSettings(tensor_parallel_size=2),
    ),
    Profile(
        name="34b-awq-24gb",
        model="34B, AWQ",
        gpus="2 of 24 GB",
        n_ctx=8192,
        n_seq_max=128,
        vllm=VllmSettings(tensor_parallel_size=2, quantization="awq"),
    ),
)


def named(name: str) -> Profile:
    """Return one profile.

    Raises:
        UsageError: There is none of that name.
    """
    for profile in PROFILES:
        if profile.name == name:
            return profile
    names = ", ".join(profile.name for profile in PROFILES)
    raise UsageError(what=f"there is no profile {name[:40]!r}", why=f"there are {names}", fix="name one of them")
