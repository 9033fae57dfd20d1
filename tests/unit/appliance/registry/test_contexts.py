"""What one context takes of a model of safetensors at least: by known forms of `config.json`, and nothing by others."""

import json
from typing import Any

import pytest
from hypothesis import given

from appliance.registry.contexts import Kept
from tests.support.mutation import json_values

LLAMA: dict[str, Any] = {
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
}  # fmt: skip
TOKEN = 32 * 8 * 2 * 128 * 2
"""Bytes that a token of it leaves: layers, heads, key and value, width of a head, two bytes each."""


def one(n_ctx: int, *, spread: int = 1, groups: int = 1, **more: Any) -> int | None:
    kept = Kept.of_config(json.dumps({**LLAMA, **more}))
    return None if kept is None else kept.of_one(n_ctx, spread=spread, groups=groups)


def test_a_context_takes_keys_and_values_of_every_layer_and_token() -> None:
    assert one(8192) == 8192 * TOKEN == 2**30
    assert one(8192, head_dim=64) == 2**29
    assert one(8192, use_sliding_window=False, sliding_window=4096) == 2**30


def test_heads_are_spread_whole_and_layers_by_groups() -> None:
    assert one(8192, spread=4) == 2**28
    assert one(8192, spread=8, groups=2) == 2**26
    assert one(8192, spread=8, num_key_value_heads=2) == 2**27  # one head is on every card


def test_layers_that_look_at_the_last_tokens_keep_those() -> None:
    kinds = ["sliding_attention"] * 24 + ["full_attention"] * 8

    assert one(8192, sliding_window=1024) == 2**27
    assert one(512, sliding_window=1024) == 512 * TOKEN
    assert one(8192, sliding_window=1024, layer_types=kinds) == (24 * 1024 + 8 * 8192) * TOKEN // 32


def test_a_cache_that_the_weights_keep_in_a_byte_takes_half() -> None:
    assert one(8192, quantization_config={"kv_cache_scheme": {"num_bits": 8}}) == 2**29
    assert one(8192, quantization_config={"quant_method": "awq"}) == 2**30


@pytest.mark.parametrize(
    "other",
    [
        {"kv_lora_rank": 512},
        {"layer_types": ["linear_attention"] * 32},
        {"layer_types": ["full_attention"]},
        {"attn_layer_period": 8},
        {"multi_query": True},
        {"num_key_value_heads": [8] * 32},
        {"num_hidden_layers": None},
        {"text_config": LLAMA},
    ],
    ids=str,
)
def test_what_is_built_in_another_form_counts_nothing(other: dict[str, Any]) -> None:
    assert one(8192, **other) is None


@given(value=json_values)
def test_any_configuration_is_read_or_counts_nothing(value: object) -> None:
    kept = Kept.of_config(json.dumps(value))
    assert kept is None or kept.of_one(8192) > 0


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_what_is_no_configuration_counts_nothing(text: str) -> None:
    assert Kept.of_config(text) is None
