"""What people commonly run on what: the requirements' tables of models, GPUs, speeds and machines, as data (B1 to B56).

Figures of others, for choosing what to carry; nothing is refused for them, and what a machine does with a version is
measured on it (`sealift capacity`, the gates). `known_models.json` lies beside this module and rides in the wheel.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

from media import canonical
from media.errors import UsageError

Task = Literal["chat", "code", "completion", "review", "documentation", "embeddings"]
TASKS: Final = ("chat", "code", "completion", "review", "documentation", "embeddings")
QUALITIES: Final = ("highest", "high", "medium", "low")
_FILE: Final = "known_models.json"
_SLOW_MILLIS: Final = 100
# Least GiB of GPU memory -> what fits, the largest first (B48).
_CODE: Final = {
    "highest": (
        (320, "deepseek-coder-v2:236b"), (160, "deepseek-coder-v2:236b-awq"), (80, "qwen2.5-coder:32b"),
    ),
    "high": (
        (48, "codellama:34b-instruct"), (24, "deepseek-coder:33b-instruct-q4"), (12, "codellama:13b-instruct"),
        (0, "codellama:7b-instruct"),
    ),
}  # fmt: skip
# The same for chat (B49).
_CHAT: Final = (
    (160, "llama3.1:70b-instruct"), (80, "llama3.1:70b-instruct-awq"), (24, "llama3.1:8b-instruct"),
    (0, "llama3.1:8b-instruct-q4"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """One row of the catalogue. `id` is the requirement; sizes in GB, as publishers state them.

    `attribution` is what the licence wants users to be shown, beside the licence's text that travels with the weights.
    """

    id: str
    name: str
    tag: str
    task: str
    tier: int
    billions: int
    context: int
    fp16_gb: int
    hardware: str
    uses: tuple[str, ...]
    quantized: str
    license: str
    attribution: str = ""
    tools: bool = False
    served_gb: int | None = None
    tokens_per_second: tuple[int, int] | None = None
    dollars_per_hour: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        own = {name: getattr(self, name) for name in self.__slots__}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in own.items()}


@cache
def tables() -> dict[str, Any]:
    """Return the tables: models, gpus, speeds, machines, scales, sizes."""
    raw = (files("appliance.registry") / _FILE).read_bytes()
    return canonical.mapping(canonical.loads(raw), _FILE)


@cache
def known_models() -> tuple[KnownModel, ...]:
    """Return the catalogue, in the requirements' order."""
    return tuple(_row(row) for row in canonical.array(tables()["models"], _FILE))


def recommend_model(*, task: str, memory_gib: float, quality: str = "high", latency_ms: float = 1000) -> str:
    """Return the tag of a model to choose, as the requirements' decision trees do (B48, B49, B50).

    Args:
        task: chat, code, completion, review, documentation or embeddings.
        memory_gib: Of the GPUs together.
        quality: highest, high, medium or low.
        latency_ms: What a caller waits at most.

    Raises:
        UsageError: No such task or quality; or nothing of that quality fits one machine.
    """
    if task not in TASKS or quality not in QUALITIES or memory_gib < 0:
        raise UsageError(
            what="no model can be recommended",
            why=f"tasks: {', '.join(TASKS)}; qualities: {', '.join(QUALITIES)}",
            fix="see `sealift models advise --help`",
        )
    is_high = quality in {"highest", "high"}
    fixed = {
        "embeddings": "nomic-embed-text:v1.5",
        "completion": "codellama:34b-instruct" if is_high else "codellama:13b-instruct",
        "review": "deepseek-coder:33b-instruct",
        "documentation": "llama3.1:8b-instruct",
    }
    if task in fixed:
        return fixed[task]
    if task == "code":
        return _code(memory_gib, quality, latency_ms)
    return _first(_CHAT, memory_gib) if is_high else "llama3.1:8b-instruct-q4"


def _code(memory_gib: float, quality: str, latency_ms: float) -> str:
    if quality == "medium":
        return "codellama:7b-instruct" if latency_ms < _SLOW_MILLIS else "codellama:13b-instruct-q4"
    if quality == "low":
        return "codellama:7b-instruct-q4"
    return _first(_CODE[quality], memory_gib)


def _first(choices: tuple[tuple[int, str], ...], memory_gib: float) -> str:
    for least, tag in choices:
        if memory_gib >= least:
            return tag
    raise UsageError(
        what="nothing of that quality fits",
        why=f"{memory_gib:g} GiB, and the smallest choice takes {choices[-1][0]}",
        fix="ask for less quality, or serve from several machines (docs/operator/kubernetes.md)",
    )


def machine_for(billions: float) -> dict[str, Any] | None:
    """Return the row of the machine that a model of so many parameters needs at least (B14); None above the table."""
    rows = [canonical.mapping(row, _FILE) for row in canonical.array(tables()["machines"], _FILE)]
    return next((row for row in rows if billions <= row["billions"]), None)


def _row(row: dict[str, Any]) -> KnownModel:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return KnownModel(**fields)
