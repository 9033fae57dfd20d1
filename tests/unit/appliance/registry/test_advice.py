"""Advice for choosing models and levels follows the requirements' tables and trees."""

import re
from itertools import pairwise

import pytest

from appliance.actions.advise import advise
from appliance.actions.scales import Hardware
from appliance.registry import memory
from appliance.registry.known_models import known_models, recommend_model, tables
from appliance.registry.levels import LEVELS, level, recommend
from appliance.registry.memory import Room
from appliance.registry.variants import family
from bundler.quantlevels import LEVELS as BUNDLER_LEVELS
from media.errors import UsageError

GIB = 2**30


@pytest.mark.parametrize(
    ("memory", "production", "development"),
    [
        (168, "F16", "F16"),
        (126, "Q8_0", "Q8_0"),
        (84, "Q6_K", "Q6_K"),
        (70, "Q5_K_M", "Q5_K_S"),
        (56, "Q4_K_M", "Q4_K_S"),
        (42, "Q4_K_M", "Q4_K_M"),
        (41, "Q3_K_M", "Q3_K_M"),
    ],
)
def test_a_level_for_70b_by_the_share_of_its_16_bits(memory: int, production: str, development: str) -> None:
    assert recommend(billions=70, memory_gib=memory).name == production
    assert recommend(billions=70, memory_gib=memory, use="development").name == development


@pytest.mark.parametrize(
    ("asked", "tag"),
    [
        (("code", 320, "highest", 1000), "deepseek-coder-v2:236b"),
        (("code", 160, "highest", 1000), "deepseek-coder-v2:236b-awq"),
        (("code", 80, "highest", 1000), "qwen2.5-coder:32b"),
        (("code", 48, "high", 1000), "codellama:34b-instruct"),
        (("code", 24, "high", 1000), "deepseek-coder:33b-instruct-q4"),
        (("code", 12, "high", 1000), "codellama:13b-instruct"),
        (("code", 8, "high", 1000), "codellama:7b-instruct"),
        (("code", 8, "medium", 99), "codellama:7b-instruct"),
        (("code", 8, "medium", 100), "codellama:13b-instruct-q4"),
        (("code", 8, "low", 1000), "codellama:7b-instruct-q4"),
        (("chat", 160, "highest", 1000), "llama3.1:70b-instruct"),
        (("chat", 80, "high", 1000), "llama3.1:70b-instruct-awq"),
        (("chat", 24, "high", 1000), "llama3.1:8b-instruct"),
        (("chat", 8, "high", 1000), "llama3.1:8b-instruct-q4"),
        (("chat", 160, "low", 1000), "llama3.1:8b-instruct-q4"),
        (("embeddings", 1, "low", 1000), "nomic-embed-text:v1.5"),
        (("completion", 1, "high", 1000), "codellama:34b-instruct"),
        (("completion", 1, "low", 1000), "codellama:13b-instruct"),
        (("review", 1, "low", 1000), "deepseek-coder:33b-instruct"),
        (("documentation", 1, "low", 1000), "llama3.1:8b-instruct"),
    ],
)
def test_the_decision_trees(asked: tuple[str, int, str, int], tag: str) -> None:
    task, memory, quality, latency = asked

    assert recommend_model(task=task, memory_gib=memory, quality=quality, latency_ms=latency) == tag


def test_what_no_machine_holds_is_said_and_not_guessed() -> None:
    with pytest.raises(UsageError, match="nothing of that quality fits"):
        recommend_model(task="code", memory_gib=79, quality="highest")
    with pytest.raises(UsageError):
        recommend_model(task="poetry", memory_gib=79)
    with pytest.raises(UsageError):
        recommend(billions=7, memory_gib=0)


def test_every_row_of_the_requirements_is_in_a_table() -> None:
    found = {model.id for model in known_models()}
    found |= {row["id"] for name in ("speeds", "machines", "scales") for row in tables()[name]}

    wanted = [1, 2, 3, *range(5, 13), 14, *range(15, 20), 25, 27, 29, *range(36, 47), 51]
    assert found == {f"B{number}" for number in wanted}
    assert {gpu["name"]: gpu["watts"] for gpu in tables()["gpus"]}["H100"] == 700


def test_a_row_says_what_a_model_can_do_and_what_its_licence_asks_to_be_shown() -> None:
    known = {model.name: model for model in known_models()}

    assert (known["Llama 3.1 8B"].tools, known["Llama 3.1 8B"].context) == (True, 131072)
    assert known["Llama 3.1 8B"].to_json()["attribution"] == "Built with Llama"
    assert not known["Mistral 7B"].attribution
    can = {use: model.name for model in known_models() for use in model.uses}
    assert {"infilling", "fill in the middle", "several languages", "continuous integration"} <= set(can)
    assert {model.task for model in known_models()} == {"chat", "code"}


def test_what_the_documents_say_wrongly_is_not_copied() -> None:
    names = {model.name for model in known_models()}

    assert "Llama 2 30B" not in names  # there is none
    assert "Llama-3.2-11B-Instruct" not in names  # of that size there is one that sees pictures


def test_figures_of_one_level_stand_beside_each_other() -> None:
    awq = level("AWQ")

    assert awq is not None
    assert (awq.quality_percent, awq.perplexity_increase_millis, awq.size_percent) == (92, 80, 25)


