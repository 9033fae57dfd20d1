"""The twelve GGUF levels that a recipe may ask for: what each saves, what it costs, and whether it is advised.

Savings are against 16-bit weights and, like the losses, what is commonly found; what a level costs one model is
measured by its task sets.
"""

from dataclasses import dataclass
from typing import Final, Literal

LevelName = Literal[
    "Q2_K", "Q3_K_S", "Q3_K_M", "Q4_0", "Q4_K_S", "Q4_K_M", "Q5_0", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0", "F16"
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One level; `file_type` is llama.cpp's number for it, `saved` percent of the 16-bit size."""

    file_type: int
    saved: int
    loss: str
    is_advised: bool = True


LEVELS: Final[dict[LevelName, Level]] = {
    "Q2_K": Level(file_type=10, saved=75, loss="significant", is_advised=False),
    "Q3_K_S": Level(file_type=11, saved=70, loss="high", is_advised=False),
    "Q3_K_M": Level(file_type=12, saved=65, loss="medium to high; only if necessary"),
    "Q4_0": Level(file_type=2, saved=60, loss="medium; legacy", is_advised=False),
    "Q4_K_S": Level(file_type=14, saved=55, loss="low to medium"),
    "Q4_K_M": Level(file_type=15, saved=50, loss="low; the default"),
    "Q5_0": Level(file_type=8, saved=50, loss="low"),
    "Q5_K_S": Level(file_type=16, saved=45, loss="low"),
    "Q5_K_M": Level(file_type=17, saved=40, loss="very low; for production"),
    "Q6_K": Level(file_type=18, saved=35, loss="near that of 16 bits"),
    "Q8_0": Level(file_type=7, saved=25, loss="almost none"),
    "F16": Level(file_type=1, saved=0, loss="none"),
}
FULL_PRECISION: Final = frozenset({"F32", "F16", "BF16"})


def advice(name: str) -> str:
    """Say why two people should look at a level; empty for one that is advised or that is none of the twelve."""
    level = next((found for known, found in LEVELS.items() if known == name), None)
    if level is None or (level.is_advised and name != "Q3_K_M"):
        return ""
    standing = "only if necessary" if level.is_advised else "not recommended"
    return f"{name} is {standing}: about {level.saved}% smaller, loss of quality {level.loss.partition(';')[0]}"


def refusal(name: str) -> str:
    """Say why a level is not for production; empty for one that may be, or that is none of the twelve."""
    level = next((found for known, found in LEVELS.items() if known == name), None)
    if level is None or level.is_advised:
        return ""
    return f"{name} is not recommended: loss of quality {level.loss.partition(';')[0]}"


def room(level: LevelName, *, weights: int, other_bytes: int) -> int:
    """Return how many bytes a quantized file may take, on the safe side.

    Args:
        level: The level.
        weights: How many weights the model has.
        other_bytes: What is no tensor: header, vocabulary, template.
    """
    return weights * 2 * (100 - LEVELS[level].saved) // 100 + other_bytes + 2**20


def columns(level: LevelName) -> int:
    """Return by how many the columns of a matrix must be divisible to take a level; a matrix that is not falls back."""
    return 256 if "_K" in level else 1 if level == "F16" else 32
