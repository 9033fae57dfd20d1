"""The GGUF levels that a recipe may ask for: what each saves, what it costs, and whether it is advised.

They are the twelve of the requirements (I22) and IQ4_NL, which llama.cpp has a layout for on every processor with AVX2.

Savings are against 16-bit weights, by the sizes that were measured of a 7B model (I26): 13 GB, Q8_0 7.16, Q5_1 5.66,
Q4_0 4.08. Levels that were not measured lie between these by their bits. Losses are what is commonly found; what a
level costs one model is measured by its task sets.
"""

from dataclasses import dataclass
from typing import Final, Literal

LevelName = Literal[
    "Q2_K", "Q3_K_S", "Q3_K_M", "Q4_0", "IQ4_NL", "Q4_K_S", "Q4_K_M", "Q5_0", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0", "F16"
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One level.

    Attributes:
        file_type: llama.cpp's number for it.
        saved: Percent of the 16-bit size, measured.
        least_saved: What room is planned by: the savings that are commonly printed, which are lower. A model whose
            matrices fall back on larger types saves less than others.
        loss: Of quality, in words.
    """

    file_type: int
    saved: int
    least_saved: int
    loss: str
    is_advised: bool = True


LEVELS: Final[dict[LevelName, Level]] = {
    "Q2_K": Level(file_type=10, saved=78, least_saved=75, loss="significant", is_advised=False),
    "Q3_K_S": Level(file_type=11, saved=75, least_saved=70, loss="high", is_advised=False),
    "Q3_K_M": Level(file_type=12, saved=73, least_saved=65, loss="medium to high; only if necessary"),
    "Q4_0": Level(file_type=2, saved=69, least_saved=60, loss="medium; legacy", is_advised=False),
    "IQ4_NL": Level(file_type=25, saved=69, least_saved=60, loss="low to medium; for processors without VNNI"),
    "Q4_K_S": Level(file_type=14, saved=68, least_saved=55, loss="low to medium"),
    "Q4_K_M": Level(file_type=15, saved=66, least_saved=50, loss="low; the default"),
    "Q5_0": Level(file_type=8, saved=61, least_saved=50, loss="low"),
    "Q5_K_S": Level(file_type=16, saved=61, least_saved=45, loss="low"),
    "Q5_K_M": Level(file_type=17, saved=59, least_saved=40, loss="very low; for production"),
    "Q6_K": Level(file_type=18, saved=54, least_saved=35, loss="near that of 16 bits"),
    "Q8_0": Level(file_type=7, saved=45, least_saved=25, loss="almost none"),
    "F16": Level(file_type=1, saved=0, least_saved=0, loss="none"),
}
FULL_PRECISION: Final = frozenset({"F32", "F16", "BF16"})


def advice(name: str) -> str:
    """Say why two people should look at a level; empty for one that is advised or that is none of these."""
    level = next((found for known, found in LEVELS.items() if known == name), None)
    if level is None or (level.is_advised and name != "Q3_K_M"):
        return ""
    standing = "only if necessary" if level.is_advised else "not recommended"
    return f"{name} is {standing}: about {level.saved}% smaller, loss of quality {level.loss.partition(';')[0]}"


def refusal(name: str) -> str:
    """Say why a level is not for production; empty for one that may be, or that is none of these."""
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
    return weights * 2 * (100 - LEVELS[level].least_saved) // 100 + other_bytes + 2**20


def columns(level: LevelName) -> int:
    """Return by how many the columns of a matrix must be divisible to take a level; a matrix that is not falls back."""
    return 256 if "_K" in level else 1 if level == "F16" else 32