def test_levels_are_those_that_the_bundler_makes() -> None:
    known = {each.name: each for each in LEVELS}

    for name, made in BUNDLER_LEVELS.items():
        assert known[name].saved_percent == made.saved, name


def test_savings_follow_from_the_sizes_that_were_measured() -> None:
    known = {each.name: each for each in LEVELS}
    sizes = {row["level"]: float(row["gb"]) for row in tables()["sizes"]}
    points = [(0.0, 0.0), *sorted((known[name].bits_per_weight, gb / sizes["F16"]) for name, gb in sizes.items())]

    for each in (known[name] for name in (*BUNDLER_LEVELS, "Q5_1", "Q4_1")):
        (low, low_share), (high, high_share) = next(
            pair for pair in pairwise(points) if each.bits_per_weight <= pair[1][0]
        )
        share = low_share + (high_share - low_share) * (each.bits_per_weight - low) / (high - low)
        assert each.saved_percent == round(100 - share * 100), each.name


def test_room_is_planned_by_less_than_what_is_saved() -> None:
    assert all(made.least_saved < made.saved or name == "F16" for name, made in BUNDLER_LEVELS.items())
    assert (BUNDLER_LEVELS["Q8_0"].saved, BUNDLER_LEVELS["Q4_0"].saved) == (45, 69)


def test_a_level_is_found_whatever_it_is_called() -> None:
    assert level("bf16") is level("F16")
    assert level("Q9_X") is None


def test_advice_names_only_what_fits_and_warns_of_a_processor() -> None:
    small = advise(room=Room(total=16 * GIB, available=16 * GIB))
    large = advise(room=Room(total=16 * GIB, available=16 * GIB), gpu_gib=160)

    assert max(one.model.billions for one in small.choices) < 70
    assert all(one.gib <= small.memory_gib for one in small.choices)
    assert any("B22" in warning for warning in small.warnings)
    assert any("IQ4_NL" in warning for warning in small.warnings)
    assert not any("IQ4_NL" in warning for warning in large.warnings)
    assert max(one.model.billions for one in large.choices) >= 70
    assert large.recommended == "llama3.1:70b-instruct"
    assert {one.model.name for one in small.misfits} >= {"Llama 3.3 70B"}
    assert all(one.gib > small.memory_gib and one.tried.saved_percent for one in small.misfits)
    assert small.scales == ()  # nobody asked for this machine


AVX2 = frozenset({"avx2", "fma"})


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (AVX2 | {"avx512_vnni", "amx_int8"}, "has AMX: on such a one Q4_0, Q4_1 and Q8_0 gave several callers most"),
        (AVX2 | {"avx512f", "avx512_vnni"}, "AVX-512 with VNNI and no AMX: on such a one Q4_1 and Q8_0 gave several"),
        (AVX2 | {"avx_vnni"}, "VNNI without AVX-512: Q4_1, Q8_0 and IQ4_NL have layouts there; which .* was not meas"),
        (AVX2 | {"avx512f"}, "AVX2 without VNNI: Q4_1 and IQ4_NL have layouts there, Q8_0 has none; which .* was not"),
        (frozenset({"sse4_2"}), "no AVX2: no level has a layout"),
        (frozenset[str](), "with AVX2 alone Q4_1 and IQ4_NL have layouts, Q8_0 has none"),
    ],
)
def test_levels_for_a_processor_go_by_what_it_can_do(flags: frozenset[str], says: str) -> None:
    (advised,) = _on_processor(flags, "linux_x86_64")

    assert re.search(says, advised)
    assert "models variants" in advised


def test_levels_for_a_processor_that_nobody_measured_are_not_said_to_be_quick() -> None:
    (advised,) = _on_processor(frozenset({"asimddp", "i8mm"}), "linux_aarch64")

    assert "measured on x86 alone" in advised
    assert "most, " not in advised


def test_a_layout_that_advice_speaks_of_is_counted_in_memory() -> None:
    """What is said and what MEM-7 counts come from one decision (ADR 77)."""
    assert {"Q4_1", "IQ4_NL"} <= memory._LAID_OUT["avx2"]
    assert "Q8_0" not in memory._LAID_OUT["avx2"]
    assert "Q8_0" in memory._LAID_OUT["avx512_vnni"] & memory._LAID_OUT["avx_vnni"]


def _on_processor(flags: frozenset[str], platform: str) -> list[str]:
    hardware = Hardware(
        cores=4, memory_bytes=16 * GIB, disk_bytes=GIB, network_mbit=0, platform=platform, cpu_flags=flags
    )
    advice = advise(room=Room(total=16 * GIB, available=16 * GIB), hardware=hardware)
    return [one for one in advice.warnings if "models variants" in one]


@pytest.mark.parametrize(
    ("name", "quantization", "model"),
    [
        ("smollm2-135m-q4_1", "Q4_1", "smollm2-135m"),
        ("smollm2-135m", "Q4_1", "smollm2-135m"),
        ("Llama.Q4_K_M", "Q8_0", "Llama"),
        ("q4_1", "Q4_1", "q4_1"),
    ],
)
def test_variants_belong_to_one_model(name: str, quantization: str, model: str) -> None:
    assert family(name, quantization) == model
