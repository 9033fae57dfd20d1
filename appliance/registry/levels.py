"""Quantization levels: what each saves and costs by common figures, and which to choose for a machine.

Data of the requirements (I22 to I28, as docs/operator/models.md repeats them): what was measured of one model or is
commonly found, never a promise for another. What a level costs a model on a site's own tasks is measured by the gates.
"""

from dataclasses import dataclass
from typing import Final

from media.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One level.

    Attributes:
        saved_percent: How much smaller it is than 16 bits: as measured of a 7B model (`known_models.json`, sizes), else
            by its bits between those that were.
        loss: Of quality, in words.
        bits_per_weight: Of the file, about; what sizing computes with.
        note: Whether it is advised.
        perplexity_increase_millis: In thousandths, where it is commonly stated (I25).
        quality_percent: Of full precision, likewise.
        size_percent: Likewise.
    """

    name: str
    saved_percent: int
    loss: str
    bits_per_weight: float
    note: str = ""
    perplexity_increase_millis: int | None = None
    quality_percent: int | None = None
    size_percent: int | None = None


LEVELS: Final = (
    Level(
        name="F16", saved_percent=0, loss="none", bits_per_weight=16.0,
        perplexity_increase_millis=0, quality_percent=100, size_percent=100,
    ),
    Level(
        name="Q8_0", saved_percent=45, loss="almost none", bits_per_weight=8.5,
        perplexity_increase_millis=10, quality_percent=99, size_percent=50,
    ),
    Level(
        name="Q6_K", saved_percent=54, loss="near that of 16 bits", bits_per_weight=6.6,
        perplexity_increase_millis=20, quality_percent=98, size_percent=38,
    ),
    Level(
        name="Q5_K_M", saved_percent=59, loss="very low", bits_per_weight=5.7, note="for production",
        perplexity_increase_millis=50, quality_percent=95, size_percent=31,
    ),
    Level(name="Q5_K_S", saved_percent=61, loss="low", bits_per_weight=5.5),
    Level(name="Q5_1", saved_percent=56, loss="low", bits_per_weight=6.0),
    Level(name="Q5_0", saved_percent=61, loss="low", bits_per_weight=5.5),
    Level(
        name="Q4_K_M", saved_percent=66, loss="low", bits_per_weight=4.85, note="the default choice",
        perplexity_increase_millis=100, quality_percent=90, size_percent=25,
    ),
    Level(name="Q4_K_S", saved_percent=68, loss="low to medium", bits_per_weight=4.6),
    Level(
        name="IQ4_NL", saved_percent=69, loss="low to medium", bits_per_weight=4.5,
        note="for processors where Q8_0 has no layout: see docs/operator/models.md",
    ),
    Level(name="Q4_1", saved_percent=65, loss="medium", bits_per_weight=5.0),
    Level(name="Q4_0", saved_percent=69, loss="medium", bits_per_weight=4.5, note="not recommended; legacy"),
    Level(
        name="Q3_K_M", saved_percent=73, loss="medium to high", bits_per_weight=3.9, note="only if necessary",
        perplexity_increase_millis=250, quality_percent=75, size_percent=19,
    ),
    Level(name="Q3_K_S", saved_percent=75, loss="high", bits_per_weight=3.6, note="not recommended"),
    Level(name="Q2_K", saved_percent=78, loss="significant", bits_per_weight=3.2, note="not recommended"),
    Level(
        name="AWQ_4bit", saved_percent=75, loss="low", bits_per_weight=4.25,
        note="for vLLM; group of 128, needs calibration data, usually better and faster than GPTQ",
        perplexity_increase_millis=80, quality_percent=92, size_percent=25,
    ),
    Level(
        name="GPTQ_4bit", saved_percent=75, loss="low to medium", bits_per_weight=4.25,
        note="for vLLM; production: group of 128 with ordered activations",
        perplexity_increase_millis=120, quality_percent=88, size_percent=25,
    ),
    Level(name="FP8", saved_percent=50, loss="almost none", bits_per_weight=8.0, note="for vLLM on H100 and later"),
)  # fmt: skip
_BY_NAME: Final = {level.name: level for level in LEVELS}
_SAME: Final = {"BF16": "F16", "FP16": "F16", "AWQ": "AWQ_4bit", "GPTQ": "GPTQ_4bit"}
USES: Final = ("production", "development")
# Share of the memory that 16 bits take, in hundredths, and what fits it for production and for development (I24).
_MATRIX: Final = (
    (120, "F16", "F16"),
    (90, "Q8_0", "Q8_0"),
    (60, "Q6_K", "Q6_K"),
    (50, "Q5_K_M", "Q5_K_S"),
    (40, "Q4_K_M", "Q4_K_S"),
    (30, "Q4_K_M", "Q4_K_M"),
)
_ELSE: Final = "Q3_K_M"
_COMPARED: Final = (
    "; `sealift models variants` says what each gives here. Q4_1 comes so from its source: no recipe makes it."
)
# By the first of these flags that a processor names. What was measured of whole answers: docs/operator/models.md.
_BY_FLAG: Final = {
    "amx_int8": (
        "This processor has AMX: on such a one Q4_0, Q4_1 and Q8_0 gave several callers most, IQ4_NL, for which "
        "llama.cpp has no tiles, two fifths less. Of these Q8_0 loses least"
    ),
    "avx512_vnni": (
        "This processor has AVX-512 with VNNI and no AMX: on such a one Q4_1 and Q8_0 gave several callers most, "
        "ahead of IQ4_NL. Of these Q8_0 loses least"
    ),
    "avx_vnni": (
        "This processor has VNNI without AVX-512: Q4_1, Q8_0 and IQ4_NL have layouts there; which gives several "
        "callers most was not measured on one. Have two validated"
    ),
    "avx2": (
        "This processor has AVX2 without VNNI: Q4_1 and IQ4_NL have layouts there, Q8_0 has none; which gives "
        "several callers most was not measured on one. Have two validated"
    ),
}
_PLANNED: Final = (
    "On a processor with AMX (Xeons since Sapphire Rapids) or VNNI (Xeons since 2019, EPYCs since 2022) Q8_0 and Q4_1 "
    "gave several callers most, ahead of IQ4_NL; with AVX2 alone Q4_1 and IQ4_NL have layouts, Q8_0 has none. Have two "
    "validated"
)
_SLOW: Final = "This processor has no AVX2: no level has a layout there. Have two validated"
_OTHER: Final = (
    "Which level gives several callers most was measured on x86 alone; have two or three of Q8_0, Q4_0 and IQ4_NL "
    "validated on this processor"
)


def level(name: str) -> Level | None:
    """Return a level by its name, whatever its case; None for one that is not known."""
    upper = name.strip().upper()
    known = {each.upper(): each for each in (*_BY_NAME, *_SAME)}
    found = known.get(upper, "")
    return _BY_NAME.get(_SAME.get(found, found))


def on_processor(flags: frozenset[str] | None, *, is_x86: bool = True) -> str:
    """Say which levels give several callers most on a processor, and of what that was measured (ADR 67, 77).

    Args:
        flags: What it names in /proc/cpuinfo; None or none for one that is not here or does not tell.
        is_x86: Whether it is of that kind.
    """
    named = flags or frozenset()
    if not is_x86:
        said = _OTHER
    elif not named:
        said = _PLANNED
    else:
        said = next((text for flag, text in _BY_FLAG.items() if flag in named), _SLOW)
    return said + _COMPARED


def recommend(*, billions: float, memory_gib: float, use: str = "production") -> Level:
    """Return the level that a model of so many parameters takes on so much memory (I24).

    Args:
        billions: Parameters.
        memory_gib: Of the GPU, or what engines may take of the machine's.
        use: production or development.

    Raises:
        UsageError: A number is not positive, or there is no such use.
    """
    if billions <= 0 or memory_gib <= 0 or use not in USES:
        raise UsageError(
            what="no level can be recommended",
            why="parameters and memory are above zero; uses are production and development",
            fix="see `sealift models advise --help`",
        )
    share = memory_gib * 100 / (2 * billions)
    for least, production, development in _MATRIX:
        if share >= least:
            return _BY_NAME[production if use == "production" else development]
    return _BY_NAME[_ELSE]
